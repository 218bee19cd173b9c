"""Set-up step: `python -m mmsrarec.storage.jars` makes the Spark of this environment ready for Delta, once.

It puts the two jars of Delta into the jars/ folder of pyspark, so that a plain `spark-submit jobs/build_cf.py` needs
neither flags nor the network, makes bin/spark-submit use the Python beside it, and has Spark log errors only. The Ivy
that comes with Spark fetches the jars. A second run does nothing. It starts no session: that is storage/spark.py.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from mmsrarec.errors import UserError

# Everything else that delta-spark asks for comes with Spark itself, or serves catalogs that we do not use.
EXCLUDED = ("com.*", "org.*", "javax.*", "commons-*", "io.unitycatalog", "io.airlift")
# Before a session can set the level, Spark has written a page of warnings.
LOGGING = """rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex
"""
LAUNCHER_LINE = 'export PYSPARK_PYTHON="${PYSPARK_PYTHON:-$(cd "$(dirname "$0")" && pwd)/python}"'


def spark_home() -> Path:
    """The folder of the installed pyspark."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise UserError("pyspark is not installed here; run `make setup` first")
    return Path(spec.origin).parent


def wanted() -> dict[str, str]:
    """Artifact -> file name of its jar. The artifact of delta-spark carries Spark's minor version."""
    delta = version("delta-spark")
    minor = ".".join(version("pyspark").split(".")[:2])
    return {name: f"{name}-{delta}.jar" for name in (f"delta-spark_{minor}_2.13", "delta-storage")}


def install_jars(home: Path) -> list[str]:
    """Fetch what is missing in home/jars; returns the names of the new jars."""
    missing = {name: jar for name, jar in wanted().items() if not (home / "jars" / jar).exists()}
    if not missing:
        return []
    with tempfile.TemporaryDirectory(prefix="ivy-") as folder:
        log = _resolve(home, list(missing), Path(folder))
        for jar in missing.values():
            fetched = Path(folder) / "jars" / f"io.delta_{jar}"
            if not fetched.exists():
                raise UserError(
                    f"Delta's jar {jar} could not be fetched. Needed: a JDK 17 on PATH and the network (Spark's Ivy "
                    f"reads its repositories as usual). The end of Ivy's log:\n{log[-1500:]}"
                )
            # A rename, so that a broken copy never looks like a jar.
            shutil.copyfile(fetched, home / "jars" / f"{jar}.part")
            os.replace(home / "jars" / f"{jar}.part", home / "jars" / jar)
    return sorted(missing.values())


def _resolve(home: Path, names: list[str], folder: Path) -> str:
    """An empty Spark program with the packages as its only purpose; returns its log."""
    program = folder / "empty.py"
    program.write_text("")
    delta = version("delta-spark")
    command = [
        str(home / "bin" / "spark-submit"),
        *("--master", "local[1]"),
        *("--packages", ",".join(f"io.delta:{name}:{delta}" for name in names)),
        *("--exclude-packages", ",".join([*(f"{group}:*" for group in EXCLUDED), "io.delta:delta-kernel*"])),
        *("--conf", f"spark.jars.ivy={folder}"),
        str(program),
    ]
    environment = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired:
        raise UserError("Delta's jars could not be fetched within 15 minutes; is the network up?") from None
    return done.stdout + done.stderr


def bind_launcher(launcher: Path) -> bool:
    """Make a pip-installed spark-submit find its own environment's Python, also where that is not activated."""
    if not launcher.exists():
        return False
    first, *rest = launcher.read_text().splitlines()
    if LAUNCHER_LINE in rest:
        return False
    # A new file: the installed one may be a hard link into the installer's cache.
    copy = launcher.with_suffix(".part")
    copy.write_text("\n".join([first, LAUNCHER_LINE, *rest]) + "\n")
    copy.chmod(launcher.stat().st_mode)
    os.replace(copy, launcher)
    return True


def quiet(home: Path) -> None:
    """Spark's logging, unless this installation has its own."""
    settings = home / "conf" / "log4j2.properties"
    if not settings.exists():
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(LOGGING)


def main() -> int:
    try:
        home = spark_home()
        jars = install_jars(home)
        quiet(home)
        bind_launcher(Path(sys.executable).parent / "spark-submit")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Delta for Spark: {', '.join(jars) + ' added' if jars else 'there already'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
