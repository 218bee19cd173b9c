"""Pictures of items: from an address as the shop wrote it to RGB pixels that any MLLM's processor takes.

Nothing about a picture is trusted: not its address, its name's ending, its size or its bytes. Whatever is wrong with it
becomes a `PictureError` with a short reason; it never takes the job down and never costs more than MAX_PIXELS of
memory. Addresses are file paths, members of a .zip archive, or, below the places that the configuration names, on S3
or a web server (remote.py).
"""

import errno
import hashlib
import os
import posixpath
import stat
import warnings
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from math import sqrt

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage.remote import SCHEME, Remote
from mmsrarec.storage.transfer import FetchError

MAX_BYTES = 64 * 2**20  # of a picture's file
MAX_PIXELS = 50_000_000  # decoded at once; a JPEG above it is decoded reduced where that is enough
MAX_SCANS = 256  # of a JPEG, each of which goes over the whole picture; encoders make some ten
MAX_ASPECT = 20  # a thinner picture is padded with white (Qwen2.5-VL refuses above 200)
THREADS = min(4, os.cpu_count() or 1)
# Content decides, not the name; formats that start other programs (EPS) or are documents are left out.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")

warnings.filterwarnings("ignore", module="PIL")  # on broken tags: the pixels decide
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit stands before a JPEG can be decoded reduced; _decode has ours


