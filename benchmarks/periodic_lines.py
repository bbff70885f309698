"""How many blocks of an image have a line with the period of one LR pixel, at scale 4: artifacts of a network.

    python benchmarks/periodic_lines.py IMAGE …

Prints the share of blocks for each image, in percent, and their mean; also for the originals of a test set.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.evaluation.benchmark import Metric
from srlib.imaging.color import luma
from srlib.imaging.read import read_image

SCALE = 4
BLOCK = 32
NEIGHBORS = (5, 6, 10, 11)
"""Frequencies around that of period 4, in waves per block: periods 6.4, 5.3, 3.2 and 2.9. Those in between leak."""

FACTOR = 3
FLOOR = 1.0


def main() -> None:
    """Print the share of each image."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    options = parser.parse_args()
    shares = [100 * periodic_blocks(read_image(path)) for path in options.images]
    for path, share in zip(options.images, shares, strict=True):
        print(f"{share:5.1f} %  {path}")
    print(f"{statistics.mean(shares):5.1f} %  mean of {len(shares)}")


def periodic_blocks(image: Image) -> float:
    """Return the share of blocks in whose luma a line of period 4 stands out, the trace of one LR pixel at scale 4.

    The image is cut from its upper left corner into blocks of 32×32 pixels; what is left over on the right and below
    is not used. In each block, minus its mean, the power spectrum of the rows under a Hann window is averaged over the
    rows, and that of the columns over the columns. A block counts where, in either of the two, the power at period 4
    exceeds three times the median power at the periods 6.4, 5.3, 3.2 and 2.9. This median is at least 1, so that a
    pure wave counts from an amplitude of 0.22 levels of 255, and rounding in flat blocks does not.

    Only horizontal and vertical lines are measured. Originals have some too, such as stripes and cloth: a model has
    artifacts where its share is above theirs.

    Args:
        image: uint8 RGB [H, W, 3], at least 32×32.

    Returns:
        A share from 0 to 1.

    Raises:
        SrlibError: The image is smaller than a block.

    Example:
        >>> flat = np.full((64, 64, 3), 128, np.uint8)
        >>> lines = flat + np.uint8([0, 4, 0, 0] * 16)[:, np.newaxis]
        >>> periodic_blocks(flat), periodic_blocks(lines)
        (0.0, 1.0)
    """
    down, across = (side // BLOCK for side in image.shape[:2])
    if not (down and across):
        size = f"{image.shape[1]}×{image.shape[0]}"
        raise SrlibError(f"lines of period {SCALE}: expected at least {BLOCK}×{BLOCK} pixels, got {size}")
    blocks = luma(image, "luma")[: down * BLOCK, : across * BLOCK]
    blocks = blocks.reshape(down, BLOCK, across, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
    ratios = []
    for views in (blocks, blocks.swapaxes(1, 2)):
        power = (np.abs(np.fft.rfft(views * np.hanning(BLOCK))) ** 2).mean(axis=1)
        around = np.maximum(np.median(power[:, NEIGHBORS], axis=1), FLOOR)
        ratios.append(power[:, BLOCK // SCALE] / around)
    return float((np.maximum(*ratios) > FACTOR).mean())


PERIODIC = Metric(
    f"Blocks with a line of period {SCALE}", "%", 1, "lower", lambda hr, sr, scale: 100 * periodic_blocks(sr), BLOCK
)


if __name__ == "__main__":
    main()
