"""Open a raster file, refuse what cannot be upscaled, and choose which of its bands belong together."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srlib.errors import SrlibError, pip_install, printable
from srlib.files import check_output
from srlib.rasters.metadata import colors_of

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0c": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
"""First bytes → GDAL's driver. Its other formats are left out: some of them open other files and addresses."""

MOST_BANDS = 4096

_KINDS = "biuf"  # bool, integers, floats
_EXACT = 2**53  # up to which whole numbers are floats of double precision


def require_rasterio() -> None:
    """Raise an SrlibError where rasterio is not installed."""
    if find_spec("rasterio") is None:
        raise SrlibError(f"raster data needs rasterio: {pip_install('srlib[geo]')}")


def check_paths(source: Path, target: Path, force: bool) -> None:
    """Raise an SrlibError for a file that cannot be read or written, before either is opened."""
    for path in (source, target):
        if any("\udc80" <= character <= "\udcff" for character in str(path)):
            raise SrlibError(f"{printable(path)}: GDAL needs names in UTF-8; rename the file or its folder")
    if not source.is_file():
        kind = "expected a file, got a folder, pipe or device" if source.exists() else "no such file"
        raise SrlibError(f"{printable(source)}: {kind}")
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise SrlibError(f"{target}: expected a name that ends in .tif")
    if target.exists() and not force:
        raise SrlibError(f"{target}: exists; --force overwrites it")
    if target.exists() and target.samefile(source):
        raise SrlibError(f"{target}: is the file that is read; choose another name")
    check_output(target)


def open_raster(source: Path) -> "DatasetReader":
    """Open a GeoTIFF or JPEG 2000; call it while warnings are caught."""
    import rasterio

    # Rasters without a georeference are welcome: medical images, microscopy.
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    # Absolute: a relative name such as "zip:a.tif" would be taken for an address.
    return rasterio.open(source.absolute(), driver=_driver(source))


def gdal_errors() -> tuple[type[Exception], ...]:
    """Return what rasterio raises for damaged files: its own errors, and GDAL's, which it does not always wrap."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    return RasterioError, CPLE_BaseError


def _driver(source: Path) -> str:
    with source.open("rb") as file:
        start = file.read(4)
    if start not in _DRIVERS:
        raise SrlibError(f"{source}: expected a GeoTIFF or JPEG 2000 file, its first bytes are of another kind")
    return _DRIVERS[start]


def check_bands(source: Path, reader: "DatasetReader") -> None:
    """Raise an SrlibError for bands that cannot be upscaled: of several kinds, with a color table, and the like."""
    import rasterio

    if not 0 < reader.count <= MOST_BANDS:
        raise SrlibError(f"{source}: expected 1 to {MOST_BANDS} bands, got {reader.count}")
    kinds = sorted({str(dtype) for dtype in reader.dtypes})
    if len(kinds) > 1 or np.dtype(kinds[0]).kind not in _KINDS:
        raise SrlibError(f"{source}: expected one kind of integers or floats in all bands, got {', '.join(kinds)}")
    has_nodata = any(rasterio.enums.MaskFlags.nodata in flags for flags in reader.mask_flag_enums)
    is_exact = reader.nodata is not None and abs(reader.nodata) <= _EXACT
    if np.dtype(kinds[0]) in (np.int64, np.uint64) and has_nodata and not is_exact:
        raise SrlibError(
            f"{source}: rasterio cannot keep a nodata value of more than 53 bits: gaps would become numbers; "
            "convert it first: gdal_translate -ot Float64 IN OUT"
        )
    palettes = [band for band, name in enumerate(colors_of(reader), 1) if name == "palette"]
    if palettes:
        raise SrlibError(
            f"{source}: band {palettes[0]} has a color table: its numbers are classes, between which nothing can be "
            "interpolated; convert it to RGB first"
        )


def band_groups(
    source: Path, reader: "DatasetReader", together: Sequence[Sequence[int]] | None
) -> list[tuple[int, ...]]:
    """Return the bands, from 0, that go through the network together, in the order of the file."""
    if together is None:
        names = colors_of(reader)
        rgb = tuple(names.index(name) for name in ("red", "green", "blue") if names.count(name) == 1)
        triples: list[tuple[int, ...]] = [rgb] if len(rgb) == 3 else []
    else:
        triples = [tuple(band - 1 for band in group) for group in together]
    chosen = [band for triple in triples for band in triple]
    wrong = [triple for triple in triples if len(triple) != 3]
    if wrong or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(reader.count)):
        got = "; ".join(",".join(str(band + 1) for band in triple) for triple in triples)
        raise SrlibError(
            f"{source}: expected groups of three different bands from 1 to {reader.count}, each band once, got {got}"
        )
    return sorted([*triples, *((band,) for band in range(reader.count) if band not in chosen)], key=min)
