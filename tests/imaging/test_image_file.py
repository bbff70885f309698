import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational
from skimage import io as skimage_io

from srlib.errors import SrlibError
from srlib.formats.encoders import FORMATS
from srlib.formats.exif import adapted
from srlib.formats.metadata import Metadata
from srlib.imaging.array_image import write_image
from srlib.imaging.image_file import ImageFile, check_size, encode_image_file, read_image_file, write_image_file

SUFFIX = {name: kind.suffixes[0] for name, kind in FORMATS.items()}


def noise(height=19, width=23, channels=3, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


def made_image(dtype=np.uint8, *, gray=False, alpha=False, seed=0):
    rgb = np.repeat(noise(dtype=dtype, channels=1, seed=seed), 3, 2) if gray else noise(dtype=dtype, seed=seed)
    return ImageFile(rgb, noise(dtype=dtype, channels=1, seed=seed + 1)[..., 0] if alpha else None, gray)


def saved(image, format, **options):
    """A file as Pillow writes it."""
    if format == "TIFF" and "xmp" in options:
        exif = Image.Exif()
        exif.load(options["exif"])
        exif[700] = options.pop("xmp")
        options["exif"] = exif
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def second_opinion(path, depth):
    """The file's channels as another library reads them."""
    if path.suffix == ".tif":
        pixels = tifffile.imread(path)
    elif depth == np.uint16:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2]])
    else:
        pixels = skimage_io.imread(path)
    return pixels.reshape(*pixels.shape[:2], -1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_lossless_formats_give_back_every_depth_and_channel(tmp_path, format, gray, alpha, dtype):
    want = made_image(dtype, gray=gray, alpha=alpha)
    path = tmp_path / f"a{SUFFIX[format]}"
    assert write_image_file(want, path) == ()
    got = read_image_file(path)
    assert got.rgb.dtype == dtype and got.format == format and got.notes == ()
    np.testing.assert_array_equal(got.rgb, want.rgb)
    np.testing.assert_array_equal(got.alpha, want.alpha)
    assert got.gray == gray or (format, gray, alpha, dtype) == ("tiff", True, True, np.uint16)
    other = second_opinion(path, dtype)
    assert other.dtype == dtype
    np.testing.assert_array_equal(other[..., 0], want.rgb[..., 0])
    if alpha:
        np.testing.assert_array_equal(other[..., -1], want.alpha)
    if gray and not alpha:
        assert other.shape[2] == 1


def test_webp_and_jpeg(tmp_path):
    want = made_image(alpha=True)
    write_image_file(want, tmp_path / "a.webp", quality=100)
    got = read_image_file(tmp_path / "a.webp")
    np.testing.assert_array_equal(got.rgb, want.rgb)
    np.testing.assert_array_equal(got.alpha, want.alpha)
    smooth = ImageFile(cv2.GaussianBlur(noise(64, 80), (0, 0), 3), gray=False)
    assert write_image_file(smooth, tmp_path / "a.jpg", quality=98) == ()
    assert np.abs(skimage_io.imread(tmp_path / "a.jpg").astype(int) - smooth.rgb).max() <= 4
    gray = ImageFile(np.repeat(smooth.rgb[..., :1], 3, 2), gray=True)
    write_image_file(gray, tmp_path / "g.jpg")
    assert skimage_io.imread(tmp_path / "g.jpg").ndim == 2 and read_image_file(tmp_path / "g.jpg").gray


def test_what_a_format_cannot_hold_is_said(tmp_path):
    deep = ImageFile(np.full((4, 4, 3), 40000, np.uint16), np.full((4, 4), 32768, np.uint16))
    content, notes = encode_image_file(deep, "jpeg")
    assert notes == ("JPEG has 8 bits per channel: 16 were rounded", "JPEG has no transparency: composited onto white")
    want = round((40000 * 32768 + 65535 * 32767) / 65535 / 257)
    assert np.abs(read_image_file(Path("a"), content).rgb.astype(int) - want).max() <= 1
    assert encode_image_file(deep, "webp")[1] == ("WebP has 8 bits per channel: 16 were rounded",)


def test_the_same_image_gives_the_same_bytes():
    for name in FORMATS:
        assert encode_image_file(made_image(alpha=True), name) == encode_image_file(made_image(alpha=True), name)


@pytest.mark.parametrize(("format", "width"), [("jpeg", 65_501), ("webp", 16_384)])
def test_an_image_that_a_format_cannot_hold_is_refused(format, width):
    with pytest.raises(SrlibError, match=r"a: .* too many for .* use --format png or tiff"):
        encode_image_file(ImageFile(np.zeros((1, width, 3), np.uint8)), format, name="a")
    check_size(1, width - 1, format, "a")


def profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def camera_exif(orientation=1, width=23, height=19):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "A camera"
    exif[ExifTags.Base.Artist] = "Ängström"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExposureTime] = IFDRational(1, 250)
    details[ExifTags.Base.LensModel] = "50 mm"
    details[ExifTags.Base.ExifImageWidth] = width
    details[ExifTags.Base.ExifImageHeight] = height
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif.tobytes().removeprefix(b"Exif\0\0")


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:ImageWidth="23" '
    b'tiff:Make="A camera"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("source", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize("target", ["png", "jpeg", "tiff", "webp"])
