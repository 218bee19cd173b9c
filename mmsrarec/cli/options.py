"""What commands share: --log-format, CONFIG, --set, --address."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from mmsrarec import log

LOG_FORMAT = typer.Option("--log-format", help="Lines for people, or JSON lines for machines, on standard error.")


class Commands(typer.Typer):
    """Gives every command the option --log-format."""

    def command(self, *arguments: Any, **options: Any) -> Callable:
        register = super().command(*arguments, **options)

        def add(function: Callable) -> Callable:
            @wraps(function)
            def logged(*values: object, log_format: log.Format = "people", **named: object) -> None:
                log.use(log_format)
                function(*values, **named)

            signature = inspect.signature(function)
            form = Annotated[log.Format, LOG_FORMAT]
            option = inspect.Parameter("log_format", inspect.Parameter.KEYWORD_ONLY, default="people", annotation=form)
            shown: Any = logged
            shown.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])
            shown.__annotations__ = {**function.__annotations__, "log_format": form}
            register(shown)
            return function

        return add


ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; conf/local.yaml is one to start from.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override a setting; may be given many times.", show_default=False),
]
ADDRESS = (
    "Work on a cluster: Ray's as HOST:PORT or auto, Spark's as spark://HOST:PORT, yarn, k8s://…; twice for both. "
    "Default: RAY_ADDRESS and SPARK_MASTER (or MASTER) in the environment, else this machine."
)
Addresses = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="ADDRESS", help=ADDRESS, show_default=False),
]
