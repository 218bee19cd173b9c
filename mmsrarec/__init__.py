"""mmsrarec: nightly multimodal recommendation for a whole catalog (the method of arXiv 2512.20916).

From Python, in a notebook or in a task of a scheduler:

    from mmsrarec import UserError, load_config, read_recommendations, run

    config = load_config("conf/local.yaml", {"lake.root": "build/lake"})
    run(config)                                # or some stages: run(config, "retrieve", "recommend")
    read_recommendations(config).to_pandas()

load_config, run, plan, read_recommendations and read_table, with the types Config and UserError, are all of the public
surface; library.py documents them. They are imported when first used, so `import mmsrarec` costs nothing.

Rooms, in the order of the data: storage, engines -> preparation, collaborative, keywords, recommendation -> evaluation
-> training -> pipeline -> cli, library, jobs. Imports point to the left only; stage rooms meet through Delta tables.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsrarec.config import Config
    from mmsrarec.errors import UserError
    from mmsrarec.library import load_config, plan, read_recommendations, read_table, run

__version__ = "0.1.0"
__all__ = ["Config", "UserError", "load_config", "plan", "read_recommendations", "read_table", "run"]

_HOMES = {"Config": "mmsrarec.config", "UserError": "mmsrarec.errors"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "mmsrarec.library")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
