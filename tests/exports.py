"""Files as shops export them, for the tests of init and check."""

import csv
import io
import random
from pathlib import Path

from PIL import Image

ITEMS, USERS = 60, 80


def german(folder: Path) -> tuple[Path, Path]:
    """UTF-8 with a byte order mark, semicolons, quotes and line breaks in values; orders in windows-1252."""
    chance = random.Random(1)
    names = [f"A-{number:05d}" for number in range(ITEMS)]
    (folder / "fotos").mkdir(parents=True)
    rows = [["Artikel-Nr.", "Produktbezeichnung", "Beschreibung", "Warengruppe", "Bilddatei", "lieferbar", "Marke"]]
    for number, name in enumerate(names):
        Image.new("RGB", (32, 32), (number, 9, 9)).save(folder / "fotos" / f"{name}.jpg")
        text, group = f"Für draußen,\nNummer {number}", chance.choice(["Möbel", "Küche", "Garten"])
        title, maker = f'Schöner "Stuhl" {number}; grün', chance.choice(["Müller", "Groß"])
        rows.append([name, title, text, group, f"{name}.jpg", chance.choice(["ja", "nein"]), maker])
    items = folder / "artikel.csv"
    items.write_bytes(b"\xef\xbb\xbf" + written(rows, ";").encode())
    rows = [["Bestell-ID", "KundenNr", "Artikelnummer", "Kaufdatum", "Länge"]]
    for number in range(900):
        day = f"2025-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}T{chance.randrange(24):02d}:00:00+01:00"
        rows.append([number, f"K{chance.randrange(USERS):04d}", chance.choice(names), day, "groß"])
    orders = folder / "bestellungen.csv"
    orders.write_bytes(written(rows, ";").encode("windows-1252"))
    return items, orders


def spanish(folder: Path) -> tuple[Path, Path]:
    """windows-1252 with bars under .txt, tabs in UTF-16 under .csv; ids are numbers and the ratings lie among them."""
    chance = random.Random(2)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [["código", "nombre", "descripción", "categoría"]]
    rows += [[n + 1, f"Niño {n}", f"Descripción larga número {n}", "Niños"] for n in range(ITEMS)]
    items = folder / "productos.txt"
    items.write_bytes(written(rows, "|").encode("windows-1252"))
    rows = [["cliente", "producto", "fecha", "puntuación"]]
    for _ in range(900):
        day = f"2025-0{chance.randrange(1, 9)}-1{chance.randrange(9)} 10:00"
        rows.append([chance.randrange(1, USERS), chance.randrange(1, ITEMS + 1), day, chance.randrange(1, 6)])
    orders = folder / "compras.csv"
    orders.write_bytes(written(rows, "\t").encode("utf-16"))
    return items, orders


def written(rows: list[list], delimiter: str) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    return buffer.getvalue()
