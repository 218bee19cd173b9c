"""The conventions of the README, executable: direction of imports, one file per heavy library, sizes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mmsrarec"
FILES = sorted(PACKAGE.rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))

# What a room may import of the package, beside itself.
BASE = {"errors", "config", "schemas", "redact", "log", "noise", "progress", "signals"}
SERVICES = BASE | {"storage", "engines"}
STAGES = {"preparation", "collaborative", "keywords", "recommendation"}
MAY_IMPORT = {
    "errors": set(),
    "schemas": set(),
    "config": {"errors"},
    "redact": set(),
    "signals": set(),
    "log": {"redact"},
    "progress": {"log"},
    "matters": {"log"},
    "noise": {"errors", "config", "redact", "log", "matters"},
    "storage": BASE,
    "engines": BASE | {"storage"},
    **{room: SERVICES for room in STAGES},
    "evaluation": SERVICES | STAGES,
    "training": SERVICES | STAGES | {"evaluation"},
    "planning": SERVICES | STAGES | {"evaluation", "training"},
    "publishing": SERVICES | STAGES,
    "reports": SERVICES | STAGES,
    "intake": SERVICES | {"collaborative"},
    "cluster": BASE,
    "demo": SERVICES | STAGES | {"evaluation", "pipeline"},
    "pipeline": SERVICES | {"reports", "planning"},
    "ablation": SERVICES | {"collaborative", "evaluation", "pipeline"},
    "library": SERVICES | {"reports", "pipeline", "planning"},
    "documentation": BASE | {"cli"},
    "cli": SERVICES | STAGES | {"reports", "publishing", "pipeline", "planning", "intake", "cluster", "ablation"},
}
# Heavy library: the only places that import it.
HOMES = {
    "vllm": ("engines/vllm.py",),
    "ray": ("engines/batch.py", "engines/cluster.py", "training/distributed.py"),
    "pymilvus": ("collaborative/index.py",),
    "deltalake": ("storage/delta.py", "storage/tables.py", "storage/upkeep.py"),
    "prometheus_client": ("reports/metrics.py",),
    "boto3": ("storage/s3.py",),
    "botocore": ("storage/s3.py",),
    "urllib3": ("storage/web.py", "storage/transfer.py", "cluster/night.py"),  # there as errors of kubernetes
    "pyspark": ("storage/spark.py", "storage/handover.py", "storage/jars.py", "preparation/"),
    "delta": ("storage/spark.py", "storage/jars.py"),
    "transformers": ("engines/template.py", "engines/merged.py", "demo/", "training/"),
    "trl": ("training/",),
    "peft": ("engines/merged.py", "training/"),
    "datasets": ("training/",),
    "kubernetes": ("cluster/night.py",),
    "sentence_transformers": ("engines/sentences.py",),
    "lightgbm": ("evaluation/boosting.py",),
    "PIL": ("storage/objects.py", "demo/"),
    "matplotlib": ("reports/page/plots.py", "reports/page/svg.py"),
    "jinja2": ("reports/page/page.py", "engines/template.py"),
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("mmsrarec.")} - {own, "__version__"}
    assert used <= MAY_IMPORT[own], f"{own} imports {sorted(used - MAY_IMPORT[own])}"


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_has_one_home(library: str) -> None:
    homes = HOMES[library]
    users = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name == library or name.startswith(f"{library}.") for name in imports(path))
    ]
    assert not [user for user in users if not user.startswith(homes)]


@pytest.mark.parametrize("path", [*FILES, *JOBS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short_and_documented(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 300, "a file is at most 300 lines"
    assert ast.get_docstring(tree), "a module opens with what it does"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 70, f"{node.name} is longer than 70 lines"


def test_only_the_log_writes_to_standard_error() -> None:
    """Otherwise --log-format json would not hold for every line."""
    # Takes it from others; a set-up step before there is a lake; a Ray worker, whose lines are another process's noise.
    own = {"log.py", "noise.py", "storage/jars.py", "engines/batch.py"}
    files = {str(path.relative_to(PACKAGE)): path for path in FILES}
    found = {name for name, path in files.items() if "sys.stderr" in path.read_text()}
    assert not [name for name in found - own if not name.startswith("demo/")]


def test_every_stage_has_a_job() -> None:
    from mmsrarec.pipeline import STAGES

    assert {path.stem for path in JOBS} == set(STAGES)


def test_the_command_line_loads_without_the_engines() -> None:
    import subprocess
    import sys

    code = "import mmsrarec.cli, sys; print([m for m in ('torch', 'vllm', 'ray', 'pyspark') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_nothing_speaks_of_where_it_was_made() -> None:
    barred = ("/" + "work/", "shared" + "/data", "pypi" + ".org", "maven" + ".org", "repo1" + ".maven")
    for path in [*ROOT.glob("*.*"), *ROOT.glob("conf/*"), *ROOT.glob("bench/*"), *ROOT.glob("k8s/**/*"), *FILES, *JOBS]:
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".yaml", ".Dockerfile"}:
            text = path.read_text()
            assert not [word for word in barred if word in text], path
