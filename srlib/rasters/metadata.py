"""What surrounds the numbers of a raster file: its georeference, the meaning of its bands, and what cannot be kept."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rasterio.io import DatasetReader, DatasetWriter

_TILE = 256
_XMP = "xml:XMP"
_ORIENTATION = 274
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
        # The identity stands for none: divided, it would be a georeference, with rows to the north.
        "transform": place
        if place.is_identity
        else type(place)(place.a / scale, place.b / scale, place.c, place.d / scale, place.e / scale, place.f),
        "nodata": reader.nodata,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "interleave": "band",
        "compress": "deflate",
        "predictor": 3 if kind == "f" else 2,
        "bigtiff": "if_safer",
    }
    if reader.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
        profile["photometric"] = "miniswhite"
    if color := reader.tags(ns="COLOR_PROFILE").get("SOURCE_ICC_PROFILE"):
        profile["source_icc_profile"] = color
    return profile


def copy_metadata(reader: "DatasetReader", writer: "DatasetWriter", scale: int) -> None:
    """Copy what says what the bands mean. Statistics are left out: they are no longer true.

    Args:
        reader: The raster.
        writer: The upscaled raster.
        scale: Upscaling factor.
    """
    writer.colorinterp = reader.colorinterp
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


def not_kept(source: Path, reader: "DatasetReader") -> Iterator[str]:
    """Yield a line for each thing that the upscaled raster will lack.

    Args:
        source: The file.
        reader: The same, opened.
    """
    if len(reader.subdatasets) > 1:
        yield f"only the first of {len(reader.subdatasets)} pages is used"
    if reader.rpcs is not None:
        yield "not kept: the rational polynomial coefficients (RPC)"
    if others := sorted(set(reader.tag_namespaces()) - _KEPT - _ELSEWHERE):
        yield f"not kept: metadata of the domains {', '.join(others)}"
    if (orientation := _orientation(source)) not in (None, 1):
        yield f"not kept: the orientation tag ({orientation}); the rows stay as they are in the file"


def _orientation(source: Path) -> int | None:
    """Return a TIFF's orientation tag, which GDAL does not know; None where there is none, or no TIFF."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    try:
        with tifffile.TiffFile(source) as file:
            tag = file.pages.first.tags.get(_ORIENTATION)
            return tag.value if tag is not None and isinstance(tag.value, int) else None
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError):
        return None
