"""Every kind of picture a shop can send: it becomes bounded RGB pixels or a PictureError, never a crash."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import objects
from mmsrarec.storage.objects import PictureError, Pictures, image_hash

PIXELS = 448 * 448


def pictures(folder) -> Pictures:
    return Pictures(Config(inputs={"items": "-", "interactions": "-", "images": folder and str(folder)}))


def reason(folder, address: str) -> str:
    with pytest.raises(PictureError) as caught:
        pictures(folder).open(address)
    return caught.value.reason


def noise(size=(120, 90)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "bmp", "tif"])
def test_common_formats(tmp_path, ending):
    Image.new("RGB", (60, 50), (200, 10, 10)).save(tmp_path / f"a.{ending}")
    image = pictures(tmp_path).open(f"a.{ending}")
    assert (image.mode, image.size) == ("RGB", (60, 50))
    assert np.abs(np.array(image.getpixel((30, 25))) - (200, 10, 10)).max() <= 8


def test_content_decides_not_the_name(tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert pictures(tmp_path).open("a.jpg").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, ending):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    decoded = np.asarray(pictures(tmp_path).open(f"a.{ending}"))[:, :, 0]
    assert np.abs(decoded - values / 257).max() <= 0.51


def test_float_pixels_are_stretched(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5], [np.nan, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert np.asarray(pictures(tmp_path).open("a.tif"))[:, :, 0].tolist() == [[0, 128], [0, 255]]


def test_cmyk_palette_and_bilevel(tmp_path):
    Image.new("CMYK", (20, 20), (255, 0, 0, 0)).save(tmp_path / "cmyk.jpg")
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(tmp_path / "palette.png")
    Image.new("1", (20, 20), 1).save(tmp_path / "bilevel.png")
    shop = pictures(tmp_path)
    assert shop.open("cmyk.jpg").getpixel((9, 9)) == (0, 255, 255)
    assert shop.open("palette.png").getpixel((9, 9)) == (10, 200, 30)
    assert shop.open("bilevel.png").getpixel((9, 9)) == (255, 255, 255)


@pytest.mark.parametrize("mode, color, shown", [("RGBA", (255, 0, 0, 0), 255), ("LA", (0, 128), 127)])
def test_transparency_shows_white(tmp_path, mode, color, shown):
    Image.new(mode, (20, 20), color).save(tmp_path / "a.png")
    assert pictures(tmp_path).open("a.png").getpixel((9, 9)) == (shown, shown, shown)


def test_transparent_palette_shows_white(tmp_path):
    Image.new("P", (20, 20), 0).save(tmp_path / "a.gif", transparency=0)
    assert pictures(tmp_path).open("a.gif").getpixel((9, 9)) == (255, 255, 255)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path, ending):
    frames = [Image.new("RGB", (60, 50), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
    red, _, blue = pictures(tmp_path).open(f"a.{ending}").getpixel((30, 25))
    assert red > 200 and blue < 50


def test_exif_rotation(tmp_path):
    image = Image.new("RGB", (60, 30), "red")
    exif = image.getexif()
    exif[0x112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert pictures(tmp_path).open("a.jpg").size == (30, 60)


def test_broken_exif_is_no_reason_to_refuse(tmp_path):
    Image.new("RGB", (60, 30), "red").save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert pictures(tmp_path).open("a.jpg").size == (60, 30)


def test_scaled_down_to_the_setting(tmp_path):
    noise((1500, 1000)).save(tmp_path / "a.png")
    image = pictures(tmp_path).open("a.png")
    assert 0.98 * PIXELS < image.width * image.height <= PIXELS
    assert image.width / image.height == pytest.approx(1.5, abs=0.01)


def test_a_huge_jpeg_is_decoded_reduced_and_a_huge_png_refused(tmp_path):
    huge = Image.new("L", (20_000, 20_000), 3)
    huge.save(tmp_path / "a.jpg")
    huge.save(tmp_path / "a.png")
    assert pictures(tmp_path).open("a.jpg").size == (448, 448)
    assert reason(tmp_path, "a.png") == "too_large"


def test_a_huge_progressive_jpeg_is_refused(tmp_path):
    Image.new("L", (9_000, 9_000), 3).save(tmp_path / "a.jpg", progressive=True)
    assert reason(tmp_path, "a.jpg") == "too_large"


def test_too_many_bytes(tmp_path, monkeypatch):
    noise().save(tmp_path / "a.png")
    monkeypatch.setattr(objects, "MAX_BYTES", 1000)
    assert reason(tmp_path, "a.png") == "too_large"


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (2, 65_000), (1, 1), (3, 50)])
def test_thin_pictures_are_padded(tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    image = pictures(tmp_path).open("a.png")
    assert max(image.size) <= 1.1 * objects.MAX_ASPECT * min(image.size)
    assert image.width * image.height <= PIXELS
    assert (np.asarray(image) == (255, 0, 0)).all(axis=2).any()


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "tif"])
@pytest.mark.parametrize("kept", [4, 30, 400, 0.5, 0.9])
def test_truncated_anywhere(tmp_path, ending, kept):
    noise().save(tmp_path / f"whole.{ending}")
    content = (tmp_path / f"whole.{ending}").read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert reason(tmp_path, f"a.{ending}") in {"truncated", "broken", "not_a_picture"}


def test_flipped_bytes_never_crash(tmp_path):
    random = np.random.default_rng(1)
    for ending in ("jpg", "png", "gif", "webp", "tif", "bmp"):
        noise((40, 30)).save(tmp_path / f"whole.{ending}")
        content = np.frombuffer((tmp_path / f"whole.{ending}").read_bytes(), dtype=np.uint8)
        for _ in range(40):
            damaged = content.copy()
            damaged[random.integers(0, len(damaged), 6)] = random.integers(0, 256, 6)
            (tmp_path / "a").write_bytes(damaged.tobytes())
            try:
                assert pictures(tmp_path).open("a").mode == "RGB"
            except PictureError as error:
                assert error.reason in {"truncated", "broken", "not_a_picture", "too_large"}


@pytest.mark.parametrize(
    "address, expected",
    [
        ("empty.png", "empty"),
        ("text.png", "not_a_picture"),
        ("script.eps", "not_a_picture"),
        ("below", "not_a_picture"),
        ("absent.png", "missing"),
        ("text.png/x.png", "missing"),
        ("a\0b.png", "missing"),
        ("\ud800.png", "missing"),
        ("x" * 5000, "missing"),
        ("../../etc/passwd", "outside_folder"),
        ("below/../../outside.png", "outside_folder"),
        ("/etc/passwd", "outside_folder"),
        ("https://example.org/a.png", "not_allowed"),
        ("s3://bucket/a.png", "not_allowed"),
        ("file:///etc/passwd", "unsupported_address"),
        ("data:image/png;base64,AAAA", "unsupported_address"),
    ],
)
def test_addresses_that_lead_to_no_picture(tmp_path, address, expected):
    folder = tmp_path / "shop"
    (folder / "below").mkdir(parents=True)
    noise().save(tmp_path / "outside.png")
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture")
    (folder / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    assert reason(folder, address) == expected


def test_archive_members(tmp_path):
    noise().save(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "images/a.png")
        archive.writestr("images/empty.png", b"")
    shop = pictures(tmp_path / "shop.zip")
    expected = image_hash(pictures(tmp_path).open("a.png"))
    assert image_hash(shop.open("images/a.png")) == image_hash(shop.open("./images/../images/a.png")) == expected
    for address, why in {
        "images/empty.png": "empty",
        "images/b.png": "missing",
        "images": "missing",
        "../a.png": "outside_folder",
        "/etc/passwd": "outside_folder",
    }.items():
        assert reason(tmp_path / "shop.zip", address) == why


def test_a_damaged_archive_member(tmp_path):
    noise().save(tmp_path / "a.bmp")
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        archive.write(tmp_path / "a.bmp", "a.bmp")
    content = bytearray((tmp_path / "shop.zip").read_bytes())
    content[2000] ^= 255
    (tmp_path / "shop.zip").write_bytes(content)
    assert reason(tmp_path / "shop.zip", "a.bmp") == "unreadable"


@pytest.mark.parametrize("name", ["absent", "text.zip"])
def test_a_folder_that_is_not_there_is_said_at_once(tmp_path, name):
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(InputError, match="inputs.images"):
        pictures(tmp_path / name)


def test_without_a_folder_an_absolute_path_is_taken(tmp_path):
    noise().save(tmp_path / "a.png")
    assert pictures(None).open(str(tmp_path / "a.png")).size == (120, 90)
    assert reason(None, "../../../../etc/passwd") == "outside_folder"


def test_hashes_are_of_pixels_in_the_order_asked(tmp_path):
    noise().save(tmp_path / "a.png")
    noise().save(tmp_path / "b.tif")
    noise((90, 120)).save(tmp_path / "c.png")
    (tmp_path / "empty.png").touch()
    found = list(pictures(tmp_path).hashes(["a.png", None, "empty.png", "b.tif", "c.png", ""] * 20))
    assert found == found[:6] * 20
    assert found[0] == found[3] and found[0][0] != found[4][0]
    assert [why for _, why in found[:6]] == [None, "no_picture", "empty", None, None, "no_picture"]
