"""The README and docs/ say nothing that is not so: generated parts are current, commands run, settings and links
exist."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
from itertools import dropwhile
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import typer.main
from conftest import ROOT, Shop, command
from deltalake import DeltaTable

from mmsrarec import documentation
from mmsrarec.cli import app
from mmsrarec.config import load
from mmsrarec.config.settings import Config
from mmsrarec.pipeline import STAGES
from mmsrarec.schemas import CONTRACT
from mmsrarec.storage import tables

PAGES = {page: page.read_text() for page in documentation.pages(ROOT)}
TEXTS = "".join(PAGES.values())
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXTS, re.DOTALL | re.MULTILINE)
PROSES = {page: re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE) for page, text in PAGES.items()}
PROSE = "".join(PROSES.values())
WRITTEN = documentation.PART.sub("", PROSE)  # by hand
FIRST_WORDS = ("mmsrarec", ".venv/bin/mmsrarec", "make", "python", "spark-submit", ".tools/bin/uv")


def code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text.replace("\n", " "))


def commands(text: str) -> list[str]:
    """Those of the blocks, and those in a text."""
    blocks = "\n".join(block.replace("\\\n", " ") for kind, block in BLOCKS if kind == "sh")
    fenced = [shlex.join(shlex.split(line, comments=True)) for line in blocks.splitlines()]
    inline = [line for line in code(text) if line.split()[0] in FIRST_WORDS and len(line.split()) > 1]
    return [line for line in dict.fromkeys(fenced + inline) if line]


COMMANDS = commands(PROSE)
PROGRAM = typer.main.get_group(app)
OPEN = {  # what a person puts in; DATE is the night of the shop that the tests share
    "CONFIG": "conf/local.yaml",
    "DATE": "2026-03-01",
    "ITEM": "item-0001",
    "RUN_ID": "20260301T010000-abcdef",
    "USER": "user-0007",
}


def test_the_generated_parts_are_current() -> None:
    assert {page: documentation.current(text) for page, text in PAGES.items()} == PAGES, "run `make docs`"
    assert sorted(name for text in PAGES.values() for name, _ in documentation.PART.findall(text)) == sorted(
        documentation.PARTS
    )


def test_every_table_column_and_setting_has_a_meaning() -> None:
    for name, table in CONTRACT.items():
        assert table.meaning.endswith("."), name
        assert all(meaning for _, meaning in table.columns.values()), name
        assert set(table.key) <= set(table.columns) and set(table.partitions) <= set(table.columns), name
    assert not [name for name, field in documentation.every_setting(Config) if not field.description]


def test_every_setting_it_mentions_exists() -> None:
    known = {name for name, _ in documentation.every_setting(Config)}
    heads = tuple({f"{name.split('.')[0]}." for name in known if "." in name})
    given = re.findall(r"--set ([\w.]+)=", TEXTS)
    shown = [match[0] for line in code(PROSE) if (match := re.match(r"[a-z_]+(\.[a-z_]+)+…?", line))]
    mentioned = {name for name in given + shown if name.startswith(heads)}
    files = {name for name in mentioned if name.endswith((".json", ".prom", ".md", ".yaml", ".py", ".html"))}
    assert len(mentioned) > 20
    for name in mentioned - files:
        start = name.removesuffix("…") if name.endswith("…") else f"{name}."
        assert any(f"{one}.".startswith(start) or start.startswith(f"{one}.") for one in known), name


def test_every_link_leads_somewhere() -> None:
    titles = {page: re.findall(r"^#+ (.+)$", text, re.M) for page, text in PROSES.items()}
    anchors = {
        page: {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles[page]} for page in PAGES
    }
    links = [(page, link) for page, text in PROSES.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    own = [(page, link) for page, link in links if "://" not in link]
    assert own
    for page, link in own:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists() and (not anchor or anchor in anchors[target]), (page, link)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str) -> None:
    program, *arguments = words(line)
    check = {"mmsrarec": parse, "make": dry_run, "python": look, "spark-submit": look, "uv": extras}
    check.get(program, exist)(arguments)


def parse(arguments: list[str]) -> dict:
    """What the program itself makes of the command line, which it does not execute."""
    name, *rest = filled(arguments, "1")
    command = PROGRAM.commands[name]
    return command.make_context(name, rest).params if rest else {}  # else only its name is mentioned


def words(line: str) -> list[str]:
    """The name of the program and its arguments, all optional ones among them, without the environment before."""
    program, *arguments = dropwhile(lambda word: re.match(r"[A-Z_]+=", word), shlex.split(line))
    is_usage = any(word.startswith("[-") for word in arguments)
    return [Path(program).name, *(word.strip("[]") if is_usage else word for word in arguments)]


def filled(arguments: list[str], unknown: str | None = None, **values: str) -> list[str]:
    """With values in the places of what the README leaves open; KeyError for what is open and unknown."""
    values = OPEN | values
    values["ID"] = values["ITEM"] if "--item" in arguments else values["USER"]
    arguments = [
        values["CONFIG"] if word == "shop.yaml" else word for word in arguments
    ]  # that init would have written
    return [
        re.sub(r"(?<![^=])[A-Z][A-Z_]*$", lambda match: values.get(match[0], unknown) or values[match[0]], word)
        for word in arguments
    ]


def dry_run(arguments: list[str]) -> None:
    subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True)


def look(arguments: list[str]) -> None:
    """A file or module of the project, all of whose options are there."""
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1])
        return
    file = ROOT / arguments[0]
    source = ast.parse((ROOT / "mmsrarec" / "cli" / "__init__.py" if file.parent.name == "jobs" else file).read_text())
    known = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
    assert file.exists() and {word for word in arguments if word.startswith("--")} <= known


def exist(arguments: list[str]) -> None:
    """The project's own files and folders that another program is given."""
    own = [word for word in arguments if word.startswith(("k8s/", "conf/", "jobs/"))]
    assert all((ROOT / word).exists() for word in own), own


