"""A contact sheet of training patches: a person sees at a glance whether LR and HR are aligned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from srlib.data.batches import open_pairs, read_index
from srlib.data.patch_plan import SPLITS
from srlib.errors import SrlibError, printable
from srlib.files import check_output
from srlib.imaging.resize import resize
from srlib.imaging.write import write_png

_TILE = 192  # side of the central part of a patch that is drawn, in HR pixels
_GAP, _CAPTION, _COLUMNS = 8, 20, 2
_PAPER, INK, ALARM = "#ffffff", "#1c1f24", "#c62828"
_GAIN = 2  # amplification of the difference
_REACH = 2  # largest displacement that is tried, in HR pixels


@dataclass(frozen=True)
class ContactSheet:
    """Counts of a contact sheet: pairs drawn, and pairs whose HR is displaced against its LR."""

    pairs: int
    displaced: int


def contact_sheet(folder: Path, out: Path, *, count: int = 16, force: bool = False) -> ContactSheet:
    """Draw pairs spread over a patch folder as PNG, three tiles each: nearest-neighbor LR, HR, and HR minus bicubic.

    In the third tile, gray means no difference; an aligned pair shows fine texture and thin edges there. A red caption
    names the shift by which the upscaled LR would fit the HR better. A quarter of the pairs are validation patches.

    Args:
        folder: Folder written by `prepare_patches`.
        out: PNG file to write.
        count: Number of pairs to draw, at most as many as there are.
        force: Overwrite an existing file.

    Raises:
        SrlibError: The folder holds no patches, its index does not match its files, or `out` exists or cannot be
            written.
    """
    if count < 1:
        raise SrlibError(f"count: expected at least 1, got {count}")
    check_output(Path(out), suffix=".png", force=force)
    cells, displaced = [], 0
    for split, share in zip(SPLITS, (count - count // 4, count // 4), strict=True):
        lr, hr = open_pairs(Path(folder), split)
        index = read_index(Path(folder), split, len(lr))
        for row in np.linspace(0, len(lr) - 1, min(share, len(lr))).round().astype(int).tolist():
            entry, shift = index[row], displacement(lr[row], hr[row])
            caption = "{} {}  y {}, x {}  {}".format(split, row, *(entry.get(key, "?") for key in ("y", "x", "image")))
            if shift != (0, 0):
                displaced += 1
                caption = f"displaced by y {shift[0]:+}, x {shift[1]:+}  {caption}"
            cells.append(pair_cell(caption, INK if shift == (0, 0) else ALARM, lr[row], hr[row]))
    write_sheet(cells, Path(out))
    return ContactSheet(len(cells), displaced)


def write_sheet(cells: Sequence[Image.Image], out: Path) -> None:
    """Write cells of `pair_cell` as one PNG with two columns."""
    height, width = (max(getattr(cell, side) for cell in cells) + _GAP for side in ("height", "width"))
    lines = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (min(_COLUMNS, len(cells)) * width + _GAP, lines * height + _GAP), _PAPER)
    for number, cell in enumerate(cells):
        sheet.paste(cell, (_GAP + number % _COLUMNS * width, _GAP + number // _COLUMNS * height))
    write_png(out, np.asarray(sheet))


def displacement(lr: np.ndarray, hr: np.ndarray) -> tuple[int, int]:
    """Return the displacement (down, right) of HR against LR in HR pixels: the shift of least squared difference.

    Args:
        lr: uint8 [p, p, 3].
        hr: uint8 [scale·p, scale·p, 3].

    Returns:
        A shift from (-2, -2) to (2, 2); (0, 0) if no other shift is better, as in a flat patch.
    """
    upscaled = resize(np.asarray(lr), hr.shape[:2]).astype(np.int64)
    inside = upscaled[_REACH:-_REACH, _REACH:-_REACH]
    height, width = inside.shape[:2]
    shifts = [(y, x) for y in range(-_REACH, _REACH + 1) for x in range(-_REACH, _REACH + 1)]

    def difference(shift: tuple[int, int]) -> tuple[int, int]:
        y, x = _REACH + shift[0], _REACH + shift[1]
        return int(((hr[y : y + height, x : x + width] - inside) ** 2).sum()), abs(shift[0]) + abs(shift[1])

    return min(shifts, key=difference)


def pair_cell(caption: str, ink: str, lr: np.ndarray, hr: np.ndarray) -> Image.Image:
    """Draw one pair under a caption: nearest-neighbor LR, HR, and HR minus bicubic, of the central part.

    Args:
        caption: Text on one line, cut off where it is too long.
        ink: Its color; `ALARM` for a pair with a fault.
        lr: uint8 [h, w, 3].
        hr: uint8 [scale·h, scale·w, 3].
    """
    scale = len(hr) // len(lr)
    side = max(min(_TILE // scale, *lr.shape[:2]), 1)
    top, left = ((length - side) // 2 * scale for length in lr.shape[:2])
    visible = np.s_[top : top + side * scale, left : left + side * scale]
    difference = np.clip(128 + _GAIN * (hr.astype(int) - resize(np.asarray(lr), hr.shape[:2])), 0, 255).astype(np.uint8)
    tiles = [resize(np.asarray(lr), scale, kernel="nearest")[visible], hr[visible], difference[visible]]
    side = tiles[0].shape[0]
    cell = Image.new("RGB", (3 * side + 2 * _GAP, side + _CAPTION), _PAPER)
    font = ImageFont.load_default(12)
    draw = ImageDraw.Draw(cell)
    caption = printable(caption)
    while caption and draw.textlength(caption, font) > cell.width:
        caption = caption[:-2].rstrip("…") + "…" if len(caption) > 2 else ""
    draw.text((0, 2), caption, ink, font)
    for number, tile in enumerate(tiles):
        cell.paste(Image.fromarray(tile), (number * (side + _GAP), _CAPTION))
    return cell
