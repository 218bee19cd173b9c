"""Stage report: the page about the night that has just ended; and `mmsrarec report`, which makes one of any run."""

from pathlib import Path

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.storage import files, runs


def report(config: Config, run_id: str) -> None:
    """Write the page to report.out."""
    with runs.stage(config, "report", run_id) as stage:
        stage.rows_out = 1
        stage.notes["bytes"] = make(config, config.page)
        stage.notes["page"] = config.page


def write(
    config: Config, run_id: str | None = None, user_ids: list[str] | None = None, out: str | Path | None = None
) -> None:
    """Make the page of a run, by default of the latest one, and say where it is; `user_ids` are shown instead of drawn
    ones. Reads tables only, so it may be done while a run is under way."""
    make(config, str(out or config.page), run_id, user_ids or [])


def make(config: Config, place: str, run_id: str | None = None, user_ids: list[str] | None = None) -> int:
    """The page at `place`; its size in bytes."""
    from mmsrarec.reports.page import figures, looks, page, plots
    from mmsrarec.reports.page.tonight import tonight

    measured = figures.measure(config, tonight(config, run_id))
    html = page.render(config, measured, plots.draw(measured), looks.look(config, measured, user_ids or []))
    page.write(html, place)
    size = len(html.encode())
    shown = Path(place).resolve().as_uri() if files.is_local(place) else place
    log.say(f"report: {shown} ({size / 1e6:.1f} MB)", "report_written", page=place, bytes=size)
    return size
