"""Align photographs that were taken as pairs: HR and LR of one scene that do not match pixel for pixel.

Two lenses, two distances or two scanners give images that are shifted, turned and colored differently, and a network
trained on them learns exactly that. Here HR is resampled to the grid of LR and given its colors; pairs are cut into
tiles, and tiles that still differ are rejected. What remains is a folder for `prepare.lr: given`.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL.Image import Image as Drawing

from srlib.arrays import Image
from srlib.atomic import LONGEST_NAME
from srlib.data.contact_sheet import ALARM, INK, pair_cell, write_sheet
from srlib.data.pairs import ImagePair, find_pairs
from srlib.errors import SrlibError, printable
from srlib.files import check_output_folder, write_text
from srlib.imaging.color import luma
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.registration import (
    LARGEST_SIDE,
    apply_color,
    color_transform,
    covered,
    register,
    resample,
    tile_shift,
)
from srlib.imaging.resize import resize
from srlib.imaging.write import write_png
from srlib.parallel import for_each

LARGEST_SHIFT = 2.0
"""LR pixels by which a tile may be displaced against the rest of its image; more is another depth, or a mistake."""

LARGEST_DIFFERENCE = 12.0
"""Levels of 255 by which a block of 8×8 LR pixels may differ in brightness once all is fitted; more has moved."""

LEAST_CORRELATION = 0.7
"""Correlation of a tile's luma in LR and in downscaled HR; less shows different things."""

_BLOCK = 8
_LONGEST_TILE = "tile-9999-9999"
_FLAT = 4.0  # standard deviation in levels below which a correlation says nothing
_MARGIN = 3  # LR pixels that tiles may still be shifted by, and the kernel's reach
_DRAWN = 8  # tiles on the sheet of those kept, and of those rejected
_FEWEST_HR_PIXELS = 0.9  # per LR pixel and axis, as a share of the scale
_MOST_HR_PIXELS = 1.1
_COLUMNS = ("image", "tile", "y", "x", "shift_x", "shift_y", "correlation", "difference", "rejected")


@dataclass(frozen=True)
class Tile:
    """One tile of a pair.

    Attributes:
        image: Name of the pair: the HR file's path below `HR`.
        tile: Row and column of the tile, as in its file's name: `tile-0-2`.
        y: First row in LR.
        x: First column in LR.
        shift_x: Displacement to the right against the whole image that was mended, in LR pixels.
        shift_y: The same, downwards.
        correlation: Correlation of luma after the fit, from -1 to 1.
        difference: Largest difference in brightness of a block of 8×8 LR pixels after the fit, in levels of 255.
        rejected: Why the tile is left out; empty for one that is kept.
    """

    image: str
    tile: str
    y: int
    x: int
    shift_x: float
    shift_y: float
    correlation: float
    difference: float
    rejected: str


class TilePixels(NamedTuple):
    """A tile and its pixels, uint8 RGB: LR as it is, HR fitted to it."""

    tile: Tile
    lr: Image
    hr: Image


@dataclass(frozen=True)
class Alignment:
    """Result of `align_pairs`.

    Attributes:
        written: Number of tiles written.
        rejected: Number of tiles left out.
        mistakes: One line for each image without its partner, and for each pair that could not be aligned.
        others: Number of images in `out` that are not of this run.
    """

    written: int
    rejected: int
    mistakes: tuple[str, ...]
    others: int = 0


