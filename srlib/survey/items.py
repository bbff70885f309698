"""The items of a survey: images under keyed ids, encoded so that the file reveals nothing about the method."""

import base64
import hashlib
import hmac
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.evaluation.benchmark import ORIGINAL
from srlib.evaluation.opinions import pixel_hash
from srlib.evaluation.regions import busiest_region
from srlib.formats.encoders import SMALL
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale, resize
from srlib.imaging.write import encode_png
from srlib.survey.answers import Example, KeyItem, PageItem
from srlib.survey.selection import ImageName

_PNG_HEAD = 33  # bytes of the signature and the IHDR chunk
_LEAST_PADDING = 64


def keyed_hash(secret: bytes, *parts: str) -> str:
    """Return the HMAC-SHA256 of some texts, hexadecimal."""
    return hmac.new(secret, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Version:
    """A version of an image: the part that raters see, uint8 RGB [h, w, 3], and the `pixel_hash` of the whole."""

    pixels: Image
    sha256: str


def read_versions(paths: Mapping[str, Path], methods: Sequence[str], max_side: int, scale: int) -> dict[str, Version]:
    """Return every version of one image, cut to the same most detailed square if it is larger than `max_side`.

    Args:
        paths: Method → file, with the original.
        methods: Methods to compare.
        max_side: Longest side to show, in pixels.
        scale: Upscaling factor.

    Returns:
        Method → version.

    Raises:
        SrlibError: A version has another size than the original.
    """
    original = read_image(paths[ORIGINAL])
    versions = {method: read_image(paths[method]) for method in methods}
    for method, image in versions.items():
        if image.shape != original.shape:
            raise SrlibError(
                f"{paths[method]}: {image.shape[1]}×{image.shape[0]} pixels, "
                f"expected the original's {original.shape[1]}×{original.shape[0]}"
            )
    parts = versions
    if max(original.shape[:2]) > max_side:
        whole = crop_to_multiple(original, scale)
        region = busiest_region(whole, downscale(whole, scale), max_side)
        parts = {method: np.ascontiguousarray(region.cut(image)) for method, image in versions.items()}
    return {method: Version(parts[method], pixel_hash(image)) for method, image in versions.items()}


def items(name: ImageName, versions: Mapping[str, Version], secret: bytes) -> Iterator[tuple[PageItem, KeyItem]]:
    """Yield the entries of the page and of the key file for each version of one image."""
    images = {method: version.pixels for method, version in versions.items()}
    group = keyed_hash(secret, "group", *name)[:12]
    digests = {method: hashlib.sha256(image.tobytes()).hexdigest() for method, image in images.items()}
    ids = {method: keyed_hash(secret, "item", *name, method, digest)[:24] for method, digest in digests.items()}
    encoded = _encode(secret, {ids[method]: image for method, image in images.items()})
    for method, item in ids.items():
        height, width = images[method].shape[:2]
        page_item = PageItem(id=item, group=group, width=width, height=height, png=encoded[item])
        sha256 = versions[method].sha256
        yield page_item, KeyItem(group=group, set=name[0], image=name[1], method=method, sha256=sha256)


def example(path: Path, max_side: int, scale: int, secret: bytes) -> Example:
    """Return an image as the worst (nearest neighbor) and the best (the image itself) that a rater will see."""
    image = read_image(path)
    if min(image.shape[:2]) < scale:
        raise SrlibError(f"{path}: {image.shape[1]}×{image.shape[0]} pixels are too few for an example at ×{scale}")
    original = crop_to_multiple(image, scale)
    low = downscale(original, scale)
    if max(original.shape[:2]) > max_side:
        region = busiest_region(original, low, max_side - max_side % scale)
        original = crop_to_multiple(np.ascontiguousarray(region.cut(original)), scale)
        low = downscale(original, scale)
    encoded = _encode(secret, {"bad": resize(low, original.shape[:2], kernel="nearest"), "good": original})
    height, width = original.shape[:2]
    return Example(width=width, height=height, bad=encoded["bad"], good=encoded["good"])


def _encode(secret: bytes, versions: Mapping[str, Image]) -> dict[str, str]:
    """Return base64 PNGs of one length: a private chunk of noise before the pixels pads each to the largest."""
    plain = {name: encode_png(image, compression=SMALL) for name, image in versions.items()}
    length = max(map(len, plain.values())) + _LEAST_PADDING
    padded = {}
    for name, png in plain.items():
        body = b"srPd" + hashlib.shake_256(secret + name.encode()).digest(length - len(png))
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        padded[name] = base64.b64encode(png[:_PNG_HEAD] + chunk + png[_PNG_HEAD:]).decode()
    return padded
