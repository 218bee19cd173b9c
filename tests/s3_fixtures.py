"""The server of s3_server.py for all tests, with an empty bucket for each of them."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmsrarec.storage import s3

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"


@dataclass(frozen=True)
class Server:
    port: int
    bucket: str = "shop"

    def trouble(self, kind: str, match: str = "", times: int | None = None) -> None:
        self._ask("PUT", {"kind": kind, "match": match} | ({"times": times} if times else {}))

    def calm(self) -> None:
        self._ask("DELETE")

    def requests(self) -> list[str]:
        return self._ask("GET")

    def _ask(self, method: str, what: dict | None = None) -> list[str]:
        body = json.dumps(what).encode() if what else None
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/-/trouble", body, method=method)
        with urllib.request.urlopen(asked, timeout=10) as response:
            return json.load(response)


@pytest.fixture(scope="session")
def s3_process() -> Iterator[Server]:
    command = [sys.executable, str(Path(__file__).parent / "s3_server.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as running:
        try:
            line = next(line for line in running.stdout if line.startswith("ports "))
            yield Server(int(line.split()[1]))
        finally:
            running.kill()


def point_to(server: Server, environment: pytest.MonkeyPatch) -> None:
    """Have all S3 of this process, and of those that it starts, be at the server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        environment.delenv(name, raising=False)
    values = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
    values |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}", "AWS_ALLOW_HTTP": "true"}
    for name, value in values.items():
        environment.setenv(name, value)


def uploaded(folder: Path, address: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.write(f"{address}/{path.relative_to(folder)}", path.read_bytes())
    return address


@pytest.fixture
def s3_server(s3_process: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    point_to(s3_process, monkeypatch)
    s3_process.calm()
    s3._asked("s3://shop", "create_bucket", Bucket=s3_process.bucket)
    yield s3_process
    s3_process.calm()
    s3.delete(f"s3://shop/{one.name}" for one in s3.listing("s3://shop"))
