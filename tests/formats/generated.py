"""Image files generated over the product of their properties, each with the pixels that it must be read as.

The writers below follow the specifications and share nothing with the readers of srlib. `samples(count)` spreads its
choice over all combinations; the same count gives the same files.
"""

import io
import itertools
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 19, 37
# EXIF orientation → how the stored pixels are turned upright (EXIF 2.3, table 6)
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}


@dataclass(frozen=True)
class Sample:
    """A generated file.

    Attributes:
        name: Its properties.
        suffix: Ending of its name.
        content: The file.
        color: Gray [H, W, 1] or RGB [H, W, 3], upright.
        alpha: [H, W] of the same type, or None.
        orientation: What was applied to the stored pixels.
        tolerance: Largest difference, in levels of the type, from `color`.
        foreign: Largest difference from another reader, in levels of 8 bits; None where that reads something else.
        stored: The samples of a TIFF as they lie in the file, [H, W, samples].
        bits: Bits of a stored sample.
    """

    name: str
    suffix: str
    content: bytes
    color: np.ndarray
    alpha: np.ndarray | None
    orientation: int = 1
    tolerance: int = 0
    foreign: float | None = 0
    stored: np.ndarray | None = None
    bits: int = 8

    @property
    def unturned(self) -> np.ndarray:
        """The color before it was turned upright."""
        back = {6: 8, 8: 6}.get(self.orientation, self.orientation)
        return TURNS[back](self.color)

    @property
    def kind(self) -> str:
        """The properties that decide what the samples mean."""
        words = self.name.split(" order ")[0]
        return f"{words}, planes apart" if "planar True" in self.name else words


