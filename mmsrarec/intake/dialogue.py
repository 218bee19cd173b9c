"""What `mmsrarec init` says and asks."""

import shlex
import sys

from rich.console import Console
from rich.prompt import Prompt

from mmsrarec.errors import ConfigError
from mmsrarec.intake.guess import Question
from mmsrarec.intake.init import Places
from mmsrarec.intake.init import init as write


def init(places: Places, column: list[str], force: bool) -> None:
    """Write the configuration, asking where a person is there, and name the next commands."""
    given = dict(_pair(text) for text in column)
    text = write(places, given, force, _ask if sys.stdin.isatty() and sys.stdout.isatty() else None)
    console = Console(soft_wrap=True)
    console.print(text, markup=False, highlight=False)
    console.print(f"Written to {places.out}. Next:", markup=False, highlight=False)
    whys = {"check": "what is wrong, in seconds", "plan": "what a run would cost", "run": "every stage"}
    for command, why in whys.items():
        console.print(f"  mmsrarec {command} {shlex.quote(str(places.out))}   # {why}", markup=False, highlight=False)


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not equals or not ours.strip():
        raise ConfigError(f"--column {text}: expected OURS=THEIRS, for example --column user_id=customer")
    return ours.strip(), theirs


def _ask(question: Question, shown: str) -> str:
    where = "of the items" if question.table == "items" else "of the interactions"
    none = "" if question.required else " (nothing: none of them)"
    console = Console()
    console.print(f"{question.why}: {shown}", markup=False, highlight=False)
    names = [*question.candidates, *([] if question.required else [""])]
    asked = f"Which column {where} is {question.ours}{none}?"
    prompt = Prompt(asked, console=console, choices=names)
    return prompt() if question.required else prompt(default="")
