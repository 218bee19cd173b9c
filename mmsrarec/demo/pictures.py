"""Product pictures, drawn: an object in a color with a pattern, somewhere on a light background.

What a picture shows (color, pattern, object) is said nowhere in the item's text.
"""

import random
from collections.abc import Callable

from PIL import Image, ImageDraw

COLORS = {
    "red": (214, 40, 40),
    "orange": (244, 140, 20),
    "yellow": (250, 218, 40),
    "green": (40, 160, 70),
    "turquoise": (40, 200, 200),
    "blue": (40, 80, 210),
    "purple": (130, 50, 170),
    "pink": (250, 140, 190),
    "brown": (125, 75, 35),
    "black": (35, 35, 38),
}
PATTERNS = ("plain", "striped", "dotted", "checked", "ringed")
# Parts of an object in the unit square: kind, x and y of its points, and 0 where the part is cut out.
SILHOUETTES: dict[str, list[tuple]] = {
    "mug": [("rectangle", (0.1, 0.15, 0.7, 0.9)), ("ring", (0.5, 0.3, 0.98, 0.75))],
    "lamp": [
        ("polygon", (0.3, 0.05, 0.7, 0.05, 0.95, 0.5, 0.05, 0.5)),
        ("rectangle", (0.45, 0.5, 0.55, 0.85)),
        ("rectangle", (0.25, 0.85, 0.75, 0.95)),
    ],
    "bag": [("polygon", (0.15, 0.4, 0.85, 0.4, 1.0, 0.97, 0.0, 0.97)), ("arch", (0.28, 0.05, 0.72, 0.75))],
    "chair": [
        ("rectangle", (0.15, 0.03, 0.3, 0.97)),
        ("rectangle", (0.15, 0.5, 0.85, 0.64)),
        ("rectangle", (0.7, 0.5, 0.85, 0.97)),
    ],
    "clock": [
        ("ellipse", (0.03, 0.03, 0.97, 0.97)),
        ("rectangle", (0.46, 0.18, 0.54, 0.5), 0),
        ("rectangle", (0.46, 0.46, 0.76, 0.54), 0),
    ],
    "vase": [
        ("polygon", (0.35, 0.03, 0.65, 0.03, 0.58, 0.25, 0.9, 0.6, 0.68, 0.97, 0.32, 0.97, 0.1, 0.6, 0.42, 0.25)),
    ],
    "bottle": [("rectangle", (0.42, 0.02, 0.58, 0.3)), ("rounded", (0.27, 0.28, 0.73, 0.98))],
    "hat": [("ellipse", (0.0, 0.62, 1.0, 0.9)), ("rectangle", (0.25, 0.2, 0.75, 0.75))],
    "shirt": [
        ("polygon", (0.3, 0.08, 0.7, 0.08, 1.0, 0.35, 0.87, 0.5, 0.74, 0.4, 0.74, 0.95, 0.26, 0.95, 0.26, 0.4)),
        ("polygon", (0.3, 0.08, 0.26, 0.4, 0.13, 0.5, 0.0, 0.35)),
    ],
    "box": [("rectangle", (0.03, 0.15, 0.97, 0.9))],
}
OBJECTS = tuple(SILHOUETTES)
LINE = {"ring": 0.09, "arch": 0.08}  # width of a drawn line


def draw(color: str, pattern: str, object_name: str, rng: random.Random, size: int = 224) -> Image.Image:
    """An RGB picture of `size` x `size` pixels; place, scale, shade and background vary with `rng`."""
    level = rng.randint(225, 255)
    background = tuple(max(0, level - rng.randint(0, 12)) for _ in range(3))
    picture = Image.new("RGB", (size, size), background)
    scale = rng.uniform(0.68, 0.92) * size
    left, top = (rng.uniform(0, size - scale) for _ in range(2))
    mask = Image.new("L", (size, size), 0)
    _silhouette(ImageDraw.Draw(mask), object_name, lambda x, y: (left + x * scale, top + y * scale))
    shade = tuple(min(255, max(0, channel + rng.randint(-12, 12))) for channel in COLORS[color])
    picture.paste(_fabric(shade, pattern, size, rng), mask=mask)
    return picture


def _fabric(color: tuple[int, ...], pattern: str, size: int, rng: random.Random) -> Image.Image:
    """A sheet of the color with the pattern in white."""
    sheet = Image.new("RGB", (size, size), color)
    pen, step = ImageDraw.Draw(sheet), size // 9
    start, white = rng.randint(0, step), (255, 255, 255)
    places = range(start - step, size + step, step)
    if pattern in ("striped", "checked"):
        for y in places:
            pen.rectangle((0, y, size, y + step * 0.35), fill=white)
    if pattern == "checked":
        for x in places:
            pen.rectangle((x, 0, x + step * 0.35, size), fill=white)
    if pattern == "dotted":
        for x in places:
            for y in places:
                pen.ellipse((x, y, x + step * 0.55, y + step * 0.55), fill=white)
    if pattern == "ringed":
        center = (size / 2 + rng.uniform(-step, step), size / 2 + rng.uniform(-step, step))
        for radius in range(step, size, step):
            box = (center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius)
            pen.ellipse(box, outline=white, width=max(2, int(step * 0.35)))
    return sheet


def _silhouette(pen: ImageDraw.ImageDraw, name: str, at: Callable[[float, float], tuple[float, float]]) -> None:
    """Draw the object's parts; `at` maps coordinates of the unit square to pixels."""
    for kind, numbers, *rest in SILHOUETTES[name]:
        points = [at(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
        fill, width = (rest or [255])[0], max(4, int(at(LINE[kind], 0)[0] - at(0, 0)[0])) if kind in LINE else 0
        if kind == "polygon":
            pen.polygon(points, fill=fill)
        elif kind == "rectangle":
            pen.rectangle((*points[0], *points[1]), fill=fill)
        elif kind == "rounded":
            pen.rounded_rectangle((*points[0], *points[1]), radius=8, fill=fill)
        elif kind == "ellipse":
            pen.ellipse((*points[0], *points[1]), fill=fill)
        elif kind == "ring":
            pen.ellipse((*points[0], *points[1]), outline=fill, width=width)
        elif kind == "arch":
            pen.arc((*points[0], *points[1]), 180, 360, fill=fill, width=width)