def _values(seed: int, channels: int, bits: int) -> np.ndarray:
    """Smooth gradients with a little noise, [HEIGHT, WIDTH, channels], of this many bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / max(HEIGHT, WIDTH)
    waves = [np.sin(6 * (x * np.cos(a) + y * np.sin(a)) + a) for a in rng.uniform(0, 6, channels)]
    values = 0.5 + 0.45 * np.stack(waves, axis=2) + rng.normal(0, 0.02, (HEIGHT, WIDTH, channels))
    return np.rint(np.clip(values, 0, 1) * (2**bits - 1)).astype(np.uint16)


def _wide(values: np.ndarray, bits: int) -> np.ndarray:
    """Samples of 1 to 16 bits in the whole range of 8 or 16 bits."""
    top, dtype = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
    return np.rint(values.astype(np.float64) * top / (2**bits - 1)).astype(dtype)


# TIFF


def _packed(rows: np.ndarray, bits: int, order: str) -> bytes:
    """Rows [h, samples of a row] as bytes; each row begins on a byte."""
    if bits == 16:
        return rows.astype(f"{order}u2").tobytes()
    if bits == 8:
        return rows.astype(np.uint8).tobytes()
    spread = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def lzw(data: bytes) -> bytes:
    """LZW as TIFF has it (TIFF 6.0, section 13)."""
    bits, count = 0, 0
    out = bytearray()

    def put(code: int, width: int) -> None:
        nonlocal bits, count
        bits, count = bits << width | code, count + width
        while count >= 8:
            count -= 8
            out.append(bits >> count & 255)

    table = {bytes([i]): i for i in range(256)}
    width, following = 9, 258
    put(256, 9)
    word = b""
    for byte in data:
        longer = word + bytes([byte])
        if longer in table:
            word = longer
            continue
        put(table[word], width)
        table[longer] = following
        following += 1
        if following == 2**width:
            width += 1
        if following == 4094:
            put(256, width)
            table = {bytes([i]): i for i in range(256)}
            width, following = 9, 258
        word = bytes([byte])
    if word:
        put(table[word], width)
        following += 1
        width += following == 2**width
    put(257, width)
    if count:
        out.append(bits << 8 - count & 255)
    return bytes(out)


def packbits(data: bytes) -> bytes:
    """PackBits, literal runs alone but where a byte repeats (TIFF 6.0, section 9)."""
    out = bytearray()
    for byte, group in itertools.groupby(data):
        run = len(list(group))
        while run:
            part = min(run, 128)
            out += bytes([0, byte]) if part == 1 else bytes([257 - part, byte])
            run -= part
    return bytes(out)


COMPRESSIONS: dict[int, Callable[[bytes], bytes]] = {1: bytes, 5: lzw, 8: zlib.compress, 32773: packbits}


def tiff(
    values: np.ndarray,
    *,
    bits: int,
    photometric: int,
    order: str = "<",
    planar: bool = False,
    compression: int = 1,
    predictor: int = 1,
    tiled: bool = False,
    rows: int = 7,
    extra: tuple[int, ...] | None = None,
    orientation: int = 1,
    color_map: np.ndarray | None = None,
    big: bool = False,
    reverse: bool = False,
) -> bytes:
    """Put a TIFF together: values [H, W, samples] of `bits` bits in strips of `rows` rows, or in tiles of 16×16."""
    height, width, samples = values.shape
    planes = [values[..., i : i + 1] for i in range(samples)] if planar else [values]
    parts = []
    for plane in planes:
        if tiled:
            padded = np.pad(plane, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge")
            blocks = [
                padded[y : y + 16, x : x + 16]
                for y in range(0, padded.shape[0], 16)
                for x in range(0, padded.shape[1], 16)
            ]
        else:
            blocks = [plane[y : y + rows] for y in range(0, height, rows)]
        for block in blocks:
            if predictor == 2:
                block = np.concatenate([block[:, :1], block[:, 1:] - block[:, :-1]], axis=1) & (2**bits - 1)
            part = COMPRESSIONS[compression](_packed(block.reshape(len(block), -1), bits, order))
            if reverse:
                part = np.packbits(np.unpackbits(np.frombuffer(part, np.uint8)), bitorder="little").tobytes()
            parts.append(part)
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * samples),
        259: ("H", [compression]),
        262: ("H", [photometric]),
        266: ("H", [2 if reverse else 1]),
        274: ("H", [orientation]),
        277: ("H", [samples]),
        284: ("H", [2 if planar else 1]),
        317: ("H", [predictor]),
    }
    if tiled:
        tags |= {322: ("I", [16]), 323: ("I", [16])}
    else:
        tags[278] = ("I", [rows])
    if extra is not None:
        tags[338] = ("H", list(extra))
    if color_map is not None:
        tags[320] = ("H", color_map.T.ravel().tolist())
    return _tiff_file(tags, parts, order, big, 324 if tiled else 273, 325 if tiled else 279)


def _tiff_file(
    tags: dict[int, tuple[str, list[int]]], parts: list[bytes], order: str, big: bool, offsets: int, sizes: int
) -> bytes:
    """Header, pixel data, values and the directory at the end."""
    pointer, entry = ("Q", 20) if big else ("I", 12)
    inline = struct.calcsize(f"<{pointer}")
    mark = b"II" if order == "<" else b"MM"
    start = 16 if big else 8
    body, places = b"", []
    for part in parts:
        places.append(start + len(body))
        body += part + b"\0" * (len(part) % 2)
    tags = tags | {offsets: ("I", places), sizes: ("I", [len(part) for part in parts])}
    directory = b""
    for tag in sorted(tags):
        kind, values = tags[tag]
        value = struct.pack(f"{order}{len(values)}{kind}", *values)
        head = struct.pack(f"{order}HH{pointer}", tag, {"H": 3, "I": 4}[kind], len(values))
        if len(value) > inline:
            place = start + len(body)
            body += value + b"\0" * (len(value) % 2)
            value = struct.pack(f"{order}{pointer}", place)
        directory += head + value.ljust(inline, b"\0")
    assert len(directory) == entry * len(tags)
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    if big:
        head = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, start + len(body))
    else:
        head = mark + struct.pack(f"{order}HI", 42, start + len(body))
    return head + body + count + directory + bytes(inline)


def _tiff_samples() -> Iterator[Callable[[int], Sample]]:
    kinds = [("gray", 1, bits) for bits in (1, 2, 4, 8, 12, 16)] + [("white", 0, bits) for bits in (1, 4, 8, 16)]
    kinds += [("rgb", 2, bits) for bits in (4, 8, 12, 16)] + [("palette", 3, bits) for bits in (1, 4, 8)]
    kinds += [("cmyk", 5, 8), ("cmyk", 5, 16)]
    for (kind, photometric, bits), order, planar, compression, predictor, tiled, extra, big in itertools.product(
        kinds, "<>", (False, True), COMPRESSIONS, (1, 2), (False, True), (None, 0, 1, 2), (False, True)
    ):
        if predictor == 2 and (compression not in (5, 8) or bits not in (8, 16) or kind == "palette"):
            continue
        if (kind == "palette" and extra is not None) or (planar and extra is None and kind not in ("rgb", "cmyk")):
            continue
        if kind == "cmyk" and extra == 1:
            continue  # how alpha multiplies inks is not specified

        def make(
            seed: int,
            kind: str = kind,
            photometric: int = photometric,
            bits: int = bits,
            order: str = order,
            planar: bool = planar,
            compression: int = compression,
            predictor: int = predictor,
            tiled: bool = tiled,
            extra: int | None = extra,
            big: bool = big,
        ) -> Sample:
            options = {"order": order, "planar": planar, "compression": compression, "predictor": predictor}
            options |= {"tiled": tiled, "big": big, "orientation": seed % 8 + 1, "rows": (1, 7, 19)[seed % 3]}
            options["reverse"] = bits < 8 and compression == 1 and seed % 5 == 0
            return _tiff_sample(seed, kind, photometric, bits, extra, options)

        yield make


def _tiff_sample(seed: int, kind: str, photometric: int, bits: int, extra: int | None, options: dict) -> Sample:
    channels = {"rgb": 3, "cmyk": 4}.get(kind, 1)
    values = _values(seed, channels, bits)
    top = 2**bits - 1
    color_map = None
    tolerance, foreign = 0, 0.0
    if kind == "palette":
        colors = np.random.default_rng(seed).integers(0, 256, (2**bits, 3)).astype(np.uint16)
        color, color_map = colors[values[..., 0]].astype(np.uint8), colors * 257
    elif kind == "cmyk":
        inks = values.astype(np.float64) / top
        full = 255 if bits == 8 else 65535
        color = np.rint((1 - inks[..., :3]) * (1 - inks[..., 3:]) * full).astype(np.uint8 if bits == 8 else np.uint16)
        tolerance, foreign = 1, 1.5
    else:
        color = _wide(top - values if kind == "white" else values, bits)
    alpha = None
    if extra is not None:
        channel = np.maximum(_values(seed + 1, 1, bits), top // 2 + 1 if bits > 1 else 0)
        if extra:
            alpha = _wide(channel[..., 0], bits)
        if extra == 1:  # color is multiplied by alpha, and loses what rounding takes
            stored = top - values if kind == "white" else values
            values = np.rint(stored * (channel / top)).astype(np.uint16)
            divided = np.minimum(values.astype(np.float64) * top / np.maximum(channel, 1), top)
            color = np.where(channel > 0, _wide(divided, bits), 0)
            color = color.astype(np.uint8 if bits <= 8 else np.uint16)
            values = top - values if kind == "white" else values
            tolerance, foreign = 1, None if kind == "white" or bits < 8 else 1.0
            tolerance = tolerance if bits in (8, 16) else max(1, np.iinfo(color.dtype).max // top)
        values = np.concatenate([values, channel], axis=2)
        foreign = None if extra == 0 else foreign  # others take it for alpha
        if kind == "white" or (kind == "gray" and (options["planar"] or bits in (1, 12))):
            foreign = None  # ImageMagick 6.9 inverts alpha too, mixes up such planes, and misreads such alpha
    if kind == "white" and bits == 4:
        foreign = None  # ImageMagick 6.9 does not invert 4 bits; libtiff's own tiff2rgba does
    stated = None if extra is None else (extra,)
    content = tiff(values, bits=bits, photometric=photometric, extra=stated, color_map=color_map, **options)
    turn = TURNS[options["orientation"]]
    name = f"tiff {kind} {bits} extra {extra} " + " ".join(f"{key} {value}" for key, value in options.items())
    upright_alpha = None if alpha is None else turn(alpha)
    orientation = options["orientation"]
    return Sample(name, ".tif", content, turn(color), upright_alpha, orientation, tolerance, foreign, values, bits)


# PNG


def _png_rows(values: np.ndarray, bits: int, seed: int) -> bytes:
    """Filtered rows of one pass; each row has another filter (PNG, 3rd edition, 9)."""
    if not values.size:
        return b""
    packed = _packed(values.reshape(len(values), -1), bits, ">")
    rows = np.frombuffer(packed, np.uint8).reshape(len(values), -1).astype(int)
    step = max(1, values.shape[2] * bits // 8)
    above = np.zeros(rows.shape[1], int)
    out = b""
    for number, row in enumerate(rows):
        left = np.concatenate([np.zeros(step, int), row[:-step]])[: len(row)]
        corner = np.concatenate([np.zeros(step, int), above[:-step]])[: len(row)]
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        kind = (number + seed) % 5
        predicted = [np.zeros_like(row), left, above, (left + above) // 2, paeth][kind]
        out += bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    return out


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    values: np.ndarray, *, bits: int, color: int, interlaced: bool, chunks: list[tuple[bytes, bytes]], seed: int = 0
) -> bytes:
    """Put a PNG together: values [H, W, samples]."""
    height, width, _ = values.shape
    if interlaced:
        data = b"".join(_png_rows(values[y::dy, x::dx], bits, seed) for y, x, dy, dx in ADAM7)
    else:
        data = _png_rows(values, bits, seed)
    packed = zlib.compress(data)
    middle = len(packed) // 2
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", packed[:middle]), (b"IDAT", packed[middle:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _png_samples() -> Iterator[Callable[[int], Sample]]:
    kinds = [(0, bits) for bits in (1, 2, 4, 8, 16)] + [(2, 8), (2, 16)] + [(3, bits) for bits in (1, 2, 4, 8)]
    kinds += [(4, 8), (4, 16), (6, 8), (6, 16)]
    for (color, bits), interlaced, key in itertools.product(kinds, (False, True), (False, True)):
        if not (key and color in (4, 6)):
            yield lambda seed, c=color, b=bits, i=interlaced, k=key: _png_sample(seed, c, b, i, k)


def _png_sample(seed: int, color: int, bits: int, interlaced: bool, key: bool) -> Sample:
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    values = _values(seed, channels, bits)
    chunks: list[tuple[bytes, bytes]] = []
    alpha = None
    if color == 3:
        rng = np.random.default_rng(seed)
        colors = rng.integers(0, 256, (2**bits, 3), np.uint8)
        chunks.append((b"PLTE", colors.tobytes()))
        pixels = colors[values[..., 0]]
        if key:
            alphas = rng.integers(0, 256, max(2**bits - 1, 1)).astype(np.uint8)
            chunks.append((b"tRNS", alphas.tobytes()))
            alpha = np.append(alphas, np.full(256, 255, np.uint8))[values[..., 0]]
    else:
        full = _wide(values, bits)
        pixels = full[..., : 1 if color in (0, 4) else 3]
        alpha = full[..., -1] if color in (4, 6) else None
        if key:
            values[2:9, 3:20] = chosen = values[4, 5].copy()
            pixels = _wide(values, bits)
            chunks.append((b"tRNS", chosen.astype(">u2").tobytes()))
            same = (values == chosen).all(axis=2)
            alpha = np.where(same, 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    orientation = seed % 8 + 1
    chunks.append((b"eXIf", exif(orientation, "<>"[seed % 2])))
    content = png(values, bits=bits, color=color, interlaced=interlaced, chunks=chunks, seed=seed)
    name = f"png color {color} bits {bits} interlaced {interlaced} key {key} orientation {orientation}"
    turn = TURNS[orientation]
    return Sample(name, ".png", content, turn(pixels), None if alpha is None else turn(alpha), orientation)


def exif(orientation: int, order: str = "<") -> bytes:
    """EXIF data of an orientation alone."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