def align_pairs(folder: Path, out: Path, scale: int, *, tile: int = 128, force: bool = False) -> Alignment:
    """Align the pairs of a folder, and write the tiles that fit as pairs for `prepare.lr: given`.

    `out` gets folders `HR` and `LR` with tiles of `tile` LR pixels, `pairs.csv` with a row for each tile, also for the
    rejected ones, and `sheet.png`, which shows some of both.

    Args:
        folder: Folder with `HR` and `LR`, images of the same names in both.
        out: Folder to write; outside of `folder`.
        scale: HR pixels per LR pixel. The HR images need about that many; they may show more or less of the scene.
        tile: Side of a tile in LR pixels; smaller images become one tile.
        force: Write into a folder that has files already.

    Returns:
        What was kept.

    Raises:
        SrlibError: The folder has no pairs, `out` is not empty, or no tile fits.
    """
    folder, out = Path(folder), Path(out)
    if scale < 2 or tile < 2 * _BLOCK:
        raise SrlibError(f"expected a scale from 2 and tiles from {2 * _BLOCK} pixels, got {scale} and {tile}")
    pairs, mistakes = _usable_pairs(folder, scale)
    _check_out(out, folder, force)
    results = for_each(lambda pair: _write_tiles(pair, out, scale, tile), pairs, label="aligning", unit="pairs")
    tiles = [one for result in results if not isinstance(result, str) for one in result]
    mistakes += [result for result in results if isinstance(result, str)]
    fitting, rejected = ([one for one in tiles if bool(one.rejected) is which] for which in (False, True))
    if tiles:
        _write_table(tiles, out / "pairs.csv")
        selection = [*_spread(rejected, _DRAWN), *_spread(fitting, _DRAWN)]
        cells = [_cell(one) for pair in pairs for one in _again(pair, selection, scale, tile)]
        write_sheet(cells, out / "sheet.png")
    if not fitting:
        reasons = mistakes or sorted({f"{printable(one.image)}: {one.rejected}" for one in tiles})
        raise SrlibError("\n".join([*reasons, f"{folder}: no tile of {len(pairs)} pairs fits"]))
    own = {out / kind / _tile_name(one.image, one.tile) for one in fitting for kind in ("HR", "LR")}
    others = [path for kind in ("HR", "LR") for path in list_images(out / kind) if path not in own]
    return Alignment(len(fitting), len(rejected), tuple(mistakes), len(others))


def _usable_pairs(folder: Path, scale: int) -> tuple[list[ImagePair], list[str]]:
    """Return the pairs of a folder, and a line for each image that has no partner or no usable name."""
    pairs, mistakes = find_pairs(folder, given_lr=True, scale=scale)
    mistakes += _without_hr(folder, pairs, scale)
    pairs, unusable = _with_usable_names(pairs)
    return pairs, [*mistakes, *unusable]


def _check_out(out: Path, folder: Path, force: bool) -> None:
    check_output_folder(out)
    if out.resolve().is_relative_to(folder.resolve()):
        raise SrlibError(f"{out}: expected a folder outside {folder}")
    if not force and out.is_dir() and any(out.iterdir()):
        raise SrlibError(f"{out}: is not empty; use --force to write into it")


def _write_tiles(pair: ImagePair, out: Path, scale: int, tile: int) -> list[Tile] | str:
    """Write the tiles of a pair that fit, and return all; or return a line where the pair cannot be aligned."""
    try:
        results = align_pair(pair, scale, tile)
    except SrlibError as error:
        return f"{printable(pair.name)}: {error}"
    for one, lr, hr in results:
        if not one.rejected:
            for kind, pixels in (("HR", hr), ("LR", lr)):
                write_png(out / kind / _tile_name(pair.name, one.tile), pixels)
    return [one for one, _, _ in results]


def _tile_name(pair: str, tile: str) -> Path:
    stem = Path(pair).with_suffix("")
    return stem.with_name(f"{stem.name}_{tile}.png")


def _without_hr(folder: Path, pairs: Sequence[ImagePair], scale: int) -> list[str]:
    """Return a line for each LR image that no HR image has, besides those that the lines of HR images name."""

    def stems(kind: str) -> dict[Path, Path]:
        return {path: path.relative_to(folder / kind).with_suffix("") for path in list_images(folder / kind)}

    used = {pair.lr for pair in pairs}
    named = set(stems("HR").values()) - {Path(pair.name).with_suffix("") for pair in pairs}
    return [
        f"{printable(path)}: no HR image; expected {printable(folder / 'HR' / stem)}.*"
        for path, stem in stems("LR").items()
        if path not in used and not {stem, stem.with_name(stem.name.removesuffix(f"x{scale}") or stem.name)} & named
    ]


