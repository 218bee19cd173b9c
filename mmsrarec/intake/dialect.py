"""How a CSV file is written: its encoding and its delimiter, from its first part. Nothing is decided by its name."""

import codecs
import csv
import io
from dataclasses import dataclass

from charset_normalizer import from_bytes

CANDIDATES = (",", ";", "\t", "|")
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
WESTERN = "windows-1252"
# What programs export in, beside UTF, by Python's names and by those that Java knows, too.
EXPORTED = {
    "cp1252": WESTERN, "cp1250": "windows-1250", "cp1251": "windows-1251", "cp1253": "windows-1253",
    "cp1254": "windows-1254", "cp1255": "windows-1255", "cp1256": "windows-1256", "koi8_r": "koi8-r",
    "shift_jis": "shift_jis", "euc_jp": "euc-jp", "euc_kr": "euc-kr", "gb18030": "gb18030", "big5": "big5",
}  # fmt: skip
RECORDS = 200  # that are compared


@dataclass(frozen=True)
class Dialect:
    """What has to be known to read a CSV file."""

    encoding: str
    delimiter: str


def guess(head: bytes) -> Dialect:
    """That of a file which begins with `head`."""
    found = encoding(head)
    return Dialect(found, delimiter(decoded(head, found)))


def encoding(head: bytes) -> str:
    """UTF-8 where the bytes are valid in it, else the likeliest of the others."""
    for mark, name in BOMS:
        if head.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character that is cut at the end is no error
        return "utf-8"
    except UnicodeDecodeError:
        matches = list(from_bytes(head, cp_isolation=list(EXPORTED)))
    # Where several fit as well, as Spanish does in windows-1250, the most usual one is meant.
    fitting = {name for match in matches if match.chaos <= matches[0].chaos for name in match.could_be_from_charset}
    return WESTERN if not matches or "cp1252" in fitting else EXPORTED[matches[0].encoding]


def delimiter(text: str) -> str:
    """The candidate that cuts the most records as wide as the first, the wider the better."""
    return max(CANDIDATES, key=lambda candidate: _fit(text, candidate))


def _fit(text: str, candidate: str) -> tuple[bool, float, int]:
    widths = [len(record) for record in records(text, candidate, RECORDS)]
    if not widths:
        return False, 0.0, 0
    return widths[0] > 1, sum(width == widths[0] for width in widths) / len(widths), widths[0]


def records(text: str, separator: str, most: int) -> list[list[str]]:
    """The first records; blank lines are none, nor is the last of many, which may be cut."""
    reader, found = csv.reader(io.StringIO(text, newline=""), delimiter=separator), []
    try:
        for record in reader:
            if record:
                found.append(record)
            if len(found) > most:
                break
    except csv.Error:  # a field without end: not this delimiter, or not CSV
        pass
    return found[:-1] if len(found) > 2 else found


def decoded(head: bytes, encoding: str) -> str:
    """Text of the file's first part, its byte order mark left out; what is no character becomes U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    return decoder(errors="replace").decode(head)