# The others, by Pillow


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _other_samples() -> Iterator[Callable[[int], Sample]]:
    for mode, subsampling, progressive in itertools.product(("L", "RGB", "CMYK"), (0, 1, 2), (False, True)):
        yield lambda seed, m=mode, s=subsampling, p=progressive: _jpeg_sample(seed, m, s, p)
    for mode in ("RGB", "RGBA"):
        yield lambda seed, m=mode: _webp_sample(seed, m)
    for bits, top_down in itertools.product((1, 4, 8, 16, 24, 32), (False, True)):
        yield lambda seed, b=bits, t=top_down: _bmp_sample(seed, b, t)
    for transparent, interlaced in itertools.product((False, True), (False, True)):
        yield lambda seed, t=transparent, i=interlaced: _gif_sample(seed, t, i)
    for mode in ("L", "RGB", "CMYK"):
        yield lambda seed, m=mode: _jpeg_tiff_sample(seed, m)
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield lambda seed, c=compression: _fax_sample(seed, c)


def _jpeg_sample(seed: int, mode: str, subsampling: int, progressive: bool) -> Sample:
    pixels = _values(seed, {"L": 1, "RGB": 3, "CMYK": 4}[mode], 8).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode)
    orientation = seed % 8 + 1
    options = {"quality": 96, "subsampling": subsampling, "progressive": progressive}
    content = _saved(image, "JPEG", exif=b"Exif\0\0" + exif(orientation, "<>"[seed % 2]), **options)
    color = np.asarray(image.convert("RGB")) if mode == "CMYK" else pixels
    name = f"jpeg {mode} subsampling {subsampling} progressive {progressive} orientation {orientation}"
    return Sample(name, ".jpg", content, TURNS[orientation](color), None, orientation, 40, 3.0)