def _with_usable_names(pairs: Sequence[ImagePair]) -> tuple[list[ImagePair], list[str]]:
    """Return the pairs whose tiles have names of their own, and a line for each of the others."""
    owners = Counter(_tile_name(pair.name, "") for pair in pairs)
    usable, mistakes = [], []
    for pair in pairs:
        if owners[_tile_name(pair.name, "")] > 1:
            mistakes.append(f"{printable(pair.hr)}: another image has the same name but for its ending; rename one")
        elif len(os.fsencode(_tile_name(pair.name, _LONGEST_TILE).name)) > LONGEST_NAME:
            mistakes.append(f"{printable(pair.hr)}: its name is too long for those of its tiles; rename it")
        else:
            usable.append(pair)
    return usable, mistakes


def align_pair(pair: ImagePair, scale: int, tile: int) -> list[TilePixels]:
    """Align one pair, and return the tiles of the part that both images show, the rejected ones too.

    Args:
        pair: The files.
        scale: HR pixels per LR pixel.
        tile: Side of a tile in LR pixels.

    Raises:
        SrlibError: A file cannot be read, the images show nothing in common, or HR has too few pixels.
    """
    if pair.lr is None:
        raise SrlibError("no LR image")
    lr, hr = read_image(pair.lr), read_image(pair.hr)
    if (side := max(*hr.shape, *(scale * length for length in lr.shape))) > LARGEST_SIDE:
        raise SrlibError(f"{side:,} HR pixels along one side, more than {LARGEST_SIDE:,}; cut both images into parts")
    registration = register(lr, hr, scale)
    if registration.ratio > _MOST_HR_PIXELS * scale:  # too much detail: downscaled first, without aliasing
        factor = scale / registration.ratio
        hr = resize(hr, (round(hr.shape[0] * factor), round(hr.shape[1] * factor)))
        registration = register(lr, hr, scale)
    if registration.ratio < _FEWEST_HR_PIXELS * scale:
        raise SrlibError(
            f"HR has {registration.ratio:.2f} times the pixels per side of LR; expected at least {scale}: give "
            "sharper HR images, smaller LR images, or a smaller scale"
        )
    top, left, bottom, right = _common_part(lr, hr, registration.warp, scale)
    lr = lr[top:bottom, left:right]
    move = np.array([[1, 0, scale * left], [0, 1, scale * top], [0, 0, 1]])
    warp, size = registration.warp @ move, (lr.shape[0] * scale, lr.shape[1] * scale)
    shifts = _tile_shifts(lr, hr, warp, size, tile)
    # A tile that is displaced by more shows something else, and must not bend its neighbors.
    displaced = np.abs(shifts).max(axis=2, keepdims=True) > LARGEST_SHIFT
    fitted = resample(hr, warp, size, np.where(displaced, 0.0, shifts * scale))
    small = resize(fitted, lr.shape[:2])
    colors = color_transform(small, lr.astype(np.uint16) * 257)
    fitted_hr, fitted_lr = apply_color(fitted, colors), apply_color(small, colors)
    tiles = []
    for (row, column), (y, x), (height, width) in _grid(lr.shape[:2], tile):
        here = np.s_[y : y + height, x : x + width]
        there = np.s_[scale * y : scale * (y + height), scale * x : scale * (x + width)]
        shift, (correlation, difference) = shifts[row, column], _fit(lr[here], fitted_lr[here])
        reason = _reason(shift, correlation, difference)
        values = float(shift[0]), float(shift[1]), correlation, difference
        facts = Tile(pair.name, f"tile-{row}-{column}", top + y, left + x, *values, reason)
        tiles.append(TilePixels(facts, lr[here], fitted_hr[there]))
    return tiles