def extras(arguments: list[str]) -> None:
    (extra,) = re.findall(r"\[(\w+)\]", " ".join(arguments))
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def night(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop with a copy of its lake, where commands may change what they like."""
    assert shop.first.returncode == 0, shop.first.stderr[-3000:]
    folder = tmp_path_factory.mktemp("documented")
    shutil.copytree(shop.folder / "lake", folder / "lake")
    return Shop(folder, [*shop.settings, f"lake.root={folder / 'lake'}"], shop.first)


@pytest.mark.slow
def test_the_commands_around_a_run_do_what_they_say(night: Shop) -> None:
    """`run`, and the stages, test_end_to_end.py runs; `init` and `night`, tests of their own."""
    elsewhere = {"run", "init", "night", *STAGES} - {"publish", "report"}
    lake, given = str(night.folder / "lake"), [word for setting in night.settings for word in ("--set", setting)]
    values = {"RUN_ID": tables.read(lake, "runs")["run_id"][0].as_py(), "FILE": str(night.folder / "page.html")}
    ran = set()
    for line in commands(WRITTEN):
        program, *arguments = words(line)
        if program == "mmsrarec" and arguments[0] not in elsewhere and len(arguments) > 1:
            done = command(*filled(arguments, **values), *given)
            assert done.returncode == 0, (line, done.stderr)
            ran.add(arguments[0])
    assert ran >= set(PROGRAM.commands) - elsewhere


def test_readers_read_as_shown(shop: Shop, spark) -> None:
    lake = str(shop.folder / "lake")
    wanted = tables.count(lake, "recommendations")
    (of_spark, of_duckdb), (python,) = ([block for kind, block in BLOCKS if kind == "sql"],
                                        [block for kind, block in BLOCKS if "to_pyarrow_table" in block])  # fmt: skip
    assert spark.sql(of_spark.replace("lake/", f"{lake}/")).count() == wanted
    assert len(duckdb.extract_statements(of_duckdb)) == 1  # its extension for Delta would have to be downloaded
    names: dict = {"DeltaTable": DeltaTable}
    exec(python.replace("lake/", f"{lake}/"), names)
    assert isinstance(names["rows"], pa.Table) and names["rows"].num_rows == wanted


def test_the_configuration_it_shows_can_be_loaded() -> None:
    for line in COMMANDS:
        settings = re.findall(r"--set (\S+)", line)
        if settings and "a.b" not in line:
            assert load(ROOT / "conf" / "local.yaml", filled(settings))
