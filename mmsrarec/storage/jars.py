"""Set-up step: `python -m mmsrarec.storage.jars` makes the Spark of this environment ready for Delta, once.

It puts the two jars of Delta into the jars/ folder of pyspark, so that a plain `spark-submit jobs/build_cf.py` needs
neither flags nor the network, makes bin/spark-submit use the Python beside it, and has Spark log errors only. With
`--s3a` Spark learns to read and write S3, too; `--s3a FOLDER` puts those jars there, for the class path of a cluster.
The Ivy that comes with Spark fetches the jars. A second run does nothing. It starts no session: that is
storage/spark.py.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from mmsrarec.errors import UserError

# Everything else that delta-spark asks for comes with Spark itself, or serves catalogs that we do not use.
EXCLUDED = ("com.*", "org.*", "javax.*", "commons-*", "io.unitycatalog", "io.airlift")
# s3a, and of the AWS SDK what it uses, 14 MB: hadoop-aws itself asks for all of the SDK in one jar of 0.7 GB.
AWS_SDK = "2.35.4"  # the version that hadoop-aws names
SDK_PARTS = ("s3-transfer-manager", "sts", "apache-client", "netty-nio-client")
WITH_SPARK = (
    *("org.apache.hadoop:hadoop-client-*", "software.amazon.awssdk:bundle", "io.netty:*", "org.slf4j:*"),
    *("commons-*:*", "org.apache.httpcomponents:*"),
)
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
    delta = version("delta-spark")
    excluded = [*(f"{group}:*" for group in EXCLUDED), "io.delta:delta-kernel*"]
    with _fetched(home, [f"io.delta:{name}:{delta}" for name in missing], excluded) as jars:
        for jar in missing.values():
            if f"io.delta_{jar}" not in jars:
                raise _not_fetched(jar, "Ivy found others instead")
            _copy(jars[f"io.delta_{jar}"], home / "jars" / jar)
    return sorted(missing.values())


def install_s3a(home: Path, folder: Path) -> list[str]:
    """Fetch the jars by which Spark reads and writes S3 into `folder`, unless they are there; their names."""
    if there := sorted(path.name for path in folder.glob("*hadoop-aws-*.jar")):
        return there
    (hadoop,) = (path.stem.removeprefix("hadoop-client-api-") for path in (home / "jars").glob("hadoop-client-api-*"))
    sdk = [f"software.amazon.awssdk:{part}:{AWS_SDK}" for part in SDK_PARTS]
    with _fetched(home, [f"org.apache.hadoop:hadoop-aws:{hadoop}", *sdk], WITH_SPARK) as jars:
        folder.mkdir(parents=True, exist_ok=True)
        # The one that is looked for comes last.
        for name in sorted(jars, key=lambda name: "hadoop-aws" in name):
            _copy(jars[name], folder / name)
    return sorted(jars)


@contextmanager
def _fetched(home: Path, coordinates: Iterable[str], excluded: Iterable[str]) -> Iterator[dict[str, Path]]:
    """An empty Spark program with the packages as its only purpose: its jars by name, while they are there."""
    with tempfile.TemporaryDirectory(prefix="ivy-") as folder:
        program = Path(folder) / "empty.py"
        program.write_text("")
        command = [
            str(home / "bin" / "spark-submit"),
            *("--master", "local[1]"),
            *("--packages", ",".join(coordinates)),
            *("--exclude-packages", ",".join(excluded)),
            *("--conf", f"spark.jars.ivy={folder}"),
            str(program),
        ]
        environment = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        except subprocess.TimeoutExpired:
            raise UserError("Spark's jars could not be fetched within 15 minutes; is the network up?") from None
        jars = {path.name: path for path in (Path(folder) / "jars").glob("*.jar")}
        if done.returncode or not jars:
            raise _not_fetched(", ".join(coordinates), done.stdout + done.stderr)
        yield jars


def _not_fetched(jar: str, log: str) -> UserError:
    return UserError(
        f"{jar} could not be fetched. Needed: a JDK 17 on PATH and the network (Spark's Ivy reads its repositories as "
        f"usual). The end of Ivy's log:\n{log[-1500:]}"
    )


def _copy(jar: Path, place: Path) -> None:
    """By a rename, so that a broken copy never looks like a jar."""
    shutil.copyfile(jar, f"{place}.part")
    os.replace(f"{place}.part", place)


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
    parser = argparse.ArgumentParser(description="Make the Spark of this environment ready.")
    here = "the folder that gets the jars of s3a; without one, Spark's own"
    parser.add_argument("--s3a", nargs="?", const="", metavar="FOLDER", help=here)
    s3a = parser.parse_args().s3a
    try:
        home = spark_home()
        jars = install_jars(home)
        quiet(home)
        bind_launcher(Path(sys.executable).parent / "spark-submit")
        more = [] if s3a is None else install_s3a(home, Path(s3a) if s3a else home / "jars")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Delta for Spark: {', '.join(jars) + ' added' if jars else 'there already'}")
    if more:
        print(f"S3 for Spark: {len(more)} jars in {s3a or home / 'jars'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
