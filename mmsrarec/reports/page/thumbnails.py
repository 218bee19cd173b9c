"""Item pictures for the page: small, each once however often it is shown, and all together within a budget."""

import base64
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from mmsrarec.config import Config
from mmsrarec.errors import InputError, StoreError
from mmsrarec.reports.cards import ItemCard
from mmsrarec.storage.objects import THREADS, PictureError, Pictures, thumbnail

SIDE = 112  # pixels
TOGETHER = 64  # pictures opened before the budget is looked at
FULL = "page_full"
BUDGET = 5 * 2**20  # characters of all pictures of a page


class Thumbnails:
    """Pictures by item_id as data: addresses; `left_out` counts those that are not there, by reason."""

    def __init__(self, config: Config, budget: int = BUDGET):
        self._left = budget
        self.addresses: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()
        self._asked: set[str] = set()
        try:
            self._pictures: Pictures | None = Pictures(config)
        except (InputError, StoreError):  # the page may be made where the pictures are not
            self._pictures = None

    def add(self, items: Iterable[ItemCard]) -> None:
        """Open the pictures of these items, in their order, until the budget is spent."""
        new = [item for item in dict.fromkeys(items) if item.item_id not in self._asked]
        self._asked |= {item.item_id for item in new}
        with ThreadPoolExecutor(THREADS) as threads:
            for start in range(0, len(new), TOGETHER):
                part = new[start : start + TOGETHER]
                if self.left_out[FULL]:
                    self.left_out[FULL] += len(part)
                    continue
                for item, (content, why) in zip(part, threads.map(self._open, part), strict=True):
                    self._keep(item.item_id, content, why)

    def _keep(self, item_id: str, content: str | None, why: str) -> None:
        if content is not None and len(content) > self._left:
            content, why = None, FULL
        if content is None:
            self.left_out[why] += 1
        else:
            self._left -= len(content)
            self.addresses[item_id] = content

    def _open(self, item: ItemCard) -> tuple[str | None, str]:
        if not item.image:
            return None, "no_picture"
        if self._pictures is None:
            return None, "no_pictures_here"
        try:
            small = thumbnail(self._pictures.open(item.image), SIDE)
        except PictureError as error:
            return None, error.reason
        except StoreError:
            return None, "unreachable"
        return f"data:image/webp;base64,{base64.b64encode(small).decode()}", ""
