"""The commands: they parse, call, and know nothing of the stages' work."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mmsrarec import noise
from mmsrarec.cli import endings
from mmsrarec.cli.options import Addresses, Commands, ConfigPath, Settings
from mmsrarec.config import at, load
from mmsrarec.pipeline import STAGES
from mmsrarec.reports import ledger
from mmsrarec.storage.runs import new_run_id

app = Commands(
    help="Nightly multimodal recommendation for a whole catalog.\n\n"
    "Start with `mmsrarec run conf/local.yaml`; then point it at your own data:\n\n"
    "    mmsrarec init --items items.csv --interactions events.parquet --images pictures --out shop.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _stages_from(first: str) -> list[str]:
    names = list(STAGES)
    if first not in names:
        raise typer.BadParameter(f"no stage {first}; the stages are {', '.join(names)}")
    return names[names.index(first) :]


@app.command()
def run(
    config: ConfigPath,
    settings: Settings = None,
    first: Annotated[str, typer.Option("--from", metavar="STAGE", help="Start with this stage.")] = "build_cf",
    address: Addresses = None,
) -> None:
    """Every stage in order: from items and interactions to lists with reasons, and their evaluation."""
    sys.exit(endings.run(lambda: load(config, [*(settings or []), *at(address)]), _stages_from(first)))


@app.command()
def explain(
    config: ConfigPath,
    user: Annotated[str | None, typer.Option("--user", help="Tell of this user_id.", show_default=False)] = None,
    item: Annotated[str | None, typer.Option("--item", help="Tell of this item_id.", show_default=False)] = None,
    why_not: Annotated[
        str | None,
        typer.Option("--why-not", metavar="ITEM", help="With --user: where it dropped out.", show_default=False),
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", help="A night, YYYY-MM-DD; default the latest.", show_default=False)
    ] = None,
    settings: Settings = None,
) -> None:
    """The story of a user or of an item, or why an item is not on a user's list; reads tables only."""
    from mmsrarec.reports.explain import explain as tell

    sys.exit(endings.guarded(lambda: tell(load(config, settings or []), user, item, why_not, date)))


@app.command()
def runs(
    config: ConfigPath,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN_ID", help="Only this run, in full.", show_default=False)
    ] = None,
    settings: Settings = None,
) -> None:
    """The ledger: what every run and stage did, what it cost and with which versions; and who holds the lake."""
    sys.exit(endings.guarded(lambda: ledger.show(load(config, settings or []), run_id)))


@app.command()
def plan(
    config: ConfigPath,
    settings: Settings = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Read the inputs anew, not the lake's catalog.")] = False,
    pilot: Annotated[
        bool, typer.Option("--pilot", help="Ask the engine about plan.sample items first: how long are its answers?")
    ] = False,
    address: Addresses = None,
) -> None:
    """What a run would ask its engines: items, pairs, tokens, hours, money per stage; starts none without --pilot."""

    def work() -> None:
        from mmsrarec.planning.report import show

        loaded = load(config, [*(settings or []), *at(address)])
        with noise.diverted(None):
            show(loaded, fresh, pilot)

    sys.exit(endings.guarded(work))


@app.command()
def rollback(
    config: ConfigPath,
    to: Annotated[str, typer.Option("--to", metavar="DATE", help="The published night to go back to, YYYY-MM-DD.")],
    settings: Settings = None,
) -> None:
    """Make an earlier night the current one again; later ones stay staged, from where `publish` brings them back."""
    from mmsrarec.publishing.publish import rollback as roll_back

    sys.exit(endings.guarded(lambda: roll_back(load(config, settings or []), new_run_id(), to)))


