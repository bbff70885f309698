"""What surrounds the numbers of a raster file: its georeference, the meaning of its bands, and what cannot be kept."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rasterio.io import DatasetReader, DatasetWriter

_TILE = 256
_XMP = "xml:XMP"
_ORIENTATION, _EXTRA_SAMPLES = 274, 338
_PREMULTIPLIED = 1
"""The value of a TIFF's tag ExtraSamples for alpha by which the colors are multiplied already."""

_KEPT = {"", _XMP, "COLOR_PROFILE", "IMAGE_STRUCTURE"}
"""GDAL's domains of metadata that are copied, or that describe the file and not its content."""

_ELSEWHERE = {"DERIVED_SUBDATASETS", "SUBDATASETS", "RPC"}
"""Domains that are made up by GDAL, or named by a line of their own."""


def profile_of(reader: "DatasetReader", scale: int) -> dict[str, object]:
    """Return how the upscaled raster is written.

    Args:
        reader: The raster.
        scale: Upscaling factor.
    """
    kind, place = np.dtype(reader.dtypes[0]).kind, reader.transform
    profile = {
        "driver": "GTiff",
        "dtype": reader.dtypes[0],
        "count": reader.count,
        "height": reader.height * scale,
        "width": reader.width * scale,
        "crs": reader.crs,
        "nodata": reader.nodata,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "interleave": "band",
        "compress": "deflate",
        "predictor": 3 if kind == "f" else 2,
        "bigtiff": "if_safer",
    }
    if not place.is_identity:  # the identity stands for none: even unchanged, it would be written as a georeference
        profile["transform"] = type(place)(
            place.a / scale, place.b / scale, place.c, place.d / scale, place.e / scale, place.f
        )
    if is_white_zero(reader):
        profile["photometric"] = "miniswhite"
    elif colors_of(reader)[:3] == ["red", "green", "blue"]:
        # Set from the start: from the names of the bands alone, GDAL would write RGB with two further samples.
        profile["photometric"] = "rgb"
    if _extra_samples(reader)[:1] == (_PREMULTIPLIED,):
        profile["alpha"] = "premultiplied"
    if color := reader.tags(ns="COLOR_PROFILE").get("SOURCE_ICC_PROFILE"):
        profile["source_icc_profile"] = color
    return profile


def is_white_zero(reader: "DatasetReader") -> bool:
    """Return whether zero is white in a gray raster, as in many scans."""
    return bool(reader.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES")


def colors_of(reader: "DatasetReader") -> list[str]:
    """Return what each band is: `red`, `gray`, `alpha`, `palette` …, without the color table that GDAL makes up.

    Where zero is white, GDAL shows the numbers as indices into a table of grays; the file has none.
    """
    names = [kind.name for kind in reader.colorinterp]
    return ["gray" if name == "palette" else name for name in names] if is_white_zero(reader) else names


def copy_metadata(reader: "DatasetReader", writer: "DatasetWriter", scale: int) -> None:
    """Copy what says what the bands mean. Statistics are left out: they are no longer true.

    Args:
        reader: The raster.
        writer: The upscaled raster.
        scale: Upscaling factor.
    """
    writer.colorinterp = [type(reader.colorinterp[0])[name] for name in colors_of(reader)]
    writer.descriptions = reader.descriptions
    writer.units = reader.units
    writer.scales, writer.offsets = reader.scales, reader.offsets
    for band in range(reader.count + 1):
        tags = {key: text for key, text in reader.tags(band).items() if not key.startswith("STATISTICS_")}
        writer.update_tags(band, **tags)
    if xmp := reader.tags(ns=_XMP):
        writer.update_tags(ns=_XMP, **xmp)
    points, crs = reader.gcps
    if points:
        for point in points:
            point.row, point.col = point.row * scale, point.col * scale
        writer.gcps = points, crs


def not_kept(reader: "DatasetReader") -> Iterator[str]:
    """Yield a line for each thing that the upscaled raster will lack.

    Args:
        reader: The raster.
    """
    if len(reader.subdatasets) > 1:
        yield f"only the first of {len(reader.subdatasets)} pages is used"
    if reader.rpcs is not None:
        yield "not kept: the rational polynomial coefficients (RPC)"
    if others := sorted(set(reader.tag_namespaces()) - _KEPT - _ELSEWHERE):
        yield f"not kept: metadata of the domains {', '.join(others)}"
    if (orientation := (*_tag(reader, _ORIENTATION), 1)[0]) != 1:
        yield f"not kept: the orientation tag ({orientation}); the rows stay as they are in the file"
    if _PREMULTIPLIED in _extra_samples(reader)[1:]:
        yield "not kept: that the colors are multiplied by alpha, since alpha is not the first band after them"


def _extra_samples(reader: "DatasetReader") -> tuple[int, ...]:
    """Return what a TIFF says of each band after the colors; GDAL does not tell the two kinds of alpha apart."""
    return _tag(reader, _EXTRA_SAMPLES)


def _tag(reader: "DatasetReader", code: int) -> tuple[int, ...]:
    """Return the integers of a tag of a TIFF; () where there is none, or no TIFF."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    try:
        with tifffile.TiffFile(reader.name) as file:
            tag = file.pages.first.tags.get(code)
            values = () if tag is None else tag.value if isinstance(tag.value, tuple) else (tag.value,)
            return tuple(int(value) for value in values if isinstance(value, int))
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError):
        return ()
