import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from srlib.errors import SrlibError
from srlib.imaging.folders import list_images
from srlib.imaging.read import MAX_PIXELS, image_size, read_image
from srlib.imaging.write import write_png


def pixels(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def png(width, height, depth, color, rows, extra=b""):
    """A PNG put together by hand, as the specification says."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_lossless_kinds_give_the_pixels_that_were_written(tmp_path, suffix):
    image = pixels(33, 47, 3)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(image).save(path, lossless=True)
    read = read_image(path)
    assert read.dtype == np.uint8 and read.flags.c_contiguous
    np.testing.assert_array_equal(read, image)
    assert image_size(path) == (33, 47)


def test_jpeg_agrees_with_a_second_decoder(tmp_path):
    smooth = cv2.GaussianBlur(pixels(64, 80, 3), (0, 0), 3)
    path = tmp_path / "a.JPG"
    Image.fromarray(smooth).save(path, "JPEG", quality=95)
    other = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB).astype(int)
    assert np.abs(read_image(path) - other).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".gif"])
def test_grayscale_is_repeated(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.full((20, 30), 77, np.uint8)).save(path)
    np.testing.assert_array_equal(read_image(path), np.full((20, 30, 3), 77))


def test_one_bit_and_palette(tmp_path):
    bits = pixels(20, 30) > 127
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png"), np.repeat(bits[..., None] * 255, 3, 2))
    palette = Image.fromarray(pixels(20, 30) % 7, "P")
    colors = pixels(7, 3, seed=1)
    palette.putpalette(colors.tobytes())
    for name in ("p.png", "p.gif", "p.bmp", "p.tif"):
        palette.save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), colors[pixels(20, 30) % 7])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_composited_over_white(tmp_path, suffix):
    image = pixels(20, 30, 4)
    image[0, :, 3], image[1, :, 3] = 0, 255
    Image.fromarray(image).save(tmp_path / f"a{suffix}", lossless=True, exact=True)
    color, alpha = image[..., :3].astype(int), image[..., 3:].astype(int)
    expected = (2 * (color * alpha + 255 * (255 - alpha)) + 255) // 510  # rounded
    read = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read, expected)
    assert (read[0] == 255).all()
    np.testing.assert_array_equal(read[1], image[1, :, :3])


def test_palette_and_color_key_transparency_show_white(tmp_path):
    image = np.full((8, 8, 3), 10, np.uint8)
    image[:4] = (1, 2, 3)
    Image.fromarray(image).save(tmp_path / "key.png", transparency=(1, 2, 3))
    palette = Image.fromarray((image[..., 0] == 1).astype(np.uint8), "P")
    palette.putpalette([10, 10, 10, 1, 2, 3])
    palette.save(tmp_path / "palette.png", transparency=1)
    palette.save(tmp_path / "palette.gif", transparency=1)
    for name in ("key.png", "palette.png", "palette.gif"):
        read = read_image(tmp_path / name)
        assert (read[:4] == 255).all() and (read[4:] == 10).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_rounded(tmp_path, suffix, channels):
    image = pixels(20, 30, channels, dtype=np.uint16)
    image[..., 3:] = 65535
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), image[..., [2, 1, 0, 3][:channels]] if channels > 1 else image)
    expected = np.floor(image[..., :3] / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(read_image(path), np.broadcast_to(expected, (20, 30, 3)))


def test_sixteen_bit_gray_with_alpha(tmp_path):
    gray, alpha = pixels(4, 6, dtype=np.uint16), np.full((4, 6), 65535, np.uint16)
    rows = b"".join(b"\0" + np.dstack([gray, alpha])[row].astype(">u2").tobytes() for row in range(4))
    (tmp_path / "a.png").write_bytes(png(6, 4, 16, 4, rows))
    expected = np.floor(gray / 257 + 0.5)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(expected[..., None], 3, 2))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(tmp_path, suffix):
    Image.new("CMYK", (30, 20), (0, 255, 255, 0)).save(tmp_path / f"a{suffix}", quality=100)
    red = read_image(tmp_path / f"a{suffix}").reshape(-1, 3).mean(axis=0)
    assert red[0] > 250 and red[1] < 5 and red[2] < 5


# Where the stored first row and first column lie in the upright image (EXIF 2.3, table 6).
CORNERS = {1: "TL", 2: "TR", 3: "BR", 4: "BL", 5: "LT", 6: "RT", 7: "RB", 8: "LB"}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".16.png", ".16.tif"])
def test_orientation(tmp_path, orientation, suffix):
    image = np.zeros((16, 32, 3), np.uint8)
    image[:4, 8:24] = (255, 0, 0)  # the stored first row is red
    image[4:12, :4] = (0, 0, 255)  # the stored first column is blue
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    if suffix == ".16.png":
        Image.fromarray(image).save(buffer, "PNG", exif=exif)
        rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in image)
        chunk = buffer.getvalue()
        start = chunk.index(b"eXIf") - 4 if b"eXIf" in chunk else len(chunk)
        size = struct.unpack(">I", chunk[start : start + 4])[0] + 12 if start < len(chunk) else 0
        path.write_bytes(png(32, 16, 16, 2, rows, chunk[start : start + size]))
    elif suffix == ".16.tif":
        path.write_bytes(tiff16(image.astype("<u2") * 257, orientation))
    else:
        kind = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".webp": "WEBP"}[suffix]
        Image.fromarray(image).save(path, kind, exif=exif, quality=100, lossless=True)
    read = read_image(path)
    assert read.shape == ((16, 32, 3) if orientation <= 4 else (32, 16, 3))
    assert image_size(path) == read.shape[:2]
    height, width = read.shape[:2]
    middle = {"T": (1, width // 2), "B": (height - 2, width // 2), "L": (height // 2, 1), "R": (height // 2, width - 2)}
    row, column = (read[middle[side]] for side in CORNERS[orientation])
    assert row[0] > 200 and row[2] < 50
    assert column[2] > 200 and column[0] < 50


def tiff16(image, orientation):
    """A 16-bit RGB TIFF put together by hand (TIFF 6.0, section 6)."""
    height, width, _ = image.shape
    tags = [(256, 4, width), (257, 4, height), (258, 3, None), (259, 3, 1), (262, 3, 2), (273, 4, None)]
    tags += [(274, 3, orientation), (277, 3, 3), (278, 4, height), (279, 4, image.nbytes)]
    depths = 8 + 2 + 12 * len(tags) + 4
    values = {258: depths, 273: depths + 6}
    body = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        count = 3 if tag == 258 else 1
        body += struct.pack("<HHII", tag, kind, count, values.get(tag, value))
    return b"II*\0" + struct.pack("<I", 8) + body + bytes(4) + struct.pack("<3H", 16, 16, 16) + image.tobytes()


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_array_equal(read_image(tmp_path / name)[0, 0], (255, 0, 0))


@pytest.mark.parametrize("name", ["with a space.png", "صورة جميلة.png", "日本.png"])
def test_names(tmp_path, name):
    image = pixels(9, 8, 3)
    write_png(tmp_path / "مجلد" / name, image)
    assert list_images(tmp_path) == [tmp_path / "مجلد" / name]
    np.testing.assert_array_equal(read_image(tmp_path / "مجلد" / name), image)


def test_write_png_is_the_same_bytes_each_time_and_holds_no_date(tmp_path):
    image = pixels(40, 50, 3)
    write_png(tmp_path / "a.png", image)
    write_png(tmp_path / "b.png", image)
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    assert b"tIME" not in content and b"tEXt" not in content
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
    with pytest.raises(SrlibError, match=r"c\.png: expected .*uint8.* got float64"):
        write_png(tmp_path / "c.png", image / 255)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_list_images(tmp_path):
    for name in ("b.png", "a/z.JPEG", "a/y.tiff", "c.heic", "notes.txt", "SOURCES.json", ".hidden.png", ".x/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["a/y.tiff", "a/z.JPEG", "b.png", "c.heic"]
    assert [path.name for path in list_images(tmp_path, recursive=False)] == ["b.png", "c.heic"]
    with pytest.raises(SrlibError, match="nowhere: no such folder"):
        list_images(tmp_path / "nowhere")


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.png").touch()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    line = f"{tmp_path}/closed: this folder cannot be read (Permission denied)"
    with pytest.raises(SrlibError) as error:
        list_images(tmp_path)
    assert str(error.value) == line
    problems = []
    assert list_images(tmp_path, problems=problems) == [tmp_path / "open" / "a.png"]
    assert problems == [line]


def whole(kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels(64, 64, 3)).save(buffer, kind)
    return buffer.getvalue()


def broken_png():
    content = bytearray(whole("PNG"))
    start = content.index(b"IDAT") + 4
    size = struct.unpack(">I", content[start - 8 : start - 4])[0]
    content[start + size // 2] ^= 0x10
    return bytes(content)


def undecodable_png():
    """Each chunk has its checksum, but what the pixels' one holds was never compressed."""
    content = bytearray(whole("PNG"))
    start = content.index(b"IDAT") + 4
    size = struct.unpack(">I", content[start - 8 : start - 4])[0]
    content[start + 2 : start + size] = b"\xff" * (size - 2)
    content[start + size : start + size + 4] = struct.pack(">I", zlib.crc32(content[start - 4 : start + size]))
    return bytes(content)


BAD = {
    "missing.png": (None, "no such file"),
    "empty.png": (b"", "no bytes"),
    "text.jpg": (b"<html>404</html>" * 50, "a web page instead of an image"),
    "phone.heic": (whole("JPEG"), "this image format is not supported; convert it"),
    "half.png": (whole("PNG")[:5000], "truncated or damaged"),
    "tail.png": (whole("PNG")[:-12], "truncated or damaged"),
    "half.jpg": (whole("JPEG")[:2000], "truncated or damaged"),
    "half.tif": (whole("TIFF")[:2000], "truncated or damaged"),
    "half.webp": (whole("WEBP")[:300], "truncated or damaged"),
    "half.bmp": (whole("BMP")[:2000], "truncated or damaged"),
    "half.gif": (whole("GIF")[:1000], "truncated or damaged"),
    "flipped.png": (broken_png(), "truncated or damaged"),
    "undecodable.png": (undecodable_png(), "truncated or damaged"),
    "too_few_rows.png": (png(64, 64, 8, 2, b"\0" * 193 * 20), "truncated or damaged"),
    "bomb.png": (png(2**16, 2**15, 8, 0, b""), "refused, more than"),
    "bomb.gif": (b"GIF89a" + struct.pack("<HH", 65535, 65535) + whole("GIF")[10:], "refused, more than"),
    "floats.tif": (None, "float TIFF is not supported"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "floats.tif":
        Image.fromarray(np.ones((8, 8), np.float32)).save(path)
    with pytest.raises(SrlibError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    if name not in ("undecodable.png", "too_few_rows.png"):  # what only decoding shows
        with pytest.raises(SrlibError, match=message):
            image_size(path, verify=True)


def test_the_limit_in_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2**14, 2**14, 8, 0, b""))
    assert image_size(tmp_path / "a.png") == (2**14, 2**14) and MAX_PIXELS == 2**28
    (tmp_path / "a.png").write_bytes(png(2**14, 2**14 + 1, 8, 0, b""))
    with pytest.raises(SrlibError, match="refused, more than 268435456 pixels"):
        image_size(tmp_path / "a.png")


def test_exif_after_the_pixels_is_applied(tmp_path):
    Image.fromarray(pixels(4, 6, 3)).save(
        tmp_path / "a.png", exif=b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    )
    content = (tmp_path / "a.png").read_bytes()
    start, pixel_data = content.index(b"eXIf") - 4, content.index(b"IDAT") - 4
    exif, end = content[start:pixel_data], len(content) - 12
    (tmp_path / "a.png").write_bytes(content[:start] + content[pixel_data:end] + exif + content[end:])
    assert image_size(tmp_path / "a.png") == (6, 4)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(pixels(4, 6, 3), -1))


def test_a_folder_with_a_images_name(tmp_path: Path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(SrlibError, match=r"a\.png: expected a regular file"):
        read_image(tmp_path / "a.png")


def test_real_images_read_as_a_second_decoder_reads_them(shared):
    for folder in ("mirror/SelfExSR/data/Set5/image_SRF_4", "train/sunhays80"):
        for path in list_images(shared / folder)[:8]:
            other = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
            np.testing.assert_array_equal(read_image(path), other)
