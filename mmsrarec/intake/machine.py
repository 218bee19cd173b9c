"""Findings about what a run needs around it: Java with Delta, room for the lake, the Milvus server, S3."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mmsrarec.config import Config
from mmsrarec.errors import UserError
from mmsrarec.intake import sources
from mmsrarec.intake.findings import Finding
from mmsrarec.storage import files, jars

JAVA = 17
LEAST_ROOM = 1.0  # GiB
ROOM_PER_INPUT = 10  # times the inputs' size: cleaned tables, Spark's shuffles, two nights of lists


def check(config: Config) -> Iterator[Finding]:
    yield from about_java()
    yield from about_disk(config)
    yield from about_milvus(config)
    yield from about_s3(config)


def about_java() -> Iterator[Finding]:
    """Spark's own way to find it: JAVA_HOME, else PATH."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if program is None:
        where = f"JAVA_HOME={home}" if home else "PATH"
        yield Finding("error", "java", f"there is none in {where}; Spark needs it", f"install a JDK {JAVA}")
        return
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) < JAVA:
        had = f"is version {found[1]}" if found else f"does not start: {said[:200]}"
        yield Finding("error", "java", f"{program} {had}; Spark needs {JAVA} or later", f"install a JDK {JAVA}")
    else:
        yield Finding("ok", "java", f"{program}, version {found[1]}")
    missing = [jar for jar in jars.wanted().values() if not (jars.spark_home() / "jars" / jar).exists()]
    if missing:
        yield Finding("error", "java", f"Spark has no Delta: {', '.join(missing)} missing", "`make setup`")


def about_disk(config: Config) -> Iterator[Finding]:
    root = config.lake.root
    if "://" in root:
        return
    folder = Path(root).resolve()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("error", "lake.root", f"{there} is no folder that can be written", "set another lake.root")
        return
    free, size = shutil.disk_usage(there).free / 2**30, _inputs_size(config) / 2**30
    wanted = max(LEAST_ROOM, ROOM_PER_INPUT * size)
    said = f"{free:,.1f} GiB are free at {there}; about {wanted:,.1f} GiB should be"
    if free < wanted:
        remedy = "make room, or set lake.root to a larger disk"
        yield Finding("error" if free < LEAST_ROOM else "warning", "lake.root", said, remedy)
    else:
        yield Finding("ok", "lake.root", said)


def _inputs_size(config: Config) -> int:
    found = 0
    for place in (config.inputs.items, config.inputs.interactions):
        try:
            found += sum(file.size or 0 for file in sources.files(place, place))
        except UserError:
            pass  # said by those who read it
    return found


def about_milvus(config: Config) -> Iterator[Finding]:
    if config.index.uri is None and not files.is_local(config.lake.root):
        said = f"Milvus Lite keeps its folder in the lake, but not on S3 ({config.lake.root})"
        yield Finding("error", "index.uri", said, "set it to a Milvus server, or to a local folder")
    if "://" not in (config.index.uri or ""):
        return
    from mmsrarec.collaborative.index import server_version

    try:
        yield Finding("ok", "index.uri", f"{config.index.uri}: Milvus {server_version(config)}")
    except UserError as error:
        yield Finding("error", "index.uri", str(error), "start the server, or leave index.uri out for Milvus Lite")


def about_s3(config: Config) -> Iterator[Finding]:
    """That the places are there; the inputs say so themselves when they are read."""
    inputs, found = config.inputs, {"inputs.images": config.inputs.images, "lake.root": config.lake.root}
    for where, place in found.items():
        if place and place.startswith("s3://"):
            yield _s3_place(where, place)
    read = [inputs.items, inputs.interactions]
    if not config.spark.place.startswith("local"):  # many machines hand over their rows by way of the lake
        read.append(config.lake.root)
    spark = [place for place in read if place.startswith("s3://")]
    connector = any((jars.spark_home() / "jars").glob("hadoop-aws-*.jar"))
    if spark and not connector and "spark.jars.packages" not in config.spark.conf:
        yield Finding(
            "error", "spark", f"Spark cannot read or write {spark[0]}: its S3 connector is not installed here",
            "`python -m mmsrarec.storage.jars --s3a` (14 MB), or run build_cf where hadoop-aws is among Spark's jars",
        )  # fmt: skip


def _s3_place(where: str, place: str) -> Finding:
    bucket = "/".join(place.split("/")[:3])
    try:
        system, path = sources.locate(bucket)
        with sources.readable(where):
            there = system.get_file_info(path).type != sources.fs.FileType.NotFound
    except UserError as error:
        return Finding("error", where, str(error), "see AWS_ACCESS_KEY_ID and its kin, AWS_REGION and AWS_ENDPOINT_URL")
    if not there:
        return Finding("error", where, f"{bucket}: no such bucket", "make it, or mend the address")
    return Finding("ok", where, f"{bucket} can be reached")
