"""Upscale a raster file window by window, with its georeference, gaps and the meaning of its bands."""

import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from srlib.atomic import atomic_path
from srlib.errors import SrlibError, one_line, pip_install, printable
from srlib.files import check_output
from srlib.inference.shipped import CLEAN_MODEL
from srlib.inference.upscale import RgbModel
from srlib.inference.upscaler import Upscaler, open_model
from srlib.progress import progress
from srlib.rasters.bands import REACH, Group, Mask, Values, upscale_group
from srlib.rasters.metadata import colors_of, copy_metadata, not_kept, profile_of

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.windows import Window

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
_WINDOW = 512
"""Side of a window of the raster in pixels. Times any factor it is a multiple of the 256 pixels of a written tile."""

_BLOCK = 2048  # side of the blocks in which the range of numbers is measured
_KINDS = "biuf"  # bool, integers, floats
_EXACT = 2**53  # up to which whole numbers are floats of double precision


class RasterModel(RgbModel, Protocol):
    """A model that knows how far its outputs look, such as `srlib.Upscaler`."""

    receptive_field: int


def upscale_raster(
    raster: str | Path,
    out: str | Path,
    *,
    model: str | Path | Upscaler = CLEAN_MODEL,
    together: Sequence[Sequence[int]] | None = None,
    force: bool = False,
) -> None:
    """Upscale a GeoTIFF or JPEG 2000 with any bands by the model's factor. Needs the extra `geo`.

    Kept are the type of the numbers, nodata and NaN, masks, the coordinate system, the names, units and tags of bands;
    the georeference is scaled. The file is computed in windows, so that its size does not matter.

    Args:
        raster: The file to read: integers or floats.
        out: The GeoTIFF to write, compressed without loss.
        model: A model that `open_model` accepts by name or folder, or an opened one.
        together: Groups of three bands, from 1, that go through the network as red, green and blue; every other band
            goes through alone, as gray. None: the bands that the file calls red, green and blue.
        force: Overwrite `out`.

    Raises:
        SrlibError: The file is refused or damaged, `out` exists, or `together` names bands that are not there.

    Example:
        >>> import srlib
        >>> srlib.upscale_raster("scene.tif", "scene-x4.tif")
        Traceback (most recent call last):
        srlib.errors.SrlibError: scene.tif: no such file
    """
    opened = model
    run_raster(
        Path(raster),
        Path(out),
        lambda: opened if isinstance(opened, Upscaler) else open_model(opened),
        together=together,
        force=force,
    )


def run_raster(
    source: Path,
    target: Path,
    open_model: Callable[[], RasterModel],
    *,
    together: Sequence[Sequence[int]] | None = None,
    force: bool = False,
) -> None:
    """Upscale a raster file; print which bands go through the network together, and what is not kept.

    Args:
        source: The file to read.
        target: The file to write.
        open_model: Function that opens the model; called only when nothing speaks against the run.
        together: See `upscale_raster`.
        force: Overwrite `target`.

    Raises:
        SrlibError: See `upscale_raster`.
    """
    _check_paths(source, target, force)
    _require_rasterio()
    import rasterio

    try:
        with (
            warnings.catch_warnings(),
            rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"),
            _opened(source) as reader,
        ):
            _check(source, reader)
            groups = _measured(reader, _groups(source, reader, together))
            for note in _notes(source, reader, groups):
                print(f"{printable(source)}: {note}", file=sys.stderr)
            with atomic_path(target) as temporary:
                sums = _write(reader, temporary, groups, open_model())
                if not _is_whole(temporary, sums):
                    raise SrlibError(f"{printable(target)}: could not be written whole; is the disk full?")
    except _gdal_errors() as error:
        reason = one_line(error)
        raise SrlibError(f"{printable(source)}: cannot be read as GeoTIFF or JPEG 2000 ({reason})") from None


