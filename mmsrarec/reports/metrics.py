"""The latest run of every stage as a file in Prometheus text format, for a node exporter's textfile collector.

All of it comes from the ledger, so whoever writes the file writes the same. It is replaced in one rename.
"""

from logging import WARNING

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import StoreError
from mmsrarec.storage import files, runs

STATUSES = ("running", "completed", "failed", "interrupted", runs.LOST)


def write(config: Config) -> None:
    """Replace the file `run.metrics`, which may be s3://, too."""
    place = config.run.metrics or config.table("metrics.prom")
    try:
        files.write(place, generate_latest(registry(runs.ledger(config))))
    except (OSError, StoreError) as error:  # the work counts, whoever watches it
        log.say(f"{place}: no metrics written: {error}", "metrics_not_written", WARNING)


def registry(ledger: list[dict]) -> CollectorRegistry:
    """Gauges of the latest row of every stage."""
    found = CollectorRegistry()

    def gauge(name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"mmsrarec_{name}", meaning, ("stage", *labels), registry=found)

    rows = gauge("stage_rows", "Rows of the stage's latest run.", "direction")
    rejects = gauge("stage_rejected_rows", "Rows rejected by the stage's latest run, by reason.", "reason")
    tokens = gauge("stage_tokens", "Tokens that the engine read, wrote, or had in its prefix cache.", "kind")
    seconds = gauge("stage_seconds", "Duration of the stage's latest finished run.")
    finished = gauge("stage_finished_timestamp_seconds", "When the stage's latest finished run ended.")
    status = gauge("stage_status", "1 for the status of the stage's latest run.", "status")
    info = gauge("stage_run_info", "1; the run that the other figures are of.", "run_id")
    for row in {row["stage"]: row for row in ledger}.values():
        stage, notes = row["stage"], row["notes"]
        info.labels(stage, row["run_id"]).set(1)
        for known in STATUSES:
            status.labels(stage, known).set(row["status"] == known)
        for direction in ("in", "out", "rejected"):
            rows.labels(stage, direction).set(row[f"rows_{direction}"])
        for reason, count in notes.get("rejected", {}).items():
            rejects.labels(stage, reason).set(count)
        kinds = {
            "prompt": row["prompt_tokens"],
            "output": row["output_tokens"],
            "cached": notes.get("cached_tokens", 0),
        }
        for kind, count in kinds.items():
            tokens.labels(stage, kind).set(count)
        if row["finished_at"]:
            seconds.labels(stage).set(runs.seconds(row))
            finished.labels(stage).set(row["finished_at"].timestamp())
    return found