def _common_part(lr: Image, hr: Image, warp: npt.NDArray[np.float64], scale: int) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of a rectangle of LR pixels that lie in the HR image."""
    size = lr.shape[0] * scale, lr.shape[1] * scale
    inside = covered(hr, warp, size).reshape(lr.shape[0], scale, lr.shape[1], scale).all(axis=(1, 3))
    visible = cv2.erode(inside.astype(np.uint8), np.ones((2 * _MARGIN + 1,) * 2, np.uint8)) > 0
    top, left, (bottom, right) = 0, 0, visible.shape
    while (part := visible[top:bottom, left:right]).size and not part.all():
        # The side on which the largest share lies outside moves inwards.
        shares = [part[0].mean(), part[-1].mean(), part[:, 0].mean(), part[:, -1].mean()]
        side = int(np.argmin(shares))
        top, bottom, left, right = top + (side == 0), bottom - (side == 1), left + (side == 2), right - (side == 3)
    if min(bottom - top, right - left) < 2 * _BLOCK:
        raise SrlibError("the two images have too little of the scene in common")
    return top, left, bottom, right


def _grid(size: Sequence[int], tile: int) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """Return (row, column), (y, x) and (height, width) of tiles that share the image equally."""
    rows, columns = (max(side // tile, 1) for side in size)
    height, width = (min(side, tile) for side in size)
    ys = [(size[0] - rows * height) // 2 + row * height for row in range(rows)]
    xs = [(size[1] - columns * width) // 2 + column * width for column in range(columns)]
    return [((row, column), (y, x), (height, width)) for row, y in enumerate(ys) for column, x in enumerate(xs)]


def _tile_shifts(
    lr: Image, hr: Image, warp: npt.NDArray[np.float64], size: tuple[int, int], tile: int
) -> npt.NDArray[np.float64]:
    """Return what is left to shift at each tile, (x, y) in LR pixels [rows, columns, 2]."""
    fitted = resample(hr, warp, size)
    small = resize(fitted, lr.shape[:2])
    grid = _grid(lr.shape[:2], tile)
    shifts = np.zeros((grid[-1][0][0] + 1, grid[-1][0][1] + 1, 2))
    for place, (y, x), shape in grid:
        here = np.s_[y : y + shape[0], x : x + shape[1]]
        shifts[place] = tile_shift(lr[here], small[here])
    return shifts


def _fit(lr: Image, fitted: Image) -> tuple[float, float]:
    """Return the correlation of luma, and the largest difference of a block's mean."""
    ours, theirs = luma(lr, "luma"), luma(fitted, "luma")
    flat = min(ours.std(), theirs.std()) < _FLAT
    correlation = 1.0 if flat else float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
    height, width = (side // _BLOCK * _BLOCK for side in ours.shape)
    blocks = (ours - theirs)[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    return correlation, float(np.abs(blocks.mean(axis=(1, 3))).max())


def _reason(shift: npt.NDArray[np.float64], correlation: float, difference: float) -> str:
    if np.abs(shift).max() > LARGEST_SHIFT:
        return f"displaced by ({shift[0]:.1f}, {shift[1]:.1f}) LR pixels against the rest: another depth or a mistake"
    if correlation < LEAST_CORRELATION:
        return f"correlation {correlation:.2f} is below {LEAST_CORRELATION}: LR and HR show different things"
    if difference > LARGEST_DIFFERENCE:
        return f"a block differs by {difference:.0f} levels, more than {LARGEST_DIFFERENCE:.0f}: something has moved"
    return ""


def _write_table(tiles: Sequence[Tile], path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in tiles:
        values = [getattr(one, column) for column in _COLUMNS]
        values[0] = printable(one.image)
        writer.writerow([f"{value:.3f}" if isinstance(value, float) else value for value in values])
    write_text(path, text.getvalue())


def _spread(tiles: Sequence[Tile], count: int) -> list[Tile]:
    """Return at most `count` of the tiles, evenly spread."""
    if not tiles:
        return []
    return [tiles[index] for index in np.linspace(0, len(tiles) - 1, min(count, len(tiles))).round().astype(int)]


def _again(pair: ImagePair, selection: Sequence[Tile], scale: int, tile: int) -> list[TilePixels]:
    """Return the tiles of a pair that are on the sheet; computed again, as the pixels of all may not fit in memory."""
    names = {one.tile for one in selection if one.image == pair.name}
    return [one for one in align_pair(pair, scale, tile) if one.tile.tile in names] if names else []


def _cell(one: TilePixels) -> Drawing:
    caption = f"{one.tile.rejected or 'kept'}  {one.tile.image} {one.tile.tile}"
    return pair_cell(caption, ALARM if one.tile.rejected else INK, one.lr, one.hr)