def _opened(source: Path) -> "DatasetReader":
    import rasterio

    # Rasters without a georeference are welcome: medical images, microscopy.
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    # Absolute: a relative name such as "zip:a.tif" would be taken for an address.
    return rasterio.open(source.absolute(), driver=_driver(source))


def _gdal_errors() -> tuple[type[Exception], ...]:
    """Return what rasterio raises for damaged files: its own errors, and GDAL's, which it does not always wrap."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    return RasterioError, CPLE_BaseError


def _require_rasterio() -> None:
    if find_spec("rasterio") is None:
        raise SrlibError(f"raster data needs rasterio: {pip_install('srlib[geo]')}")


def _check_paths(source: Path, target: Path, force: bool) -> None:
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


def _driver(source: Path) -> str:
    with source.open("rb") as file:
        start = file.read(4)
    if start not in _DRIVERS:
        raise SrlibError(f"{source}: expected a GeoTIFF or JPEG 2000 file, its first bytes are of another kind")
    return _DRIVERS[start]


def _check(source: Path, reader: "DatasetReader") -> None:
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


def _groups(source: Path, reader: "DatasetReader", together: Sequence[Sequence[int]] | None) -> list[tuple[int, ...]]:
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


@np.errstate(over="ignore", invalid="ignore")  # of huge numbers, which are refused
def _measured(reader: "DatasetReader", groups: Sequence[tuple[int, ...]]) -> list[Group]:
    """Measure the range of each group's numbers, in one pass over the file."""
    low, high = np.full(reader.count, np.inf), np.full(reader.count, -np.inf)
    total, count = np.zeros(reader.count), np.zeros(reader.count)
    for window in _windows(reader.height, reader.width, _BLOCK):
        values, valid = _read(reader, window)
        numbers = values.astype(np.float64)
        low = np.minimum(low, np.where(valid, numbers, np.inf).min(axis=(1, 2)))
        high = np.maximum(high, np.where(valid, numbers, -np.inf).max(axis=(1, 2)))
        total += np.where(valid, numbers, 0).sum(axis=(1, 2))
        count += valid.sum(axis=(1, 2))

    def group(bands: tuple[int, ...]) -> Group:
        index = list(bands)
        if not count[index].any():
            return Group(bands, 0.0, 0.0, 0.0)
        mean = float(total[index].sum() / count[index].sum())
        if reader.dtypes[0] == "uint8":
            return Group(bands, 0.0, 255.0, mean, is_byte=True)
        return Group(bands, float(low[index].min()), float(high[index].max()), mean)

    endless = np.flatnonzero(np.isinf(high - low) & (count > 0))
    if endless.size:
        band = int(endless[0])
        raise SrlibError(
            f"{reader.name}: band {band + 1} has numbers from {low[band]:g} to {high[band]:g}; "
            "declare the one that stands for no data: gdal_edit.py -a_nodata"
        )
    return [group(bands) for bands in groups]


def _notes(source: Path, reader: "DatasetReader", groups: Sequence[Group]) -> Iterator[str]:
    """Yield what a user should know of the run."""
    names = [", ".join(str(band + 1) for band in group.bands) for group in groups]
    triples = [name for name, group in zip(names, groups, strict=True) if len(group.bands) == 3]
    single = [name for name, group in zip(names, groups, strict=True) if len(group.bands) == 1]
    parts = [f"bands {name} go through the network together" for name in triples]
    parts += [f"{'band' if len(single) == 1 else 'bands'} {', '.join(single)} alone"] if single else []
    yield "; ".join(parts)
    if empty := [name for name, group in zip(names, groups, strict=True) if group.low == group.high == group.fill == 0]:
        yield f"no valid number but 0 in: {'; '.join(empty)}"
    yield from not_kept(reader)


def _read(reader: "DatasetReader", window: "Window") -> tuple[Values, Mask]:
    """Return the numbers of a window and which are valid: neither masked nor nodata nor NaN nor infinite."""
    values = reader.read(window=window)
    valid = reader.read_masks(window=window) > 0
    for band, kind in enumerate(reader.colorinterp):
        if kind.name == "alpha":
            # A gap in alpha is a gap: upscaled as a value, it would show the colors below it at its edges.
            valid[band] = values[band] != 0
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    return values, valid


