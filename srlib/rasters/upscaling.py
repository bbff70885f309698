"""Upscale a raster file window by window, with its georeference, gaps and the meaning of its bands."""

import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from srlib.atomic import atomic_path
from srlib.errors import SrlibError, one_line, printable
from srlib.inference.shipped import CLEAN_MODEL
from srlib.inference.upscale import RgbModel
from srlib.inference.upscaler import Upscaler, open_model
from srlib.progress import progress
from srlib.rasters.bands import REACH, Group, Mask, Values, upscale_group
from srlib.rasters.metadata import copy_metadata, not_kept, profile_of
from srlib.rasters.source import band_groups, check_bands, check_paths, gdal_errors, open_raster, require_rasterio

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.windows import Window

_WINDOW = 512
"""Side of a window of the raster in pixels. Times any factor it is a multiple of the 256 pixels of a written tile."""

_BLOCK = 2048  # side of the blocks in which the range of numbers is measured


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
    run_raster(
        Path(raster),
        Path(out),
        lambda: model if isinstance(model, Upscaler) else open_model(model),
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
    check_paths(source, target, force)
    require_rasterio()
    import rasterio

    try:
        with (
            warnings.catch_warnings(),
            rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"),
            open_raster(source) as reader,
        ):
            check_bands(source, reader)
            groups = _measured(reader, band_groups(source, reader, together))
            for note in _notes(source, reader, groups):
                print(f"{printable(source)}: {note}", file=sys.stderr)
            with atomic_path(target) as temporary:
                sums = _write(reader, temporary, groups, open_model())
                if not _is_whole(temporary, sums):
                    raise SrlibError(f"{printable(target)}: could not be written whole; is the disk full?")
    except gdal_errors() as error:
        reason = one_line(error)
        raise SrlibError(f"{printable(source)}: cannot be read as GeoTIFF or JPEG 2000 ({reason})") from None


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
    except gdal_errors():
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