def _webp_sample(seed: int, mode: str) -> Sample:
    pixels = _values(seed, len(mode), 8).astype(np.uint8)
    orientation = seed % 8 + 1
    exact = {"lossless": True, "exact": True}
    content = _saved(Image.fromarray(pixels), "WEBP", exif=b"Exif\0\0" + exif(orientation), **exact)
    alpha = TURNS[orientation](pixels[..., 3]) if mode == "RGBA" else None
    name = f"webp {mode} orientation {orientation}"
    return Sample(name, ".webp", content, TURNS[orientation](pixels[..., :3]), alpha, orientation)


def _bmp_sample(seed: int, bits: int, top_down: bool) -> Sample:
    """A BMP by hand: palettes up to 8 bits, 5 bits per channel for 16."""
    palette = b""
    if bits <= 8:
        values = _values(seed, 1, bits)
        colors = np.random.default_rng(seed).integers(0, 256, (2**bits, 3), np.uint8)
        palette = np.concatenate([colors[:, ::-1], np.zeros((2**bits, 1), np.uint8)], axis=1).tobytes()
        color, rows = colors[values[..., 0]], values[..., 0]
        packed = np.frombuffer(_packed(rows, bits, "<"), np.uint8).reshape(HEIGHT, -1)
    elif bits == 16:
        values = _values(seed, 3, 5)
        color = _wide(values, 5)
        packed = (values[..., 0] << 10 | values[..., 1] << 5 | values[..., 2]).astype("<u2").view(np.uint8)
    else:
        values = _values(seed, 3, 8).astype(np.uint8)
        color = values
        filler = np.full((HEIGHT, WIDTH, bits // 8 - 3), 255, np.uint8)
        packed = np.concatenate([values[..., ::-1], filler], axis=2).reshape(HEIGHT, -1)
    packed = np.pad(packed.reshape(HEIGHT, -1), ((0, 0), (0, -packed.reshape(HEIGHT, -1).shape[1] % 4)))
    data = (packed if top_down else packed[::-1]).tobytes()
    height = -HEIGHT if top_down else HEIGHT
    colors_used = 2**bits if bits <= 8 else 0
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, 0, len(data), 2835, 2835, colors_used, 0)
    start = 14 + len(head) + len(palette)
    content = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + head + palette + data
    return Sample(f"bmp {bits} top down {top_down}", ".bmp", content, color, None, 1, 1 if bits == 16 else 0, 1.0)


def _gif_sample(seed: int, transparent: bool, interlaced: bool) -> Sample:
    rng = np.random.default_rng(seed)
    colors, values = rng.integers(0, 256, (64, 3), np.uint8), _values(seed, 1, 6)[..., 0]
    image = Image.frombytes("P", (WIDTH, HEIGHT), values.astype(np.uint8).tobytes())
    image.putpalette(colors.tobytes())
    key = int(values[3, 4])
    options = {"transparency": key} if transparent else {}
    content = _saved(image, "GIF", interlace=int(interlaced), optimize=False, **options)
    alpha = np.where(values == key, 0, 255).astype(np.uint8) if transparent else None
    return Sample(f"gif transparent {transparent} interlaced {interlaced}", ".gif", content, colors[values], alpha)


def _jpeg_tiff_sample(seed: int, mode: str) -> Sample:
    pixels = _values(seed, {"L": 1, "RGB": 3, "CMYK": 4}[mode], 8).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode)
    orientation = seed % 8 + 1
    content = _saved(image, "TIFF", compression="jpeg", quality=97, tiffinfo={274: orientation})
    color = np.asarray(image.convert("RGB")) if mode == "CMYK" else pixels
    name = f"tiff jpeg {mode} orientation {orientation}"
    foreign = 3.0 if orientation == 1 else None  # ImageMagick 6.9 turns these upright halfway
    return Sample(name, ".tif", content, TURNS[orientation](color), None, orientation, 40, foreign)


