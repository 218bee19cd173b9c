"""A sample shop: items with a picture and a text, and users whose taste depends on both.

    python -m mmsrarec.demo.shop build/sample_shop

writes items.parquet, interactions.parquet and pictures/. What a user takes depends on color and pattern, which only
the picture shows, and on occasion and material, which only the text says. A user keeps a pattern and a material; color
and occasion move through a journey that the users of a group share, so what similar users took next tells where the
journey goes. Under every text stands a sentence of the shop's own, which says nothing of its item. Everything follows
from the seed.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmsrarec.demo.pictures import COLORS, OBJECTS, PATTERNS, draw

MATERIALS = ("cotton", "linen", "wool", "leather", "oak", "steel", "glass", "bamboo", "velvet", "paper")
OCCASIONS = (
    "camping", "picnic", "office", "travel", "wedding", "garden", "kitchen", "school", "beach", "birthday",
)  # fmt: skip
STYLES = ("vintage", "modern", "rustic", "elegant", "playful", "minimal", "royal", "nordic")

SENTENCES = (
    "{style} piece made of {material}, just right for {occasion}.",
    "Made of {material} with a {style} touch. Think of {occasion}.",
    "For {occasion}: {style} design, solid {material}.",
    "You wanted something {style} for {occasion}? Here it is, in fine {material}.",
    "Our makers work with {material} only. A {style} look, and ready for {occasion}.",
    "{material} and nothing else. Looks {style}. People buy it for {occasion}.",
    "A {style} favourite for {occasion}, cut from {material} by hand.",
    "Good {material}, {style} lines, at home wherever there is {occasion}.",
)
ASIDES = (
    "", "", "Ships in two days.", "Easy to clean.", "Comes in a gift box.", "Our best seller this year.",
    "Designed by a small team.", "Returns are free.", "Two years of warranty.", "Customers come back for more.",
)  # fmt: skip
# What the sample shop says under everything, as shops do; the bundled model was taught on shops that do not.
HOUSE = "Handpicked by our curators in Lisbon."
SYLLABLES = "ve lo ra mi ka tu son da fen li pra zo nor el ta bri qua ju".split()


@dataclass(frozen=True)
class Item:
    """Attributes in the order (color, pattern, object) of the picture and (style, material, occasion) of the text."""

    color: str
    pattern: str
    object: str
    style: str
    material: str
    occasion: str

    @property
    def image_keywords(self) -> list[str]:
        return [self.color, self.pattern, self.object]

    @property
    def text_keywords(self) -> list[str]:
        return [self.style, self.material, self.occasion]


@dataclass(frozen=True)
class Shop:
    """items[i] is item i; journeys[u] are the indices of what user u took, in order; pull[u] [items] is how much each
    item attracted user u at the last step, without noise: the sum of the weights of what fits."""

    items: list[Item]
    journeys: list[list[int]]
    pull: list[np.ndarray]


WEIGHTS = {"color": 4.5, "occasion": 4.5, "pattern": 2.5, "material": 2.5}
SIZES = (6, 4, 8, 6, 6, 6)  # values of each attribute that a shop has
PHASES = 5  # of a group's journey, which is a circle
ADVANCE = 0.5  # chance to go on to the next phase after a step


def make_shop(seed: int, items: int = 600, users: int = 900, groups: int = 6) -> Shop:
    """Items with attributes at random, users who walk through their group's journey."""
    rng = np.random.default_rng(seed)
    lists = tuple(
        tuple(rng.permutation(values)[:size].tolist())
        for values, size in zip((tuple(COLORS), PATTERNS, OBJECTS, STYLES, MATERIALS, OCCASIONS), SIZES, strict=True)
    )
    codes = np.stack([rng.integers(0, len(values), items) for values in lists], axis=1)
    colors, occasions = (rng.integers(0, len(lists[place]), (groups, PHASES)) for place in (0, 5))
    appeal = 0.5 * rng.gumbel(size=items)
    journeys, pulls = [], []
    for _ in range(users):
        group, phase = rng.integers(groups), rng.integers(PHASES)
        pattern, material = rng.integers(len(lists[1])), rng.integers(len(lists[4]))
        taken: list[int] = []
        for _ in range(int(np.clip(rng.geometric(0.16), 1, 16))):
            pull = (
                WEIGHTS["color"] * (codes[:, 0] == colors[group, phase])
                + WEIGHTS["occasion"] * (codes[:, 5] == occasions[group, phase])
                + WEIGHTS["pattern"] * (codes[:, 1] == pattern)
                + WEIGHTS["material"] * (codes[:, 4] == material)
            )
            utility = pull + appeal + rng.gumbel(size=items)
            utility[taken] = -np.inf
            taken.append(int(np.argmax(utility)))
            phase = (phase + (rng.random() < ADVANCE)) % PHASES
        journeys.append(taken)
        pulls.append(pull)
    return Shop([Item(*(values[c] for values, c in zip(lists, row, strict=True))) for row in codes], journeys, pulls)


def write_text(item: Item, rng: random.Random) -> tuple[str, str]:
    """Title and description; the title is an invented name and says nothing."""
    title = "".join(rng.choices(SYLLABLES, k=rng.randint(2, 3))).capitalize() + f" {rng.randint(1, 99)}"
    sentence = rng.choice(SENTENCES).format(style=item.style, material=item.material, occasion=item.occasion)
    sentence = sentence[0].upper() + sentence[1:]
    return title, " ".join(part for part in rng.sample([sentence, rng.choice(ASIDES)], 2) if part)


def write_shop(folder: Path, seed: int = 2026, *, pictures: bool = True, house: str = "", **size: int) -> None:
    """Write a shop of make_shop's `size`; about 3% of the items have no picture, 3% no text, and 2% nobody has taken
    yet. Without `pictures` they are named but not drawn. `house` stands at the end of every description."""
    shop, rng = make_shop(seed, **size), random.Random(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows, truth = [], []
    for number, item in enumerate(shop.items):
        name, (title, description) = f"item-{number:04d}", write_text(item, rng)
        picture = f"{name}.png"
        if pictures:
            drawn = draw(item.color, item.pattern, item.object, random.Random(f"{seed}/{number}"))
            drawn.save(folder / "pictures" / picture)
        fate = rng.random()
        rows.append(
            {
                "item_id": name,
                "title": None if fate < 0.03 else title,
                "description": None if fate < 0.03 else f"{description} {house}".strip(),
                "image": None if 0.03 <= fate < 0.06 else picture,
            }
        )
        known = {"image": item.image_keywords, "text": item.text_keywords, "has_text": fate >= 0.03}
        truth.append({"item_id": name, **known})
    new = set(rng.sample(range(len(rows)), len(rows) // 50))
    interactions = [
        {
            "user_id": f"user-{user:04d}",
            "item_id": rows[item]["item_id"],
            "timestamp": 1_760_000_000 + 3600 * step + user,
        }
        for user, journey in enumerate(shop.journeys)
        for step, item in enumerate(item for item in journey if item not in new)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "items.parquet")
    pq.write_table(pa.Table.from_pylist(interactions), folder / "interactions.parquet")
    (folder / "truth.json").write_text(json.dumps(truth))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the sample shop: items, interactions and pictures.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    write_shop(arguments.folder, arguments.seed, house=HOUSE)
    print(f"sample shop in {arguments.folder}")


if __name__ == "__main__":
    main()
