"""What each part of the method brings: the paper's table, one row per part that is left out or done otherwise.

A row is the given configuration with some settings changed (ROWS). All rows share the lakes of the evaluation: what is
the same (histories, networks, answers) is made once. Each row's figures are rows of `evaluation` under a run of its
own, and of the table `ablation` with its tokens and seconds.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from mmsrarec import log
from mmsrarec.collaborative import ease
from mmsrarec.config import Config
from mmsrarec.errors import ConfigError
from mmsrarec.evaluation import lakes, protocol, report
from mmsrarec.pipeline import make_lakes, timed
from mmsrarec.progress import aside
from mmsrarec.storage import lock, runs, tables

WHOLE = "whole"
# The method as published, and as we run it: with evidence about the candidate and the pre-ranker's opinion.
BASES: dict[str, dict[str, Any]] = {
    "ours": {
        "summarize_items.summarizer": "grpo",
        "recommend.training": "multi_task",
        "recommend.blend": True,
        "retrieve.fusion.enabled": True,
        "retrieve.fusion.words": True,
    },
    "paper": {
        "summarize_items.summarizer": "grpo",
        "tune_summarizer.scaling": "group",  # equations 1 to 3 as they are
        "recommend.training": "multi_task",
        "recommend.evidence": False,
        "recommend.history": 5,
        "retrieve.similar_users": 3,
    },
}
PARTS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "without_stage_1": {"summarize_items.summarizer": "none"},
    "stage_1_without_grpo": {"summarize_items.summarizer": "untuned"},
    "without_stage_2": {"retrieve.similar_by": "none"},
    "stage_2_by_gru4rec": {"retrieve.similar_by": "gru4rec"},
    "stage_3_without_multi_task": {"recommend.training": "pointwise"},
    "stage_3_without_training": {"recommend.training": "untrained"},
}
OURS_ALONE: dict[str, dict[str, Any]] = {
    "without_evidence": {"recommend.evidence": False},
    "by_description": {"recommend.prompt": "description"},
    "by_short_lines": {"recommend.prompt": "compressed"},
    "by_choice": {"recommend.scoring": "choice"},
    "without_blend": {"recommend.blend": False},
}
ROWS: dict[str, dict[str, Any]] = {
    f"{table}_{name}": base | changed
    for table, base in BASES.items()
    for name, changed in (PARTS | (OURS_ALONE if table == "ours" else {})).items()
}
SHOWN = (("full", "hr", 10), ("full", "ndcg", 10), ("full", "ratio_ndcg", 10), ("full", "ratio_ndcg_fusion", 10),
         ("sampled", "hr", 5), ("sampled", "ndcg", 5), ("sampled", "auc", 0))  # fmt: skip
ONCE = ("build_cf",)  # stages that no row changes
KEPT = ("metric", "k", "value", "low", "high", "users")  # of a row of `evaluation`


def row(config: Config, name: str) -> Config:
    """The configuration of a row; the whole method stands beside all baselines, the others beside those that matter."""
    values = _changed(config.model_dump(mode="json", exclude_unset=True), name)  # what is not said is not made a wish
    methods = list(config.evaluation.methods) if name.endswith(WHOLE) else [config.evaluation.baseline, "fusion"]
    of_row = list(dict.fromkeys(method for method in methods if method != "mmsrarec"))
    values.setdefault("evaluation", {})["methods"] = [*of_row, "mmsrarec"]
    return Config.model_validate(values)


def frozen(config_file: Path, name: str) -> str:
    """A row as the text of a configuration of its own."""
    values = _changed(yaml.safe_load(config_file.read_text(encoding="utf-8")), name)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _changed(values: dict, name: str) -> dict:
    """The settings with what the row says in their place."""
    for key, value in ROWS[name].items():
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return values


def ablate(config: Config, names: Iterable[str] = ()) -> list[dict]:
    """Run the rows (default: those of ours), and return and print those of the table `ablation`; a row that is there
    already, of the same settings and protocol, is not run again.

    Raises ConfigError for an unknown row.
    """
    wanted = list(names) or [name for name in ROWS if name.startswith("ours")]
    for name in wanted:
        if name not in ROWS:
            raise ConfigError(f"no row {name}; the rows are {', '.join(ROWS)}")
    found: list[dict] = []
    with lock.held(config, runs.new_run_id()), ease.kept():
        for number, name in enumerate(wanted, 1):
            asked = row(config, name)
            known = _known(asked, name)
            log.say(f"ablate: {number}/{len(wanted)} {name}{', as before' if known else ''}", "ablation_row", row=name)
            found += known or _run(asked, name)
            show(found)
    return found


def _known(config: Config, name: str) -> list[dict]:
    same = [("row", "=", name), ("configuration", "=", config.hash), ("protocol", "=", protocol.cut_name(config))]
    return tables.read(config.lake.root, "ablation", filters=same).to_pylist()


def _run(config: Config, name: str) -> list[dict]:
    run_id = f"{runs.new_run_id()}-{name}"
    make_lakes(config, run_id, ONCE)
    timed("evaluate", config, run_id)
    rows = _rows(config, name, run_id)
    tables.append(config.lake.root, "ablation", tables.from_rows("ablation", rows))
    return rows


def _rows(config: Config, name: str, run_id: str) -> list[dict]:
    """The model's figures of a run, with what the run cost in all its lakes."""
    ledger = [row for lake in _roots(config) for row in runs.ledger(lake) if row["run_id"].startswith(run_id)]
    told: dict[str, Any] = {
        "run_id": run_id,
        "dataset": config.dataset,
        "protocol": protocol.cut_name(config),
        "row": name,
    }
    told |= {"configuration": config.hash, "tokens": sum(row["prompt_tokens"] + row["output_tokens"] for row in ledger)}
    told["seconds"] = sum(runs.seconds(row) for row in ledger)
    own = [("run_id", "=", run_id), ("method", "=", "mmsrarec")]
    figures = tables.read(config.lake.root, "evaluation", filters=own).to_pylist()
    return [
        told | {"among": row["protocol"].split("/")[1].partition("-")[0]} | {k: row[k] for k in KEPT}
        for row in figures
        if row["protocol"].count("/") == 1
    ]


def _roots(config: Config) -> list[Config]:
    places = [config, lakes.place(config, "fit"), lakes.place(config, "test")]
    return list({each.lake.root: each for each in places}.values())


def show(rows: list[dict]) -> None:
    """Print the table: a line per row, value over its interval."""
    table = Table(title="Ablation", title_justify="left", show_lines=True)
    table.add_column("row")
    for among, metric, k in SHOWN:
        table.add_column(
            f"{among} {metric.replace('ratio_ndcg', 'x').replace('_', ' ')}{f'@{k}' if k else ''}", justify="right"
        )
    table.add_column("tokens", justify="right")
    table.add_column("seconds", justify="right")
    for name in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == name]
        cells = {(row["among"], row["metric"], row["k"]): row for row in own}
        shown = [report.cell(cells.get(column)) for column in SHOWN]
        table.add_row(name, *shown, f"{own[0]['tokens']:,}", f"{own[0]['seconds']:,.0f}")
    with aside():
        log.console(180).print(table)


def main() -> None:
    """python -m mmsrarec.ablation CONFIG FOLDER: every row as a configuration of its own."""
    config_file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for name in ROWS:
        head = (
            f"# Row {name} of the ablation: {config_file.name} with this row's settings, made by mmsrarec.ablation.\n"
        )
        (folder / f"{name}.yaml").write_text(head + frozen(config_file, name), encoding="utf-8")


if __name__ == "__main__":
    main()
