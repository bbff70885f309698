"""Metadata is kept, mended or named, whatever the formats hold."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from srlib.formats import exif as exif_data
from srlib.formats import xmp as xmp_data
from srlib.formats.metadata import Metadata
from srlib.formats.png import encoded_chunk
from srlib.imaging.image_file import ImageFile, encode_image_file, read_image_file

RDF = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
GRAY = np.zeros((4, 4, 3), np.uint8)


def packet(attributes: bytes = b"", inner: bytes = b"") -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + RDF + b'<rdf:Description rdf:about=""' + attributes + b">" + inner
        + b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )  # fmt: skip


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(*segments: bytes, behind: bytes = b"") -> bytes:
    out = io.BytesIO()
    Image.fromarray(GRAY).save(out, "JPEG")
    return out.getvalue()[:2] + b"".join(segments) + out.getvalue()[2:] + behind


def app1_xmp(xmp: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)


def test_long_xmp_becomes_extended_xmp_and_is_read_back() -> None:
    long = packet(b' xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="' + b"a" * 200_000 + b'"')
    content, notes = encode_image_file(ImageFile(GRAY, metadata=Metadata(xmp=long)), "jpeg")
    assert notes == ()
    image = read_image_file(Path("a.jpg"), content)
    assert image.metadata.xmp is not None and b"a" * 200_000 in image.metadata.xmp and image.notes == ()
    assert b"HasExtendedXMP" not in image.metadata.xmp
    again, _ = encode_image_file(image, "jpeg")
    assert b"a" * 200_000 in (read_image_file(Path("b.jpg"), again).metadata.xmp or b"")


def test_extended_xmp_with_namespaces_of_its_own() -> None:
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    main = packet(b' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + guid + b'" a:b="1"')
    more = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:c="urn:c">' + RDF
    more += b'<rdf:Description c:d="2"/></rdf:RDF></x:xmpmeta>'
    parts = [guid + struct.pack(">II", len(more), at) + more[at : at + 50] for at in range(0, len(more), 50)]
    merged = xmp_data.merged(main, parts[::-1])
    assert (
        merged is not None and b'a:b="1"' in merged and b'c:d="2"' in merged and merged.count(b'xmlns:c="urn:c"') == 1
    )
    assert xmp_data.merged(main, parts[1:]) is None, "a part is missing"


def test_incomplete_extended_xmp_is_named() -> None:
    guid = b"0" * 32
    main = packet(b' xmpNote:HasExtendedXMP="' + guid + b'"')
    part = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + guid + struct.pack(">II", 999, 0) + b"<x")
    image = read_image_file(Path("a.jpg"), jpeg(app1_xmp(main), part))
    assert image.notes == ("not kept: incomplete extended XMP data",)


@pytest.mark.parametrize(
    ("attributes", "inner", "part"),
    [
        (b' GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"', b"", "the film of the motion photo"),
        (b' GCamera:MicroVideo="1" GCamera:MicroVideoOffset="30000"', b"", "the film of the motion photo"),
        (b"", b"<GCamera:MotionPhoto>1</GCamera:MotionPhoto>", "the film of the motion photo"),
        (b' hdrgm:Version="1.0"', b"<hdrgm:GainMapMax><rdf:Seq><rdf:li>2</rdf:li></rdf:Seq></hdrgm:GainMapMax>",
         "the gain map for bright screens"),
        (b"", b"<Container:Directory><rdf:Seq/></Container:Directory>", "what follows the image in the file"),
    ],
)  # fmt: skip
def test_references_to_what_is_not_kept_are_removed_and_named(attributes: bytes, inner: bytes, part: str) -> None:
    image = read_image_file(
        Path("a.jpg"), jpeg(app1_xmp(packet(attributes + b' dc:title="kept"', inner)), behind=b"film")
    )
    assert image.notes == (f"not kept: {part}",)
    assert image.metadata.xmp == packet(b' dc:title="kept"')


def test_hostile_xmp_takes_linear_time() -> None:
    for piece in (b"<hdrgm:a>", b" hdrgm:a", b"<Container:Directory ", b"   ", b"<?xpacket "):
        xmp = piece * (2**20 // len(piece))
        xmp_data.without_pointers(xmp), xmp_data.resized(xmp, 1, 1), xmp_data.split(xmp)


def test_exif_without_its_last_pointer_is_mended() -> None:
    data = b"II*\0" + struct.pack("<IHHHI4s", 8, 1, 0x010F, 2, 4, b"abc\0")
    image = read_image_file(Path("a.jpg"), jpeg(segment(0xE1, b"Exif\0\0" + data)))
    for format in ("png", "jpeg", "tiff", "webp"):
        content, notes = encode_image_file(image, format)
        assert notes == () and Image.open(io.BytesIO(content)).getexif()[0x010F] == "abc"


def test_what_jpeg_cannot_hold_is_named() -> None:
    data = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x010F, 2, 70_000, 26) + bytes(4) + b"a" * 70_000
    metadata = Metadata(
        exif=data, icc=bytes(16) + b"CMYK" + bytes(200), chunks=((b"tEXt", b"a\0b"), (b"gAMA", bytes(4)))
    )
    _, notes = encode_image_file(ImageFile(GRAY, metadata=metadata), "jpeg")
    assert notes == (
        f"EXIF data of {len(data):,} bytes is left out: JPEG holds 65,527",
        "a color profile that does not fit the channels is left out",
        "left out what only a PNG can hold: gAMA, tEXt",
    )


def test_unreadable_exif_is_named() -> None:
    image = ImageFile(GRAY, metadata=Metadata(exif=b"\0\x08\0\x02\x01\x12"))
    assert encode_image_file(image, "png")[1] == ("EXIF data that cannot be read is left out",)


def test_comments_iptc_and_further_images_are_named() -> None:
    content = jpeg(
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM"), segment(0xFE, b"a comment"), segment(0xE2, b"MPF\0" + bytes(8))
    )
    parts = "IPTC and Photoshop data, the JPEG comment, further images in the file (such as a preview or a gain map)"
    assert read_image_file(Path("a.jpg"), content).notes == (f"not kept: {parts}",)


def test_everything_else_in_a_jpeg_is_named() -> None:
    exif = segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IHHHI4s", 8, 1, 0x010F, 2, 4, b"abc\0"))
    content = jpeg(
        exif, exif, segment(0xE1, b"FLIR\0\1"), segment(0xEB, b"JP\2\x11"), segment(0xE7, b"\1\2"),
        segment(0xEC, b"Ducky\0"), segment(0xE0, b"JFXX\0"), behind=b"\0" * 40 + b"ftypmp42" * 9,
    )  # fmt: skip
    image = read_image_file(Path("a.jpg"), content)
    parts = "further EXIF data, APP1 data (FLIR), APP11 data (JP), APP7 data, "
    assert image.notes == (f"not kept: {parts}what follows the image in the file (such as the film of a motion photo)",)
    assert image.metadata.exif == exif[10:]
    twice = jpeg(app1_xmp(packet(b' a:b="1"')), app1_xmp(packet(b' a:b="2"')))
    assert read_image_file(Path("a.jpg"), twice).notes == ("not kept: further XMP data",)
    assert read_image_file(Path("a.jpg"), jpeg(exif, behind=b"\0" * 4096)).notes == (), "padding"


def test_exif_goes_on_in_the_next_segment() -> None:
    data = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x010F, 2, 70_000, 26) + bytes(4) + b"a" * 70_000
    content = jpeg(*(segment(0xE1, b"Exif\0\0" + data[at : at + 60_000]) for at in (0, 60_000)))
    image = read_image_file(Path("a.jpg"), content)
    assert (image.metadata.exif, image.notes) == (data, ())


def test_everything_else_in_a_png_is_named() -> None:
    out = io.BytesIO()
    Image.fromarray(GRAY).save(out, "PNG")
    more = [(b"bKGD", bytes(6)), (b"caBX", b"x"), (b"caBX", b"y"), (b"tIME", bytes(7)), (b"a\xff\0\n", b"")]
    content = out.getvalue()[:33] + b"".join(encoded_chunk(*chunk) for chunk in more) + out.getvalue()[33:]
    assert read_image_file(Path("a.png"), out.getvalue() + b"\0\n").notes == ()
    assert read_image_file(Path("a.png"), out.getvalue() + b"PK").notes == (
        "not kept: what follows the image in the file",
    )
    image = read_image_file(Path("a.png"), content)
    assert image.notes == ("not kept: the PNG chunk bKGD, the PNG chunk caBX, a PNG chunk without a name",)


def test_many_compressed_profiles_do_not_fill_memory() -> None:
    """Each is 64 MB large after decompression; those that are not needed stay compressed."""
    out = io.BytesIO()
    Image.fromarray(GRAY).save(out, "PNG")
    packed = zlib.compress(bytes(2**26 - 1), 9)
    texts = [encoded_chunk(b"zTXt", b"Raw profile type x%d\0\0" % number + packed) for number in range(40)]
    tracemalloc.start()
    image = read_image_file(Path("a.png"), out.getvalue()[:33] + b"".join(texts) + out.getvalue()[33:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26 and len(image.metadata.chunks) == 40


def test_exif_values_that_overlap_do_not_fill_memory() -> None:
    entries = b"".join(struct.pack("<HHII", tag, 7, 2**20, 8) for tag in range(4000))
    content = b"II*\0" + struct.pack("<I", 2**20) + bytes(2**20 - 8) + struct.pack("<H", 4000) + entries + bytes(4)
    with pytest.raises(ValueError, match="overlap"):
        exif_data.entries(content)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8-sig"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_xmp_of_other_encodings(encoding: str, mark: str) -> None:
    xmp = packet(b' tiff:Orientation="6" GCamera:MotionPhoto="1" dc:title="\xc3\xa9"').decode()
    content, _ = encode_image_file(ImageFile(GRAY[:2], metadata=Metadata(xmp=(mark + xmp).encode(encoding))), "png")
    image = read_image_file(Path("a.png"), content)
    assert image.rgb.shape[:2] == (2, 4), "written as upright"
    assert image.notes == ("not kept: the film of the motion photo",)
    assert b'tiff:Orientation="1" dc:title="\xc3\xa9"' in (image.metadata.xmp or b"")


def test_what_else_a_tiff_holds_is_named() -> None:
    out = io.BytesIO()
    tags = [(33550, 12, 3, (1.0, 1.0, 0.0), True), *((65000 + n, 3, 1, 7, True) for n in range(9))]
    description = "ImageJ=1.53t\nimages=3\nslices=3\n"
    tifffile.imwrite(out, GRAY[..., 0], description=description, metadata=None, extratags=tags)
    image = read_image_file(Path("a.tif"), out.getvalue())
    parts = "the description of the pixels by ImageJ, OME or tifffile, the georeference, which `srlib raster` keeps"
    assert image.notes == (
        f"not kept: {parts}, TIFF tags 65000, 65001, 65002, 65003, 65004, 65005, 65006, 65007 and 1 more",
    )
    content, notes = encode_image_file(image, "tiff")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert notes == () and not file.pages[0].description and file.asarray().shape == (4, 4)


def test_a_description_by_a_person_is_kept() -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, GRAY[..., 0], description="a cell", metadata=None)
    image = read_image_file(Path("a.tif"), out.getvalue())
    content, _ = encode_image_file(image, "tiff")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert image.notes == () and file.pages[0].description == "a cell"


@pytest.mark.parametrize(("format", "moved"), [("tiff", True), ("jpeg", False), ("png", False)])
def test_a_makers_note_that_moves_is_named(format: str, moved: bool) -> None:
    below = struct.pack("<HHHIII", 1, 0x927C, 7, 8, 44, 0) + b"NOTE\0\0\0\0"
    data = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x8769, 4, 1, 26) + bytes(4) + below
    _, notes = encode_image_file(ImageFile(GRAY, metadata=Metadata(exif=data)), format)
    line = "the camera's maker note is moved within the file: programs may not read all of it"
    assert notes == ((line,) if moved else ())


def test_a_truncated_color_profile_is_named() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    parts = [segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 2]) + profile[at : at + 200]) for n, at in ((1, 0), (2, 200))]
    image = read_image_file(Path("a.jpg"), jpeg(*parts))
    assert encode_image_file(image, "png")[1] == ("a truncated color profile is left out",)


def test_what_only_gif_and_bmp_hold_is_named() -> None:
    out = io.BytesIO()
    Image.fromarray(GRAY).save(out, "GIF", comment=b"mine")
    assert read_image_file(Path("a.gif"), out.getvalue()).notes == ("not kept: the GIF comment",)
    head = struct.pack("<IiiHHIIiiII", 124, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(16) + b"DEBM" + bytes(64)
    content = b"BM" + struct.pack("<IHHI", 142, 0, 0, 138) + head + bytes(4)
    assert read_image_file(Path("a.bmp"), content).notes == ("not kept: the color profile of the BMP",)


@pytest.mark.parametrize("space", [b"GRAY", b"RGB "])
def test_deep_gray_with_alpha_in_tiff_fits_its_profile(space: bytes) -> None:
    icc = bytes(16) + space + bytes(200)
    image = ImageFile(GRAY.astype(np.uint16), np.zeros((4, 4), np.uint16), True, metadata=Metadata(icc=icc))
    content, notes = encode_image_file(image, "tiff")
    again = read_image_file(Path("a.tif"), content)
    assert notes == () and again.metadata.icc == icc and again.gray == (space == b"GRAY")
