"""Bad pictures: for each kind a file that a careless or hostile shop could send, and what opening it must end in.

A kind is (content, address that names it, outcomes). An outcome is a reason of PictureError, or OPENED. Contents follow
from the generator that is handed in. For tests/test_hostile.py and bench/hostile.py.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

import numpy as np
from PIL import Image

OPENED = "opened"
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")
UNREADABLE = frozenset({"truncated", "broken", "not_a_picture", "too_large", "empty"})
DAMAGED = UNREADABLE | {OPENED}  # a flipped byte of the pixels still shows a picture

ADDRESSES = {
    "../../../../../../etc/passwd": "outside_folder",
    "/etc/passwd": "outside_folder",
    "below/../../../etc/shadow": "outside_folder",
    "/proc/self/environ": "outside_folder",
    "/dev/zero": "outside_folder",
    "..": "outside_folder",
    "..\\..\\windows\\win.ini": "missing",
    "....//....//etc/passwd": "missing",
    "%2e%2e/%2e%2e/etc/passwd": "missing",
    "a\0.png": "missing",
    "\u202egnp.exe": "missing",
    "x" * 300: "missing",
    "x/" * 3000: "missing",
    "$(touch /tmp/owned).png": "missing",
    "| cat /etc/passwd": "missing",
    "-rf *": "missing",
    "CON.png": "missing",
    ".": "not_a_picture",
    "file:///etc/passwd": "unsupported_address",
    "http://169.254.169.254/latest/meta-data/": "not_allowed",
    "HTTPS://example.org/a.png": "not_allowed",
    "https://user:word@example.org/a.png": "unsupported_address",
    "s3://bucket/../key": "outside_folder",
    "s3://bucket/key.png": "not_allowed",
    "gopher://localhost:6379/_FLUSHALL": "unsupported_address",
    "data:image/png;base64,AAAA": "unsupported_address",
    "javascript:alert(1)": "missing",
    "{{ 7 * 7 }}.png": "missing",
    "<img src=x onerror=alert(1)>": "missing",
}


Maker = Callable[[Random, int], tuple]


class Picture(NamedTuple):
    """`content` None: there is no such file. `outcomes`: what may come of opening `address`."""

    kind: str
    address: str
    content: bytes | None
    outcomes: frozenset[str]


def endless(random: Random) -> Iterator[Picture]:
    """Kind after kind, again and again, each time another one of it."""
    makers = (*(_of_format(name) for name in FORMATS), _bombs, _disguises, _addresses)
    number = 0
    while True:
        for maker in makers:
            kind, address, content, outcomes = maker(random, number)
            yield Picture(kind, address or f"hostile/{number:06d}.png", content, frozenset(outcomes))
            number += 1


def write(folder: Path, pictures: list[Picture]) -> None:
    """The files below `folder`."""
    for picture in pictures:
        if picture.content is not None:
            file = folder / picture.address
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture.content)


def _whole(name: str, random: Random) -> bytes:
    values = np.random.default_rng(random.getrandbits(32)).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    written = BytesIO()
    Image.fromarray(values).save(written, name, **{"AVIF": {"speed": 10}}.get(name, {}))
    return written.getvalue()


def _of_format(name: str) -> Maker:
    def damaged(random: Random, _: int) -> tuple:
        content = _whole(name, random)
        if random.random() < 0.5:
            kept = random.randrange(len(content) - 16)  # a PNG without its last 12 bytes still has all its pixels
            return f"truncated {name}", None, content[:kept], UNREADABLE
        flipped = bytearray(content)
        for _ in range(random.randint(1, 12)):
            flipped[random.randrange(len(flipped))] = random.randrange(256)
        return f"flipped {name}", None, bytes(flipped), DAMAGED

    return damaged


def _bombs(random: Random, number: int) -> tuple:
    maker = BOMBS[number // 11 % len(BOMBS)]
    return f"bomb {maker.__name__.strip('_')}", None, maker(random.randint(20_000, 60_000)), UNREADABLE


def _disguises(random: Random, number: int) -> tuple:
    archive = BytesIO()
    with ZipFile(archive, "w") as written:
        written.writestr(ZipInfo("../../etc/cron.d/owned"), "* * * * * root id")
        written.writestr(ZipInfo("a\\..\\b"), b"\0" * 1000)
    script = b"<script>alert(1)</script>"
    contents = {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/>' + script + b"</svg>",
        "xml entities": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "html": b"<!doctype html>" + script,
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\nshowpage\n",
        "pdf": b"%PDF-1.7\n1 0 obj<</S/JavaScript/JS(app.alert(1))>>endobj",
        "zip": archive.getvalue(),
        "elf": b"\x7fELF" + random.randbytes(400),
        "pickle": b"cposix\nsystem\n(S'id'\ntR.",
        "empty": b"",
        "one byte": random.randbytes(1),
        "noise": b"~" + random.randbytes(random.randint(1, 5000)),
        "zeros": b"\0" * random.randint(1, 5000),
        "jpeg with a script": b"\xff\xd8\xff\xfe\x00\x20" + script + b"\xff\xd9",
        "gif with a script": b"GIF89a/*" + script + b"*/",
    }
    kind = list(contents)[number // 11 % len(contents)]
    return f"disguised {kind}", None, contents[kind], UNREADABLE


def _addresses(_: Random, number: int) -> tuple:
    address = list(ADDRESSES)[number // 11 % len(ADDRESSES)]
    return f"address {ADDRESSES[address]}", address, None, {ADDRESSES[address]}


@cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 9)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(side: int, *chunks: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IEND", b"")


def _png_bomb(side: int) -> bytes:
    return _png(side, _chunk(b"IDAT", _zeros(2_000_000)))


def _text_bomb(side: int) -> bytes:
    """A small picture whose text would unpack to a hundred times that much."""
    texts = [_chunk(b"zTXt", b"a\0\0" + _zeros(1_000_000)) for _ in range(100)]
    return _png(8, *texts, _chunk(b"IDAT", zlib.compress(bytes(side % 7), 9)))


def _profile_bomb(side: int) -> bytes:
    profile = _chunk(b"iCCP", b"a\0\0" + _zeros(30_000_000))
    return _png(side, profile, _chunk(b"IDAT", zlib.compress(b"\0", 9)))


def _gif_bomb(side: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", side, side) + b"\0\0\0," + struct.pack("<HHHH", 0, 0, side, side) + b"\0\2\0;"


def _bmp_bomb(side: int) -> bytes:
    sizes = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 0, 0)  # run-length coded
    return b"BM" + struct.pack("<IHHI", 54 + 1024, 0, 0, 54 + 1024) + sizes + bytes(1024) + b"\xff\0" * 100


def _ppm_bomb(side: int) -> bytes:
    return f"P3\n{side} {side}\n255\n".encode() + b"0 " * 1000


def _webp_bomb(side: int) -> bytes:
    canvas = struct.pack("<I", side)[:3]
    content = b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + canvas * 2
    content += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _tile_bomb(side: int) -> bytes:
    """A TIFF of 64 x 64 pixels that shows the corner of one huge tile."""
    packed = _zeros(4_000_000)
    tags = {
        256: 64,
        257: 64,
        258: 8,
        259: 8,
        262: 1,
        277: 1,
        322: side // 16 * 16,
        323: side // 16 * 16,
        325: len(packed),
    }
    return _tiff(tags, packed, offsets=324)


def _scan_bomb(side: int) -> bytes:
    """A JPEG that goes over its pixels again and again."""
    written = BytesIO()
    Image.new("L", (64, 64), side % 256).save(written, "JPEG", progressive=True)
    content = written.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 1000 + content[-2:]


def _count_bomb(side: int) -> bytes:
    """A TIFF that claims more strips than its file has bytes, and to begin again at its own start."""
    tags = {256: side, 257: side, 258: 8, 259: 5, 262: 1, 277: 1, 278: 1, 279: 2**32 - 1}
    return _tiff(tags, b"\0" * 64, offsets=273)


def _tiff(tags: dict[int, int], content: bytes, offsets: int) -> bytes:
    tags = tags | {offsets: 8 + 2 + 12 * (len(tags) + 1) + 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8) + content


BOMBS = (
    _png_bomb, _text_bomb, _gif_bomb, _bmp_bomb, _ppm_bomb, _tile_bomb, _webp_bomb, _profile_bomb, _count_bomb,
    _scan_bomb,
)  # fmt: skip
