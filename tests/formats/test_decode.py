"""Reading by the declared layout: generated files, what an independent reader sees, cut and damaged files."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from srlib.errors import SrlibError
from srlib.formats.png import encoded_chunk
from srlib.imaging import folders
from srlib.imaging.folders import list_images
from srlib.imaging.image_file import encode_image_file, read_image_file
from srlib.imaging.read import image_size, read_image

from .generated import HEIGHT, WIDTH, Sample, exif, foreign_reader, lzw, packbits, png, read_by_foreign, samples, tiff

SAMPLES = list(samples(100))
GRADIENT = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH, 1) * 90


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_generated_file_gives_its_pixels(sample: Sample) -> None:
    image = read_image_file(Path(f"a{sample.suffix}"), sample.content)
    color = image.rgb[..., : sample.color.shape[2]]
    assert color.shape == sample.color.shape and color.dtype == sample.color.dtype
    assert np.abs(color.astype(int) - sample.color).max() <= sample.tolerance
    if sample.alpha is None:
        assert image.alpha is None
    else:
        np.testing.assert_array_equal(image.alpha, sample.alpha)
    assert image.gray == (sample.color.shape[2] == 1)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_an_independent_reader_agrees(sample: Sample, tmp_path: Path) -> None:
    command = foreign_reader()
    if command is None:
        pytest.skip("ImageMagick is not installed")
    if sample.foreign is None:
        pytest.skip("ImageMagick reads something else than the specification says")
    path = tmp_path / f"a{sample.suffix}"
    path.write_bytes(sample.content)
    other, image = read_by_foreign(command, str(path), sample), read_image_file(path)
    levels = 255 / np.iinfo(image.rgb.dtype).max
    alpha = np.full(image.rgb.shape[:2], 255.0) if image.alpha is None else image.alpha * levels
    np.testing.assert_allclose(other[..., 3], alpha, atol=sample.foreign + 0.01)
    visible = alpha > 0
    np.testing.assert_allclose(other[visible][:, :3], image.rgb[visible] * levels, atol=sample.foreign + 0.01)


@pytest.mark.parametrize("sample", SAMPLES[::7], ids=lambda sample: sample.name)
def test_training_reads_the_same_over_white(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / f"a{sample.suffix}"
    path.write_bytes(sample.content)
    image, got = read_image_file(path), read_image(path)
    top = np.iinfo(image.rgb.dtype).max
    share = 1.0 if image.alpha is None else image.alpha[..., None] / top
    expected = (image.rgb * share + top * (1 - share)) * 255 / top
    assert got.dtype == np.uint8 and got.shape == image.rgb.shape
    assert np.abs(got - expected).max() <= 0.51
    assert image_size(path) == image_size(path, verify=True) == got.shape[:2]


def smallest() -> list[Sample]:
    """The smallest file of each format and compression."""
    kinds: dict[str, Sample] = {}
    for sample in SAMPLES:
        kind = " ".join(sample.name.split()[:2])
        if kind not in kinds or len(sample.content) < len(kinds[kind].content):
            kinds[kind] = sample
    return list(kinds.values())


def assert_read_or_one_line(content: bytes, suffix: str) -> bool:
    """Return whether the file is read; fail unless it is an image or ends in one line."""
    try:
        read_image_file(Path(f"name{suffix}"), content)
    except SrlibError as error:
        assert str(error).startswith(f"name{suffix}: ") and "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize("sample", smallest(), ids=lambda sample: sample.name)
def test_a_cut_file_is_read_or_refused_in_one_line(sample: Sample, capfd: pytest.CaptureFixture[str]) -> None:
    lengths = range(0, len(sample.content), max(1, len(sample.content) // 120))
    outcomes = [assert_read_or_one_line(sample.content[:length], sample.suffix) for length in lengths]
    assert sum(outcomes) <= 4, "a cut file is not a whole one; what lacks is filler"
    assert capfd.readouterr() == ("", ""), "decoders print nothing"


@pytest.mark.parametrize("sample", smallest(), ids=lambda sample: sample.name)
def test_a_damaged_file_is_read_or_refused_in_one_line(sample: Sample, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        content = bytearray(sample.content)
        for place in rng.integers(0, len(content) if number % 2 else min(200, len(content)), 1 + number % 4):
            content[place] = rng.integers(256)
        assert_read_or_one_line(bytes(content), sample.suffix)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"bits": 32}, "TIFF of 32 bits per channel"),
        ({"format": 3, "bits": 32}, "float TIFF"),
        ({"format": 2}, "TIFF with signed samples"),
        ({"photometric": 32803}, "TIFF with raw camera data"),
        ({"compression": 6}, "TIFF with old-style JPEG"),
        ({"compression": 34712}, "TIFF with compression 34712"),
    ],
)
def test_unsupported_tiffs_are_named(options: dict[str, int], name: str) -> None:
    content = plain_tiff(**options)
    with pytest.raises(SrlibError, match=f"^a.tif: {name} is not supported; convert it to 8 or 16 bits"):
        read_image_file(Path("a.tif"), content)


def plain_tiff(*, bits: int = 16, format: int = 1, photometric: int = 1, compression: int = 1) -> bytes:
    """A TIFF of one pixel with these tags."""
    tags = {256: 1, 257: 1, 258: bits, 259: compression, 262: photometric, 273: 8, 277: 1, 278: 1, 279: 8, 339: format}
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory + bytes(4)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\0\0\0\x20ftypheic" + bytes(40), "HEIC"),
        (b"\0\0\0\x20ftypavif" + bytes(40), "AVIF"),
        (b"\0\0\0\x20ftypavis" + bytes(40), "AVIF"),
        (b"\0\0\0\x20ftypisom" + bytes(40), "a film"),
        (b"RIFF\4\0\0\0AVI ", "a film"),
        (b"8BPS" + bytes(40), r"Photoshop \(PSD\)"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"qoif" + bytes(40), "QOI"),
        (b"P6\n1 1\n255\nabc", r"PNM \(PBM, PGM, PPM\)"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"<svg xmlns=''/>", "SVG"),
        (b"\0\0\1\0\1\0" + bytes(40), r"an icon \(ICO\)"),
    ],
)
def test_other_formats_under_a_known_ending_are_named(content: bytes, name: str) -> None:
    with pytest.raises(SrlibError, match=f"^a.png: {name} is not supported; convert it to PNG, JPEG"):
        read_image_file(Path("a.png"), content)


@pytest.mark.parametrize("suffix", [".ppm", ".qoi", ".exr", ".heic", ".rw2"])
def test_images_of_other_formats_in_a_folder_are_named(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"P6\n1 1\n255\nabc")
    (path,) = list_images(tmp_path)
    with pytest.raises(SrlibError, match="this image format is not supported; convert it to PNG, JPEG"):
        read_image_file(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS .* run `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "a web page instead of an image"),
        (b"", "no bytes"),
        (b"RIFF\4\0\0\0WAVE", "its head is wrong"),
    ],
)
def test_what_stands_in_for_an_image_is_named(content: bytes, what: str) -> None:
    with pytest.raises(SrlibError, match=rf"^a.png: truncated or damaged \({what}\)"):
        read_image_file(Path("a.png"), content)


def test_a_png_in_apples_variant_is_named() -> None:
    content = with_chunk(b"tEXt", b"a\0b")
    content = content[:8] + encoded_chunk(b"CgBI", b"\x50\0\x20\2") + content[8:]
    with pytest.raises(SrlibError, match="a PNG in Apple's CgBI variant is not supported"):
        read_image_file(Path("a.png"), content)


@pytest.mark.parametrize("compression", ["lzw", "packbits"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_compressed_rgba_with_reversed_bits(compression: str, predictor: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    stored = np.diff(pixels, axis=1, prepend=np.zeros((6, 1, 4), np.uint8)) if predictor == 2 else pixels
    data = {"lzw": lzw, "packbits": packbits}[compression](stored.astype(np.uint8).tobytes())
    reversed_bits = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes()
    tags = {256: 5, 257: 6, 258: 8, 259: {"lzw": 5, "packbits": 32773}[compression], 262: 2, 266: 2, 273: 8, 277: 4}
    tags |= {278: 6, 279: len(data), 317: predictor, 338: 2}
    start = 8 + len(data) + len(data) % 2
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<I", start) + reversed_bits.ljust(start - 8, b"\0") + directory + bytes(4)
    image = read_image_file(Path("a.tif"), content)
    assert image.alpha is not None
    np.testing.assert_array_equal(np.dstack([image.rgb, image.alpha]), pixels)


def test_a_tiff_whose_first_page_is_a_thumbnail() -> None:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    with tifffile.TiffWriter(out) as file:
        file.write(pixels[::2, ::2], subfiletype=1)
        file.write(pixels)
    image = read_image_file(Path("a.tif"), out.getvalue())
    assert image.notes == ("only the first of several pages is used; the file calls it a smaller version of another",)


@pytest.mark.parametrize(
    ("flags", "background", "color"),
    [(0x80, 1, (0, 255, 0)), (0x80, 0, (255, 0, 0)), (0x80, 9, (0, 0, 0)), (0, 1, (0, 0, 0))],
)
def test_a_gif_whose_image_does_not_fill_it(flags: int, background: int, color: tuple[int, int, int]) -> None:
    """Outside, it has the background color (GIF89a, section 18), or black where the table has none."""
    table = bytes([255, 0, 0, 0, 255, 0])
    content = b"GIF89a" + struct.pack("<HHBBB", 4, 3, flags, background, 0) + (table if flags else b"")
    content += b"," + struct.pack("<HHHHB", 1, 1, 1, 1, 0 if flags else 0x80) + (b"" if flags else table)
    content += bytes([2, 2, 0x44 + 8, 0x01, 0, 0x3B])  # clear, color 1, end
    image = read_image_file(Path("a.gif"), content)
    assert image.alpha is None and image.rgb.shape == (3, 4, 3)
    assert image.rgb[1, 1].tolist() == [0, 255, 0]
    image.rgb[1, 1] = color
    assert (image.rgb == color).all()


def test_a_gray_gif_whose_image_does_not_fill_it() -> None:
    content = b"GIF89a" + struct.pack("<HHBBB", 4, 3, 0x80, 1, 0) + bytes([0, 0, 0, 77, 77, 77])
    content += b"," + struct.pack("<HHHHB", 1, 1, 1, 1, 0) + bytes([2, 2, 0x44, 0x01, 0, 0x3B])
    gray = read_image_file(Path("a.gif"), content).rgb[..., 0]
    assert gray.tolist() == [[77] * 4, [77, 0, 77, 77], [77] * 4]


def test_an_opaque_animation_has_no_transparency() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(out := io.BytesIO(), "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    image = read_image_file(Path("a.webp"), out.getvalue())
    assert image.alpha is None and image.notes == ("only the first of several frames is used",)


def test_twelve_bit_jpeg_is_named() -> None:
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "JPEG")
    content = bytearray(out.getvalue())
    content[content.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(SrlibError, match="JPEG of 12 bits is not supported"):
        read_image_file(Path("a.jpg"), bytes(content))


def with_chunk(kind: bytes, content: bytes) -> bytes:
    """An 8-bit gray PNG with this chunk before its pixels."""
    return png(GRADIENT % 256, bits=8, color=0, interlaced=False, chunks=[(kind, content)])


def test_large_text_and_profile_of_a_png() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = profile[:16] + b"GRAY" + profile[20:] + bytes(2**21)
    text = b"Comment\0" + b"a" * 2**21
    for kind, content in ((b"tEXt", text), (b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 2**21))):
        image = read_image_file(Path("a.png"), with_chunk(kind, content))
        assert image.metadata.chunks == ((kind, content),) and image.notes == ()
    image = read_image_file(Path("a.png"), with_chunk(b"iCCP", b"icc\0\0" + zlib.compress(large)))
    assert image.metadata.icc == large


def test_damage_in_an_optional_chunk_is_ignored_with_a_note() -> None:
    content = bytearray(with_chunk(b"pHYs", struct.pack(">IIB", 1000, 1000, 1)))
    content[content.index(b"pHYs") + 13] ^= 1
    image = read_image_file(Path("a.png"), bytes(content))
    assert image.notes == ("the pHYs chunk of the PNG is damaged and was ignored",)
    np.testing.assert_array_equal(image.rgb[..., :1], GRADIENT % 256)


def test_a_wrong_checksum_after_the_pixels_is_a_note() -> None:
    content = bytearray(with_chunk(b"pHYs", struct.pack(">IIB", 1000, 1000, 1)))
    content[-1] ^= 1
    image = read_image_file(Path("a.png"), bytes(content))
    assert image.notes == ("the IEND chunk of the PNG is damaged and was ignored",)
    np.testing.assert_array_equal(image.rgb[..., :1], GRADIENT % 256)


def test_a_palette_png_without_a_palette_is_damaged() -> None:
    content = png(GRADIENT % 4, bits=2, color=3, interlaced=False, chunks=[])
    with pytest.raises(SrlibError, match=r"^a.png: truncated or damaged \(holds no palette\)"):
        read_image_file(Path("a.png"), content)


@pytest.mark.parametrize("kind", [1, 3, 4, 5, 9, 11])
def test_orientation_in_any_type_of_number(kind: int) -> None:
    value = {1: b"\6\0\0\0", 3: b"\6\0\0\0", 4: b"\6\0\0\0", 9: b"\6\0\0\0", 11: struct.pack("<f", 6)}
    entry = struct.pack("<HHI", 0x0112, kind, 1) + value.get(kind, struct.pack("<I", 26))
    data = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4) + struct.pack("<II", 6, 1)
    image = read_image_file(Path("a.png"), with_chunk(b"eXIf", data))
    assert image.rgb.shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("value", [struct.pack("<f", np.inf), struct.pack("<f", np.nan), struct.pack("<f", 99)])
def test_an_orientation_that_is_none_is_upright(value: bytes) -> None:
    data = b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, 11, 1) + value + bytes(4)
    assert read_image_file(Path("a.png"), with_chunk(b"eXIf", data)).rgb.shape == (HEIGHT, WIDTH, 3)


def test_only_the_first_page_is_looked_at() -> None:
    first = tiff(GRADIENT % 256, bits=8, photometric=1)
    at = struct.unpack("<I", first[4:8])[0]
    end = at + 2 + 12 * struct.unpack_from("<H", first, at)[0]
    endless = first[:end] + struct.pack("<I", at) + first[end + 4 :]
    broken = first[:end] + struct.pack("<I", 2**31) + first[end + 4 :]
    for content in (endless, broken):
        image = read_image_file(Path("a.tif"), content)
        np.testing.assert_array_equal(image.rgb[..., :1], GRADIENT % 256)
        assert image.notes in ((), ("only the first of several pages is used",))


def test_a_channel_without_a_meaning_is_left_out_with_a_note() -> None:
    values = np.concatenate([GRADIENT] * 4, axis=2)
    image = read_image_file(Path("a.tif"), tiff(values, bits=16, photometric=2, extra=(0,)))
    assert image.rgb.dtype == np.uint16 and image.alpha is None
    assert image.notes == ("a channel whose meaning the TIFF does not declare is left out",)


def test_the_size_is_known_before_anything_is_decoded() -> None:
    content = tiff(GRADIENT, bits=16, photometric=1)
    at = struct.unpack("<I", content[4:8])[0] + 2
    huge = content[: at + 8] + struct.pack("<I", 2**17) + content[at + 12 : at + 20] + struct.pack("<I", 2**17)
    with pytest.raises(SrlibError, match=r"^a.tif: refused, more than 268435456 pixels \(131072×131072\)"):
        read_image_file(Path("a.tif"), huge + content[at + 24 :])


def test_big_exif_and_metadata_of_wrong_types() -> None:
    tags = {282: 2, 34675: 3, 700: 12, 33432: 11}
    content = bytearray(tiff(GRADIENT % 256, bits=8, photometric=1))
    at = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, at)[0]
    more = b"".join(struct.pack("<HHIf", tag, kind, 1, np.inf) for tag, kind in sorted(tags.items()))
    struct.pack_into("<I", content, 4, len(content))
    content += struct.pack("<H", count + len(tags)) + content[at + 2 : at + 2 + 12 * count] + more + bytes(4)
    assert assert_read_or_one_line(bytes(content), ".tif")


def test_a_file_is_found_once_and_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "zeta").mkdir()
    (tmp_path / "zeta" / "a.png").touch()
    (tmp_path / "alpha").symlink_to(tmp_path / "zeta")
    (tmp_path / "zeta" / "up").symlink_to(tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "b.png").touch()
    (tmp_path / "linked").symlink_to(outside)
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["linked/b.png", "zeta/a.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    scandir = folders.os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refusing)
    with pytest.raises(SrlibError, match=r"closed: this folder cannot be read \(Permission denied\)"):
        list_images(tmp_path)


def test_exif_of_a_motion_photo_and_back() -> None:
    image = read_image_file(Path("a.png"), with_chunk(b"eXIf", exif(3)))
    content, notes = encode_image_file(image, "png")
    assert notes == () and read_image_file(Path("b.png"), content).rgb.tolist() == image.rgb.tolist()
