"""One strip per test image: each version whole and its most detailed square, with its scores as labels.

Drawn with the font that ships with matplotlib (Pillow's own has neither × nor letters beyond ASCII) and without text
shaping, which Pillow supports on some machines only: the same images give the same bytes wherever the packages are
those of the lock.
"""

import functools
import importlib.resources
import io
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from srlib.arrays import Image
from srlib.evaluation.benchmark import Result
from srlib.evaluation.number_text import value_text
from srlib.evaluation.regions import Region, busiest_region
from srlib.evaluation.tables import best_methods
from srlib.imaging.resize import resize

COLUMN = 288  # approximate width of a column in pixels; it becomes a whole multiple of the square
GAP, MARGIN = 18, 32
TALLEST = 4 / 3  # largest height of a whole image, in column widths
PAPER, INK, GRAY, MARK = "#fbfaf7", "#1c1f24", "#6c727c", "#e2552c"


def strip(result: Result, methods: Sequence[str], *, scale: int, side: int) -> Image:
    """Draw LR, `methods` and HR side by side: whole images above, their most detailed square zoomed below.

    Args:
        result: The image with its versions and scores.
        methods: Methods of the result to show, in this order.
        scale: Upscaling factor.
        side: Side of the zoomed square in HR pixels.

    Returns:
        uint8 RGB [height, width, 3].
    """
    region = busiest_region(result.hr, result.lr, side)
    zoom = max(1, round(COLUMN / region.side))
    column = region.side * zoom
    scores = {score.method: score.values for score in result.scores}
    best = best_methods({name: scores[name]["psnr_y"] for name in methods})
    low = f"{result.lr.shape[1]}×{result.lr.shape[0]} pixels"
    high = f"{result.hr.shape[1]}×{result.hr.shape[0]} pixels"
    columns = [("LR", low, resize(result.lr, result.hr.shape[:2], kernel="nearest"))]
    columns += [(name, _label(scores[name]), result.sr[name]) for name in methods]
    columns.append(("HR", high, result.hr))

    shrink = min(column / result.hr.shape[1], TALLEST * column / result.hr.shape[0])
    size = (round(result.hr.shape[1] * shrink), round(result.hr.shape[0] * shrink))
    top = MARGIN + 46
    below = top + size[1] + GAP
    width = 2 * MARGIN + len(columns) * (column + GAP) - GAP
    sheet = Pillow.new("RGB", (width, below + column + 66 + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    title = f"{result.image.set}  ·  {result.image.name}"
    draw.text((MARGIN, MARGIN + 18), fitting(title, width // 2, 22), INK, font(22, "Bold"), anchor="ls")
    legend = f"×{scale}    PSNR-Y / SSIM-Y    frame: {region.side}×{region.side} pixels"
    draw.text((width - MARGIN, MARGIN + 18), legend, GRAY, font(14), anchor="rs")
    for index, (name, label, image) in enumerate(columns):
        left = MARGIN + index * (column + GAP)
        corner = (left + (column - size[0]) // 2, top)
        sheet.paste(Pillow.fromarray(_fit(image, size)), corner)
        _mark(draw, corner, region, shrink)
        square = Pillow.fromarray(region.cut(image)).resize((column, column), Pillow.Resampling.NEAREST)
        sheet.paste(square, (left, below))
        draw.rectangle((left, below, left + column - 1, below + column - 1), outline=MARK, width=2)
        draw.text((left, below + column + 32), fitting(name, column, 19), INK, font(19, "Bold"), anchor="ls")
        draw.text((left, below + column + 60), label, MARK if name in best else GRAY, font(16), anchor="ls")
    return np.asarray(sheet)


def _label(values: dict[str, float]) -> str:
    return f"{value_text(values['psnr_y'], 'psnr_y')} dB  /  {value_text(values['ssim_y'], 'ssim_y')}"


def _fit(image: Image, size: tuple[int, int]) -> Image:
    smaller = size[0] < image.shape[1]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)
    return np.asarray(resized, np.uint8)


def _mark(draw: ImageDraw.ImageDraw, corner: tuple[int, int], region: Region, shrink: float) -> None:
    """Frame the region in the whole image, with a light line around it that is visible on dark images."""
    left, top = corner[0] + region.left * shrink, corner[1] + region.top * shrink
    side = region.side * shrink
    for grow, color, width in ((2, "#ffffff", 1), (1, MARK, 2)):
        box = (round(left) - grow, round(top) - grow, round(left + side) + grow - 1, round(top + side) + grow - 1)
        draw.rectangle(box, outline=color, width=width)


@functools.cache
def font(size: int, face: Literal["", "Bold"] = "") -> ImageFont.FreeTypeFont:
    """Return the font of all labels, at a size in pixels."""
    name = f"mpl-data/fonts/ttf/DejaVuSans{'-' if face else ''}{face}.ttf"
    content = importlib.resources.files("matplotlib").joinpath(name).read_bytes()
    return ImageFont.truetype(io.BytesIO(content), size, layout_engine=ImageFont.Layout.BASIC)


def fitting(text: str, width: int, size: int) -> str:
    """Return `text`, shortened with an ellipsis where it is wider than `width` pixels in bold."""
    bold = font(size, "Bold")
    if bold.getlength(text) <= width:
        return text
    while text and bold.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