def test_metadata_go_from_every_format_into_every_other(source, target):
    metadata = {"icc_profile": profile(), "exif": b"Exif\0\0" + camera_exif()}
    metadata |= {"xmp": XMP.replace(b'Orientation="6"', b'Orientation="1"')} if source != "png" else {}
    image = Image.fromarray(noise())
    got = read_image_file(Path("a"), saved(image, source.upper(), dpi=(300, 300), **metadata))
    upscaled = ImageFile(got.rgb.repeat(4, 0).repeat(4, 1), None, got.gray, got.format, got.metadata)
    other = Image.open(io.BytesIO(encode_image_file(upscaled, target)[0]))
    assert other.size == (92, 76)
    assert other.info["icc_profile"] == metadata["icc_profile"]
    exif = other.getexif()
    assert exif[ExifTags.Base.Make] == "A camera"
    assert exif.get(ExifTags.Base.Orientation, 1) == 1
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert details[ExifTags.Base.ExposureTime] == 1 / 250 and details[ExifTags.Base.LensModel] == "50 mm"
    assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (92, 76)
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    if "xmp" in metadata:
        xmp = other.info["xmp"]
        assert b'tiff:Make="A camera"' in xmp and b'ImageWidth="92"' in xmp
    if "webp" not in (source, target):
        assert other.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    assert other.convert("RGB").size == (92, 76), "it decodes whole"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["png", "jpeg", "tiff", "webp"])
def test_orientation_is_applied_and_reset(source, orientation, tmp_path):
    stored = cv2.GaussianBlur(noise(48, 64), (0, 0), 4)
    options = {"jpeg": {"quality": 100}, "webp": {"lossless": True}}.get(source, {})
    content = saved(Image.fromarray(stored), source.upper(), exif=b"Exif\0\0" + camera_exif(orientation), **options)
    turn = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270"}
    turn |= {7: "TRANSVERSE", 8: "ROTATE_90"}
    image = Image.open(io.BytesIO(content)).convert("RGB") if source == "jpeg" else Image.fromarray(stored)
    upright = image.transpose(Image.Transpose[turn[orientation]]) if orientation > 1 else image
    got = read_image_file(Path("a"), content)
    np.testing.assert_array_equal(got.rgb, np.asarray(upright))
    for target in FORMATS:
        exif = Image.open(io.BytesIO(encode_image_file(got, target)[0])).getexif()
        assert exif.get(ExifTags.Base.Orientation, 1) == 1, target
        assert exif[ExifTags.Base.Make] == "A camera"


def test_orientation_that_only_xmp_tells():
    content = saved(Image.fromarray(noise()), "JPEG", xmp=XMP)
    got = read_image_file(Path("a"), content)
    assert got.rgb.shape == (23, 19, 3)
    assert b'tiff:Orientation="1"' in Image.open(io.BytesIO(encode_image_file(got, "jpeg")[0])).info["xmp"]


def test_exif_of_both_byte_orders_loses_the_thumbnail_alone():
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        note = b"offset 0026 matters"
        head = mark + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", 2)
        head += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 6, 0)
        head += struct.pack(f"{order}HHII", 0x927C, 7, len(note), 38) + struct.pack(f"{order}I", 60)
        exif = head + note
        got = adapted(exif, 100, 50)
        assert got is not None and len(got) == len(exif) and got[38:] == note
        assert struct.unpack_from(f"{order}H", got, 18) == (1,) and struct.unpack_from(f"{order}I", got, 34) == (0,)
    for broken in (b"", b"II*\0", b"nonsense", b"II*\0\xff\xff\0\0", camera_exif()[:30]):
        assert adapted(broken, 1, 1) is None


def test_a_pngs_own_chunks_stay_and_come_before_the_pixels():
    info = PngInfo()
    info.add_text("Title", "A title")
    info.add(b"gAMA", struct.pack(">I", 45455))
    info.add_text("Raw profile type exif", "stale")
    got = read_image_file(Path("a"), saved(Image.fromarray(noise()), "PNG", pnginfo=info))
    other = Image.open(io.BytesIO(encode_image_file(got, "png")[0]))
    assert other.info == {"Title": "A title", "gamma": 0.45455}