class PictureError(Exception):
    """A picture that cannot be shown to the model.

    `reason` is one of missing, empty, not_a_picture, truncated, broken, too_large, outside_folder, unreadable,
    unsupported_address, and on S3 or the web forbidden, not_allowed, unreachable.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Pictures:
    """The pictures below inputs.images: a folder, here, on S3 or the web, a .zip archive, or (None) paths from the
    working directory; and those of inputs.image_sources.

    With a folder an address must stay inside it (a link in the folder may lead out: the folder is the shop's own);
    without one an absolute path is taken as it is. Raises InputError where the folder or archive cannot be opened.
    May be used by many threads at once.
    """

    def __init__(self, config: Config):
        self._pixels = config.summarize_items.image_pixels
        self._folder = config.inputs.images
        self._archive, self._remote = None, Remote(config)
        if self._remote.base or self._folder is None or os.path.isdir(self._folder):
            return
        if not os.path.isfile(self._folder):
            raise InputError(f"inputs.images: {self._folder}: no such folder or .zip archive")
        try:
            self._archive = zipfile.ZipFile(self._folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"inputs.images: {self._folder}: neither a folder nor a .zip archive: {error}") from None

    def open(self, address: str) -> Image.Image:
        """RGB pixels of at most summarize_items.image_pixels, upright, on white; raises PictureError only."""
        if self._remote.base or SCHEME.match(address):
            content = self._fetched(address)
        else:
            content = self._member(self._archive, address) if self._archive else self._file(address)
        if not content:
            raise PictureError("empty", "0 bytes")
        if len(content) > MAX_BYTES:
            raise PictureError("too_large", f"more than {MAX_BYTES:,} bytes")
        return _decode(content, self._pixels)

    def open_or_blank(self, address: str) -> tuple[Image.Image, bool]:
        """As `open`, and True; a white picture and False where it cannot be opened."""
        try:
            return self.open(address), True
        except PictureError:
            return blank(), False

    def hashes(self, addresses: Iterable[str | None]) -> Iterator[tuple[str | None, str | None]]:
        """Per address, in order, (image_hash, None) or (None, why not); decoded in threads, a few at a time."""
        with ThreadPoolExecutor(THREADS) as threads:
            addresses = iter(addresses)
            waiting = deque(threads.submit(self._hash, address) for address in islice(addresses, 4 * THREADS))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(threads.submit(self._hash, address) for address in islice(addresses, 1))

    def _hash(self, address: str | None) -> tuple[str | None, str | None]:
        if not address:
            return None, "no_picture"
        try:
            return image_hash(self.open(address)), None
        except PictureError as error:
            return None, error.reason

    def _fetched(self, address: str) -> bytes:
        try:
            return self._remote.read(address, MAX_BYTES)
        except FetchError as error:
            raise PictureError(error.reason, error.detail) from None

    def _member(self, archive: zipfile.ZipFile, address: str) -> bytes:
        name = posixpath.normpath(address)
        if name.startswith(("../", "/")) or name == "..":
            raise PictureError("outside_folder", "the address leaves the archive")
        try:
            with archive.open(name) as file:
                return file.read(MAX_BYTES + 1)
        except KeyError:
            raise PictureError("missing", "no such member in the archive") from None
        except Exception as error:  # encrypted, damaged or of an unknown compression: zipfile has no common error
            raise PictureError("unreadable", str(error)) from None

    def _file(self, address: str) -> bytes:
        try:
            path = self._path(address)
            if not stat.S_ISREG(os.stat(path).st_mode):  # a folder, or a pipe that would never end
                raise PictureError("not_a_picture", "not a file")
            with open(path, "rb") as file:
                return file.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL or a lone surrogate in the name
            raise PictureError("missing", "no such file") from None
        except OSError as error:
            reason = "missing" if error.errno == errno.ENAMETOOLONG else "unreadable"
            raise PictureError(reason, error.strerror or "") from None

    def _path(self, address: str) -> str:
        folder = os.path.abspath(self._folder or ".")
        path = os.path.normpath(os.path.join(folder, address))
        if self._folder is None and os.path.isabs(address):
            return path
        if os.path.commonpath([folder, path]) != folder:
            raise PictureError("outside_folder", "the address leaves inputs.images")
        return path


def image_hash(image: Image.Image) -> str:
    """Hash of the decoded pixels and their size, so the same picture in another file is the same."""
    return hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode() + image.tobytes()).hexdigest()[:32]


def blank() -> Image.Image:
    """A white picture, for where one must stand."""
    return Image.new("RGB", (56, 56), "white")


def thumbnail(image: Image.Image, side: int) -> bytes:
    """A WebP of the picture, nowhere longer than `side` pixels; some 2 kB at 112."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    written = BytesIO()
    small.save(written, "WEBP", quality=72, method=4)
    return written.getvalue()


def _decode(content: bytes, pixels: int) -> Image.Image:
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise PictureError("not_a_picture", "no known picture format") from None
    except Exception as error:
        raise PictureError("broken", str(error)) from None
    # Within the data of a scan these two bytes cannot be.
    if image.format == "JPEG" and (scans := content.count(b"\xff\xda")) > MAX_SCANS:
        raise PictureError("too_large", f"{scans:,} scans; at most {MAX_SCANS}")
    try:
        return _fit(_white(_upright(_load(image, pixels))), pixels)
    except PictureError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, …
        raise PictureError("truncated" if "truncated" in str(error).lower() else "broken", str(error)) from None


def _load(image: Image.Image, pixels: int) -> Image.Image:
    """Decode; the first frame of an animation. A JPEG far larger than needed is decoded at 1/2, 1/4 or 1/8."""
    progressive = bool(image.info.get("progressive"))  # its coefficients are held in full at any scale
    full = image.width * image.height
    shrink = 2 * sqrt(pixels / full)
    if shrink < 1:
        image.draft(None, (round(image.width * shrink) or 1, round(image.height * shrink) or 1))
    if image.width * image.height > MAX_PIXELS or (progressive and full > MAX_PIXELS):
        raise PictureError("too_large", f"{full:,} pixels; at most {MAX_PIXELS:,}")
    if (tile := _tile_pixels(image)) > MAX_PIXELS:
        raise PictureError("too_large", f"a tile of {tile:,} pixels; at most {MAX_PIXELS:,}")
    image.load()
    return image


def _tile_pixels(image: Image.Image) -> int:
    """Pixels of a tile of a TIFF, 0 for others: it is decoded whole, however little of it the picture shows."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(TiffImagePlugin.TILEWIDTH, 0)) * int(tags.get(TiffImagePlugin.TILELENGTH, 0))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block does not make the pixels worse
        return image


def _white(image: Image.Image) -> Image.Image:
    """RGB; more than 8 bits are scaled, not clipped, and what is transparent shows white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, "white")
        ground.paste(image, mask=image.getchannel("A"))
        return ground
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit values over 257; whatever else has more than 8 bits from its lowest to its highest value."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
    low, high = 0.0, 65535.0
    if image.mode == "F" or values.min() < low or values.max() > high:
        low, high = float(values.min()), float(values.max())
    factor = 255.0 / max(high - low, 1e-12)
    scaled = np.clip(values * factor - low * factor, 0, 255)  # not of the difference, which may be infinite
    return Image.fromarray(scaled.round().astype(np.uint8))


def _fit(image: Image.Image, pixels: int) -> Image.Image:
    """Scale down to `pixels`, and pad a very thin picture with white, in one step so neither can grow large."""
    width = max(image.width, -(-image.height // MAX_ASPECT))
    height = max(image.height, -(-image.width // MAX_ASPECT))
    scale = min(1.0, sqrt(pixels / (width * height)))
    if scale < 1:
        size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    if max(image.size) <= MAX_ASPECT * min(image.size):
        return image
    ground = Image.new("RGB", (max(1, int(width * scale)), max(1, int(height * scale))), "white")
    ground.paste(image, ((ground.width - image.width) // 2, (ground.height - image.height) // 2))
    return ground