@app.command()
def forget(
    config: ConfigPath,
    user: Annotated[list[str] | None, typer.Option("--user", help="A user_id; may be given many times.")] = None,
    users_file: Annotated[
        str | None, typer.Option("--users-file", help="A Delta table, Parquet or CSV file with a column user_id.")
    ] = None,
    retention_hours: Annotated[
        int, typer.Option("--retention-hours", min=0, help="Keep old table versions, which hold the users, this long.")
    ] = 0,
    settings: Settings = None,
) -> None:
    """Remove users from every table and the index, old versions included, and leave them out of later nights."""
    from mmsrarec.publishing.forget import forget as forget_users
    from mmsrarec.publishing.forget import named

    def work() -> None:
        loaded = load(config, settings or [])
        with noise.diverted(None):
            forget_users(loaded, new_run_id(), named(loaded, user or [], users_file), retention_hours)

    sys.exit(endings.guarded(work))


@app.command()
def report(
    config: ConfigPath,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN_ID", help="The run to report; default the latest.")
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option("--user", help="Show these users, not drawn ones; may be given many times.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="The page's file; default report.out.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Write the page about a night: one HTML file that needs no network; reads tables only."""

    def work() -> None:
        from mmsrarec.reports.page.stage import write

        write(load(config, settings or []), run_id, user or [], out)

    sys.exit(endings.guarded(work))


@app.command()
def init(
    items: Annotated[str, typer.Option("--items", metavar="FILE", help="Items: Delta, Parquet or CSV, or s3://.")],
    interactions: Annotated[str, typer.Option("--interactions", metavar="FILE", help="Interactions: the same.")],
    images: Annotated[
        str | None, typer.Option("--images", help="Folder, s3:// or https:// too, or .zip archive of their pictures.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The configuration to write.")] = Path("shop.yaml"),
    column: Annotated[
        list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="Say which column is ours.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Folder or hub name of a multimodal model.")] = "bundled",
    force: Annotated[bool, typer.Option("--force", help="Replace the configuration if it is there.")] = False,
) -> None:
    """Look at your files and write a configuration that runs; asks for the columns that it cannot guess."""

    def work() -> None:
        from mmsrarec.intake import dialogue
        from mmsrarec.intake.init import Places

        dialogue.init(Places(items, interactions, images, model, out), column or [], force)

    sys.exit(endings.guarded(work))


@app.command()
def ablate(
    config: ConfigPath,
    row: Annotated[list[str] | None, typer.Option("--row", help="Only this row; may be given many times.")] = None,
    settings: Settings = None,
    address: Addresses = None,
) -> None:
    """What each part of the method brings: the paper's table, with intervals, tokens and seconds per row."""

    def work() -> None:
        from mmsrarec.ablation import ablate as run_rows

        loaded = load(config, [*(settings or []), *at(address)])
        with noise.diverted(noise.log_file(loaded, "ablate")):
            run_rows(loaded, row or [])

    sys.exit(endings.guarded(work))


@app.command()
def check(
    config: ConfigPath,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON.")] = False,
    address: Addresses = None,
) -> None:
    """What is wrong with the data, the model and this machine, worst first, each with its remedy; starts no engine."""

    def work() -> int:
        from mmsrarec.intake.check import check as report

        return report(load(config, [*(settings or []), *at(address)]), as_json)

    sys.exit(endings.guarded(work))


@app.command()
def night(
    job: Annotated[str, typer.Option(envvar="JOB_NAME", help="The Job that this is a pod of.")],
    namespace: Annotated[str, typer.Option(envvar="NAMESPACE", help="Where the Job and the night are.")],
    template: Annotated[str, typer.Option(help="Name of the suspended SparkApplication and RayJob.")] = "mmsrarec",
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="For both objects; repeatable.")] = None,
) -> None:
    """On Kubernetes: build_cf by the Spark operator, then the other stages by KubeRay; waits for both."""

    from mmsrarec.cluster.night import launch

    labels = {key: value for key, _, value in (part.partition("=") for part in label or [])}
    sys.exit(endings.guarded(lambda: launch(job, namespace, template, labels)))


def _add_stage(name: str) -> None:
    def command(config: ConfigPath, settings: Settings = None, address: Addresses = None) -> None:
        sys.exit(endings.run(lambda: load(config, [*(settings or []), *at(address)]), [name]))

    app.command(name, help=f"{STAGES[name].summary} (One stage of `run`.)")(command)


for _name in STAGES:
    if _name != "report":  # its command can do more
        _add_stage(_name)