def _fax_sample(seed: int, compression: str) -> Sample:
    bits = _values(seed, 1, 1)[..., 0].astype(bool)
    orientation = seed % 8 + 1
    content = _saved(Image.fromarray(bits), "TIFF", compression=compression, tiffinfo={274: orientation})
    color = np.where(bits, 255, 0).astype(np.uint8)[..., None]
    name = f"tiff {compression} orientation {orientation}"
    foreign = None if compression == "group3" else 0.0  # ImageMagick 6.9 misreads some; libtiff's own tiffcp does not
    stored = bits[..., None].astype(np.uint16)
    return Sample(name, ".tif", content, TURNS[orientation](color), None, orientation, 0, foreign, stored, 1)


def samples(count: int, seed: int = 0) -> Iterator[Sample]:
    """Yield `count` files: half of them TIFF, a quarter PNG, a quarter the others, spread over all combinations."""
    groups = [list(_tiff_samples()), list(_png_samples()), list(_other_samples())]
    shares = [count // 2, count // 4, count - count // 2 - count // 4]
    number = seed
    for makers, share in zip(groups, shares, strict=True):
        order = np.random.default_rng(seed).permutation(len(makers))
        for index in range(share):
            yield makers[order[index % len(makers)]](number)
            number += 1


# An independent reader


def foreign_reader() -> str | None:
    """The command of ImageMagick, if it is installed; another program may have its name."""
    for command in filter(None, map(shutil.which, ("convert-im6.q16", "magick", "convert"))):
        if b"Version: ImageMagick" in subprocess.run([command, "-version"], capture_output=True, check=False).stdout:
            return command
    return None


def read_by_foreign(command: str, path: str, sample: Sample) -> np.ndarray:
    """RGB and alpha, [H, W, 4] in levels of 8 bits, as ImageMagick reads the first frame."""
    # One thread: with more, ImageMagick 6.9 now and then loses pixels of a palette.
    command_line = [command, "-limit", "thread", "1", f"{path}[0]", "-colorspace", "sRGB", "-alpha", "on"]
    command_line += ["-depth", "16", "-endian", "LSB", "rgba:-"]
    done = subprocess.run(command_line, capture_output=True, check=True)
    height, width = TURNS[sample.orientation](np.empty((HEIGHT, WIDTH))).shape[:2]
    stored = (HEIGHT, WIDTH) if (height, width) else (0, 0)
    pixels = np.frombuffer(done.stdout, "<u2").reshape(*stored, 4)
    return TURNS[sample.orientation](pixels).astype(np.float64) / 257