def _windows(height: int, width: int, side: int) -> "Iterator[Window]":
    from rasterio.windows import Window

    for y in range(0, height, side):
        for x in range(0, width, side):
            yield Window(x, y, min(side, width - x), min(side, height - y))


_Sums = dict[tuple[tuple[int, ...], tuple[int, ...]], int]
"""CRC-32 of what was written: (column, row, width, height) and bands, from 1 → sum. Without bands: of the mask."""


def _write(reader: "DatasetReader", path: Path, groups: Sequence[Group], model: RasterModel) -> _Sums:
    """Write the upscaled raster; return the sums of its numbers."""
    import rasterio
    from rasterio.windows import Window

    scale, border = model.scale, model.receptive_field + REACH
    has_mask = any(rasterio.enums.MaskFlags.per_dataset in flags for flags in reader.mask_flag_enums) and not any(
        rasterio.enums.MaskFlags.alpha in flags for flags in reader.mask_flag_enums
    )
    sums: _Sums = {}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile_of(reader, scale)) as writer,
        progress(reader.height * reader.width * len(groups), "upscale", "pixels") as advance,
    ):
        copy_metadata(reader, writer, scale)
        for window in _windows(reader.height, reader.width, _WINDOW):
            top, left = max(0, window.row_off - border), max(0, window.col_off - border)
            bottom = min(reader.height, window.row_off + window.height + border)
            right = min(reader.width, window.col_off + window.width + border)
            values, valid = _read(reader, Window(left, top, right - left, bottom - top))
            y, x = (window.row_off - top) * scale, (window.col_off - left) * scale
            inner = np.s_[..., y : y + window.height * scale, x : x + window.width * scale]
            place = tuple(scale * number for number in window.flatten())
            for group in groups:
                index = list(group.bands)
                result = upscale_group(values[index], valid[index], group, model)
                result = _away_from_nodata(result, valid[index].repeat(scale, 1).repeat(scale, 2), group, reader)
                bands = tuple(band + 1 for band in group.bands)
                writer.write(result[inner], list(bands), window=Window(*place))
                sums[place, bands] = _sum(result[inner])
                advance(window.height * window.width)
            if has_mask:
                mask = reader.dataset_mask(window=window).repeat(scale, 0).repeat(scale, 1)
                writer.write_mask(mask, window=Window(*place))
                sums[place, ()] = _sum(mask)
    return sums


def _is_whole(path: Path, sums: _Sums) -> bool:
    """Read a written file again: GDAL reports no error where the last of it did not fit on the disk."""
    import rasterio
    from rasterio.windows import Window

    try:
        with rasterio.open(path, driver="GTiff") as file:
            return all(
                _sum(
                    file.read(list(bands), window=Window(*place))
                    if bands
                    else file.read_masks(1, window=Window(*place))
                )
                == number
                for (place, bands), number in sums.items()
            )
    except _gdal_errors():
        return False


def _sum(values: Values) -> int:
    return zlib.crc32(values.tobytes())


def _away_from_nodata(values: Values, valid: Mask, group: Group, reader: "DatasetReader") -> Values:
    """Change valid results that equal the number for nodata by one step: else they would be read as gaps."""
    if reader.nodata is None or np.isnan(reader.nodata) or not group.low <= reader.nodata <= group.high:
        return values
    nodata = np.asarray(reader.nodata, values.dtype)
    above = reader.nodata < group.high
    if values.dtype.kind == "f":
        step = np.nextafter(nodata, np.asarray(np.inf if above else -np.inf, values.dtype))
    else:
        step = nodata + 1 if above else nodata - 1
    return np.asarray(np.where(valid & (values == nodata), step, values).astype(values.dtype))
