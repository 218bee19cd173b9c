"""The course of a training, for the table `training_curves`: what each figure was after each step.

A curve is a list of points, which a bookmark keeps with the rest of a training, so one that goes on has all of it.
"""

from mmsrarec.config import Config
from mmsrarec.storage import tables

Point = tuple[int, str, float]  # step, name of the figure, value


def points(step: int, **figures: float) -> list[Point]:
    return [(step, name, float(value)) for name, value in figures.items()]


def write(config: Config, run_id: str, stage: str, curve: list[Point]) -> None:
    """Put the curve in the place of what this stage of this run has written before."""
    rows = [
        {"run_id": run_id, "stage": stage, "step": step, "name": name, "value": value} for step, name, value in curve
    ]
    mine = f"run_id = '{run_id}' AND stage = '{stage}'"
    tables.replace(config.lake.root, "training_curves", tables.from_rows("training_curves", rows), mine)
