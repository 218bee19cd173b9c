"""A real S3 server over HTTP (moto's) behind a proxy that makes trouble on demand; a process of its own, since delta-rs
keeps Python's other threads from answering while it asks.

python tests/s3_server.py    prints the ports of proxy and server, and ends with its standard input

PUT /-/trouble at the proxy with JSON: {"kind": …, "match": part of the path, "times": how often (default: always)};
kinds: 503, 403, 404 (answered instead of the server), slow (a byte now and then), truncated (half of the body), stall
(the headers, then nothing), reset (the connection is closed at once). DELETE /-/trouble ends all; GET /-/requests tells
"METHOD path" of every request since.
"""

import json
import sys
import threading
import time
from contextlib import nullcontext
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.server import ThreadedMotoServer

CODES = {"503": "SlowDown", "403": "AccessDenied", "404": "NoSuchKey"}
DRIP_SECONDS = 0.05


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behind = 0
    troubles: list[dict] = []
    requests: list[str] = []
    turn = threading.Lock()
    conditional = threading.Lock()  # S3 looks and writes in one step, this server in two

    def _handle(self) -> None:
        body = self._body()
        if self.path.startswith("/-/"):
            return self._control(body)
        with self.turn:
            self.requests.append(f"{self.command} {self.path}")
            kind = self._trouble()
        if kind in CODES:
            return self._send(int(kind), [], f"<Error><Code>{CODES[kind]}</Code></Error>".encode())
        if kind == "reset":
            self.close_connection = True
            return None
        with self.conditional if "If-None-Match" in self.headers else nullcontext():
            status, headers, content = self._forwarded(body)
        return self._send(status, headers, content, kind)

    def _forwarded(self, body: bytes) -> tuple[int, list, bytes]:
        server = HTTPConnection("127.0.0.1", self.behind, timeout=30)
        server.request(self.command, self.path, body, dict(self.headers.items()))
        found = server.getresponse()
        content = found.read()
        server.close()
        return found.status, found.getheaders(), content

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        del self.headers["Transfer-Encoding"]
        return b"".join(parts)

    def _trouble(self) -> str | None:
        for trouble in self.troubles:
            if trouble.get("match", "") in self.path and trouble.get("times", 1) > 0:
                if "times" in trouble:
                    trouble["times"] -= 1
                return trouble["kind"]
        return None

    def _control(self, body: bytes) -> None:
        if self.command == "PUT":
            self.troubles.append(json.loads(body))
        elif self.command == "DELETE":
            self.troubles.clear()
            self.requests.clear()
        self._send(200, [], json.dumps(self.requests).encode())

    def _send(self, status: int, headers: list, content: bytes, kind: str | None = None) -> None:
        self.send_response_only(status)
        lengths = {name.lower() for name, _ in headers} & {"content-length"}
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if not lengths:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "stall":
            time.sleep(30)
        if kind == "slow":
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(DRIP_SECONDS)
            return
        self.wfile.write(content[: len(content) // 2] if kind in ("truncated", "stall") else content)
        self.close_connection = kind in ("truncated", "stall")

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    Proxy.behind = server.get_host_and_port()[1]
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    print(f"ports {proxy.server_address[1]} {Proxy.behind}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
