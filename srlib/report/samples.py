"""A sheet of held-out patches, drawn while a network trains: LR, bicubic, SR and HR side by side, with scores."""

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from srlib.arrays import Image
from srlib.evaluation.number_text import value_text
from srlib.imaging.metrics import psnr_y, ssim_y
from srlib.imaging.resize import resize
from srlib.report.strips import GRAY, INK, PAPER, font
from srlib.training.types import Sample

_COLUMN = 224
"""Approximate width of a column in pixels; it becomes a whole multiple of a patch."""

_GAP, _MARGIN, _LABEL, _HEAD = 14, 24, 30, 66


def sheet(sample: Sample, step: int) -> Image:
    """Draw one row for each patch of a sample.

    Args:
        sample: The patches.
        step: Number of training steps, for the title.

    Returns:
        uint8 RGB [height, width, 3].

    Example:
        >>> import numpy as np
        >>> lr, hr = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 32, 32, 3), np.uint8)
        >>> sheet(Sample(lr, hr, hr), 100).shape[2]
        3
    """
    side = sample.hr.shape[1]
    scale, zoom = side // sample.lr.shape[1], max(1, round(_COLUMN / side))
    column = side * zoom
    row_height = column + _LABEL
    width = 2 * _MARGIN + 4 * (column + _GAP) - _GAP
    drawing = Pillow.new("RGB", (width, _HEAD + len(sample.hr) * (row_height + _GAP) + _MARGIN - _GAP), PAPER)
    draw = ImageDraw.Draw(drawing)
    draw.text((width - _MARGIN, 26), f"step {step}   ×{scale}   PSNR-Y in dB / SSIM-Y", GRAY, font(13), anchor="rs")
    for index, name in enumerate(("LR", "bicubic", "SR", "HR")):
        draw.text((_MARGIN + index * (column + _GAP), 56), name, INK, font(18, "Bold"), anchor="ls")
    for row, (lr, hr, sr) in enumerate(zip(*sample, strict=True)):
        top = _HEAD + row * (row_height + _GAP)
        bicubic = resize(lr, hr.shape[:2])
        labels = ("", _scores(hr, bicubic, scale), _scores(hr, sr, scale), "")
        for index, image in enumerate((resize(lr, hr.shape[:2], kernel="nearest"), bicubic, sr, hr)):
            left = _MARGIN + index * (column + _GAP)
            drawing.paste(Pillow.fromarray(image).resize((column, column), Pillow.Resampling.NEAREST), (left, top))
            draw.text((left, top + column + 20), labels[index], INK if index == 2 else GRAY, font(14), anchor="ls")
    return np.asarray(drawing)


def _scores(hr: Image, image: Image, scale: int) -> str:
    psnr, ssim = psnr_y(hr, image, scale=scale), ssim_y(hr, image, scale=scale)
    return f"{value_text(psnr, 'psnr_y')} / {value_text(ssim, 'ssim_y')}"
