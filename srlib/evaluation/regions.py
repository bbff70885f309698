"""The most detailed square of an image: what strips, the report and the survey show of large images."""

from dataclasses import dataclass

import numpy as np

from srlib.arrays import Image
from srlib.imaging.metrics import luma
from srlib.imaging.resize import resize


@dataclass(frozen=True)
class Region:
    """A square of an HR image: its top-left corner and its side, in pixels."""

    top: int
    left: int
    side: int

    def cut(self, image: Image) -> Image:
        """Return the pixels of this square from an image of the HR size, as a view."""
        return image[self.top : self.top + self.side, self.left : self.left + self.side]


def busiest_region(hr: Image, lr: Image, side: int) -> Region:
    """Return the square where bicubic upscaling loses most: the largest sum of |Y(hr) − Y(bicubic)|, the first if tied.

    Args:
        hr: uint8 RGB [H, W, 3].
        lr: uint8 RGB [H / scale, W / scale, 3].
        side: Side of the square in HR pixels; cut to what the image holds.
    """
    side = min(side, *hr.shape[:2])
    loss = np.abs(luma(hr) - luma(resize(lr, hr.shape[:2])))
    # Whole numbers: their sums are exact, so that every processor chooses the same square.
    total = np.pad(np.rint(16 * loss).astype(np.int64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return Region(int(top), int(left), side)
