"""Pictures from the web: only from whom the configuration names, whatever an address, a name or a server says."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from PIL import Image

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import objects, transfer, web
from mmsrarec.storage.objects import PictureError, Pictures
from mmsrarec.storage.transfer import FetchError


class Shop(BaseHTTPRequestHandler):
    """A web server that does what a path says."""

    protocol_version = "HTTP/1.1"
    asked: list[str] = []
    elsewhere = 0

    def do_GET(self) -> None:  # noqa: N802
        self.asked.append(f"{self.headers['Host']} {self.path}")
        name = self.path.rpartition("/")[2]
        if name.isdigit():
            return self._send(int(name), b"")
        if name.startswith("to-"):
            return self._send(302, b"", Location=self._target(name))
        if name == "once" and self.asked.count(self.asked[-1]) < 3:
            return self._send(503, b"", **{"Retry-After": "3600"})
        content = picture()
        if name == "endless":
            return self._endless()
        if name == "slow":
            content = bytes(3)
        length = 2 * len(content) if name in ("short", "slow") else len(content)
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        for part in [bytes([byte]) for byte in content] if name == "slow" else [content]:
            self.wfile.write(part)
            time.sleep(0.6 if name == "slow" else 0)
        self.close_connection = length != len(content)
        return None

    def _target(self, name: str) -> str:
        port = self.server.server_address[1]
        return {
            "to-itself": "/pictures/a%20b.png",
            "to-loop": "/pictures/to-loop",
            "to-other-host": f"http://127.0.0.1:{port}/pictures/a.png",
            "to-other-port": f"http://localhost:{self.elsewhere}/pictures/a.png",
            "to-metadata": "http://169.254.169.254/latest/meta-data/",
            "to-file": "file:///etc/passwd",
            "to-nothing": "",
        }[name]

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(64 * 1024))
        except OSError:
            self.close_connection = True

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def picture() -> bytes:
    content = BytesIO()
    Image.new("RGB", (50, 40), "red").save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server, pytest.MonkeyPatch.context() as patch:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        patch.setattr(transfer, "GRACE_SECONDS", 0.5)
        patch.setattr(transfer, "BACKOFF_SECONDS", 0.02)
        patch.setattr(web, "BACKOFF_SECONDS", 0.02)
        patch.setattr(web, "READ_SECONDS", 2.0)
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(autouse=True)
def _unasked() -> None:
    Shop.asked.clear()


def shop(port: int, host: str = "localhost", private: bool = True, **inputs) -> Pictures:
    sources = {"image_sources": [f"http://{host}:{port}/pictures"]}
    sources["private_hosts"] = [f"{host}:{port}"] if private else []
    return Pictures(Config(inputs={"items": "-", "interactions": "-"} | sources | inputs))


def reason(pictures: Pictures, address: str) -> str:
    with pytest.raises(PictureError) as caught:
        pictures.open(address)
    return caught.value.reason


def test_pictures_of_an_allowed_folder(port: int) -> None:
    pictures = shop(port)
    for name in ("a.png", "a b.png", "ü.png", "a.png?size=7", "to-itself", "once"):
        assert pictures.open(f"http://localhost:{port}/pictures/{name}").size == (50, 40)
    assert Shop.asked[1:3] == [f"localhost:{port} /pictures/a%20b.png", f"localhost:{port} /pictures/%C3%BC.png"]
    below = shop(port, images=f"http://localhost:{port}/pictures/", image_sources=[])
    assert below.open("new/50% off.png").size == (50, 40)
    assert Shop.asked[-1] == f"localhost:{port} /pictures/new/50%25%20off.png"


@pytest.mark.parametrize(
    "address, expected",
    [
        ("http://localhost:{port}/private/a.png", "not_allowed"),
        ("http://localhost:{port}/pictures-private/a.png", "not_allowed"),
        ("http://localhost:{port}/pictures/../private/a.png", "not_allowed"),
        ("http://localhost:{port}/pictures/%2e%2e/private/a.png", "outside_folder"),
        ("http://localhost:{port}/pictures\\..\\private/a.png", "outside_folder"),
        ("https://localhost:{port}/pictures/a.png", "not_allowed"),
        ("http://localhost:1/pictures/a.png", "not_allowed"),
        ("http://localhost/pictures/a.png", "not_allowed"),
        ("http://127.0.0.1:{port}/pictures/a.png", "not_allowed"),
        ("http://2130706433:{port}/pictures/a.png", "not_allowed"),
        ("http://0x7f000001:{port}/pictures/a.png", "not_allowed"),
        ("http://[::1]:{port}/pictures/a.png", "not_allowed"),
        ("http://localhost.:{port}/pictures/a.png", "not_allowed"),
        ("http://localhost:{port}@example.org/pictures/a.png", "unsupported_address"),
        ("http://me:secret@localhost:{port}/pictures/a.png", "unsupported_address"),
        ("http://", "unsupported_address"),
        ("http://localhost:99999/pictures/a.png", "unsupported_address"),
        ("http://local\nhost:{port}/pictures/a.png", "unsupported_address"),
        ("ftp://localhost:{port}/pictures/a.png", "unsupported_address"),
        ("file:///etc/passwd", "unsupported_address"),
        ("data:image/png;base64,AAAA", "unsupported_address"),
    ],
)
def test_addresses_that_nobody_is_asked_for(port: int, address: str, expected: str) -> None:
    assert reason(shop(port), address.replace("{port}", str(port))) == expected
    assert Shop.asked == []


def test_a_host_and_scheme_are_compared_as_the_web_does(port: int) -> None:
    assert shop(port).open(f"HTTP://LocalHost:{port}/pictures/a.png").size == (50, 40)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f000001", "127.1", "[::1]"])
def test_an_allowed_host_in_a_private_network_is_not_asked_unless_named_so(port: int, host: str) -> None:
    assert reason(shop(port, host, private=False), f"http://{host}:{port}/pictures/a.png") == "not_allowed"
    assert Shop.asked == []


@pytest.mark.parametrize(
    "address, private",
    [
        *((found, False) for found in ("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1")),
        *((found, False) for found in ("fc00::1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::")),
        *((found, False) for found in ("2001:0:a00:1::f5ff:fffe", "240.0.0.1", "198.18.0.1")),
        *((found, True) for found in ("169.254.169.254", "fe80::1%eth0", "::ffff:169.254.169.254", "0.0.0.0", "::")),
        *((found, True) for found in ("224.0.0.1", "ff02::1")),
    ],
)
def test_what_an_address_may_not_be(address: str, private: bool) -> None:
    """Some not even where the host is named as a private one."""
    with pytest.raises(FetchError, match="private network"):
        web.judged(address, private)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"])
def test_what_an_address_may_be(address: str) -> None:
    web.judged(address, private=False)


def test_the_connection_goes_to_the_address_that_was_judged(port: int, monkeypatch) -> None:
    """A name that resolves to something else a moment later gains nothing."""
    answers, resolve = [], socket.getaddrinfo

    def rebound(host, *arguments, **named):
        answers.append(host)
        return resolve("127.0.0.1" if answers.count(host) == 1 else "127.0.0.2", *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    assert shop(port, "shop.invalid").open(f"http://shop.invalid:{port}/pictures/a.png").size == (50, 40)
    assert answers == ["shop.invalid", "127.0.0.1"]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("to-other-host", "not_allowed"),
        ("to-other-port", "not_allowed"),
        ("to-metadata", "not_allowed"),
        ("to-file", "unsupported_address"),
        ("to-loop", "unreachable"),
        ("404", "missing"),
        ("410", "missing"),
        ("403", "forbidden"),
        ("418", "unreachable"),
        ("500", "unreachable"),
        ("short", "unreachable"),
        ("slow", "unreachable"),
    ],
)
def test_what_a_server_answers(port: int, name: str, expected: str) -> None:
    started = time.monotonic()
    assert reason(shop(port), f"http://localhost:{port}/pictures/{name}") == expected
    assert time.monotonic() - started < 15
    assert len(Shop.asked) == {"500": 4, "short": 3, "slow": 3, "to-loop": 4}.get(name, 1)


def certificate(name: str, folder: Path) -> Path:
    """Key and self-signed certificate of a host in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False).sign(key, hashes.SHA256())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = folder / f"{name}.pem"
    file.write_bytes(key.private_bytes(*form) + signed.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize("name, trusted", [("localhost", True), ("localhost", False), ("elsewhere", True)])
def test_the_certificate_is_that_of_the_host(tmp_path: Path, monkeypatch, name: str, trusted: bool) -> None:
    file = certificate(name, tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"localhost:{server.server_address[1]}"
        pictures = shop(0, image_sources=[f"https://{place}/pictures"], private_hosts=[place])
        if name == "localhost" and trusted:
            assert pictures.open(f"https://{place}/pictures/a.png").size == (50, 40)
        else:
            assert reason(pictures, f"https://{place}/pictures/a.png") == "unreachable"
            assert Shop.asked == []
        server.shutdown()


def test_too_large_is_known_before_it_is_read_and_while(port: int, monkeypatch) -> None:
    monkeypatch.setattr(objects, "MAX_BYTES", 100)
    assert reason(shop(port), f"http://localhost:{port}/pictures/a.png") == "too_large"
    monkeypatch.setattr(objects, "MAX_BYTES", 2**20)
    assert reason(shop(port), f"http://localhost:{port}/pictures/endless") == "too_large"


def test_a_host_that_is_gone_costs_its_pictures_and_little_time(port: int) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = closed.getsockname()[1]
    pictures = shop(gone)
    address = f"http://localhost:{gone}/pictures/a.png"
    assert [why for _, why in pictures.hashes([address] * 8)] == ["unreachable"] * 8
    started = time.monotonic()
    assert [why for _, why in pictures.hashes([address] * 1000)] == ["unreachable"] * 1000
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("source", ["localhost/pictures", "ftp://host/pictures", "https://me:secret@host/", "https://"])
def test_a_source_that_is_no_address_is_said_at_once(source: str) -> None:
    with pytest.raises((InputError, ValueError)) as caught:
        Pictures(Config(inputs={"items": "-", "interactions": "-", "image_sources": [source]}))
    assert "inputs.image_sources" in str(caught.value) and "secret" not in str(caught.value)