def test_palette_one_bit_and_transparent_colors():
    palette = Image.fromarray(noise(channels=1)[..., 0] % 7)
    colors = noise(7, 3, 1, seed=3)[..., 0]
    palette = Image.frombytes("P", palette.size, palette.tobytes())
    palette.putpalette(colors.tobytes())
    indices = noise(channels=1)[..., 0] % 7
    for format in ("PNG", "GIF", "TIFF", "BMP"):
        got = read_image_file(Path("a"), saved(palette, format))
        assert not got.gray and got.alpha is None
        np.testing.assert_array_equal(got.rgb, colors[indices])
    got = read_image_file(Path("a"), saved(palette, "PNG", transparency=3))
    np.testing.assert_array_equal(got.alpha, np.where(indices == 3, 0, 255))
    bits = noise(channels=1)[..., 0] > 99
    for format in ("PNG", "TIFF"):
        got = read_image_file(Path("a"), saved(Image.fromarray(bits), format))
        assert got.gray
        np.testing.assert_array_equal(got.rgb[..., 1], bits * 255)


@pytest.mark.parametrize(("color", "depth"), [(0, 8), (0, 16), (2, 8), (2, 16)])
def test_a_transparent_color_key(color, depth):
    channels = 3 if color else 1
    dtype = np.uint8 if depth == 8 else np.uint16
    pixels = noise(channels=channels, dtype=dtype)
    pixels[3:7, 2:9] = key = pixels[4, 4]
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 23, 19, depth, color, 0, 0, 0)
    parts = [(b"IHDR", head), (b"tRNS", key.astype(">u2").tobytes()), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    got = read_image_file(Path("a"), b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    assert got.gray == (color == 0) and got.rgb.dtype == dtype
    np.testing.assert_array_equal(got.alpha == 0, (pixels == key).all(2))
    np.testing.assert_array_equal(got.rgb, np.broadcast_to(pixels, (19, 23, 3)))


def test_cmyk_becomes_srgb_and_loses_its_profile():
    colors = np.array([[[255, 0, 0], [0, 160, 60], [250, 250, 250], [10, 10, 10]]], np.uint8).repeat(8, 0).repeat(8, 1)
    cmyk = Image.fromarray(colors).convert("CMYK")
    for format in ("JPEG", "TIFF"):
        options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
        got = read_image_file(Path("a"), saved(cmyk, format, icc_profile=b"not a profile", **options))
        assert got.metadata.icc is None and not got.gray
        assert np.abs(got.rgb.astype(int) - colors).max() <= 8


def test_lab():
    lab = ImageCms.profileToProfile(
        Image.fromarray(np.full((8, 8, 3), (200, 60, 40), np.uint8)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert np.abs(read_image_file(Path("a"), saved(lab, "TIFF")).rgb.astype(int) - (200, 60, 40)).max() <= 3


def test_of_several_frames_the_first_and_a_note():
    frames = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (10, 200, 90)]
    for format, kind in (("GIF", "frames"), ("WEBP", "frames"), ("PNG", "frames"), ("TIFF", "pages")):
        options = {"lossless": True} if format == "WEBP" else {}
        got = read_image_file(Path("a"), saved(frames[0], format, save_all=True, append_images=frames[1:], **options))
        assert got.notes == (f"only the first of several {kind} is used",)
        np.testing.assert_array_equal(got.rgb, np.full((8, 9, 3), 10))


def test_a_gray_profile_is_not_written_without_gray():
    icc = bytearray(profile())
    icc[16:20] = b"GRAY"
    gray = ImageFile(np.zeros((4, 4, 3), np.uint8), gray=True, metadata=Metadata(icc=bytes(icc)))
    assert "icc_profile" not in Image.open(io.BytesIO(encode_image_file(gray, "webp")[0])).info
    assert Image.open(io.BytesIO(encode_image_file(gray, "jpeg")[0])).info["icc_profile"] == bytes(icc)


def test_a_bomb_and_a_damaged_file_are_one_line():
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    with pytest.raises(SrlibError, match=r"^a: refused, more than"):
        read_image_file(Path("a"), bomb)
    for content in (saved(Image.fromarray(noise(64, 64)), "JPEG")[:900], b"text", b""):
        with pytest.raises(SrlibError, match=r"^a: (truncated or damaged|not an image)"):
            read_image_file(Path("a"), content)


@pytest.mark.parametrize("quality", [0, -5, 101, 50.5, "90", None])
def test_a_quality_outside_its_range_is_refused(tmp_path, quality):
    with pytest.raises(SrlibError, match=f"quality: expected a whole number from 1 to 100, got {quality}"):
        write_image(tmp_path / "a.jpg", noise(), quality=quality)
    assert not (tmp_path / "a.jpg").exists()
    write_image(tmp_path / "a.jpg", noise(), quality=np.int64(1))
    write_image(tmp_path / "b.jpg", noise(), quality=100)
    assert (tmp_path / "a.jpg").stat().st_size < (tmp_path / "b.jpg").stat().st_size
