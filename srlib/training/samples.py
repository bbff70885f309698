"""Which held-out patches are shown while a network trains, for example in MLflow. No output of a stage holds them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from srlib.data.batches import Batches, read_index, validation_pairs
from srlib.errors import SrlibError
from srlib.imaging.metrics import luma
from srlib.imaging.resize import resize
from srlib.training.callbacks import Callback
from srlib.training.session import TrainingSession
from srlib.training.types import ByteArray, Sample
from srlib.training.validation import upscale_patches

SHOWN = 4
"""Number of patches that are shown."""


_CANDIDATES = 256
"""At most this many held-out patches are compared, spread evenly."""


class Samples(Callback):
    """Reports a few held-out patches with their SR. Nothing that is trained or written depends on them.

    Args:
        patches: The folder of prepared patches.
        every: Steps between reports; the last step is reported too.
        at_start: Whether the initial weights are reported too.
    """

    def __init__(self, patches: Path, every: int, *, at_start: bool = False) -> None:
        lr, hr = validation_pairs(patches)
        candidates = np.unique(np.linspace(0, len(lr) - 1, min(len(lr), _CANDIDATES)).round().astype(int)).tolist()
        rows = [candidates[position] for position in detailed_patches(patches, candidates)]
        self._lr, self._hr = np.asarray(lr[rows]), np.asarray(hr[rows])
        self._every = every
        self._at_start = at_start

    def on_start(self, session: TrainingSession, batches: Batches) -> None:
        """Report the initial weights, where these count."""
        if session.step == 0 and self._at_start:
            self._report(session)

    def on_step_end(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> None:
        """Report where it is due."""
        if session.is_due(self._every):
            self._report(session)

    def _report(self, session: TrainingSession) -> None:
        with session.averaged_network() as network:
            sr = np.stack(upscale_patches(network, self._lr))
        session.log.report_sample(Sample(self._lr, self._hr, sr), session.step)


def detailed_patches(folder: Path, rows: Sequence[int], count: int = SHOWN) -> list[int]:
    """Return the positions in `rows` of the patches with most detail, of as many images as possible, none overlapping.

    Detail is what bicubic upscaling loses: the mean of |Y(HR) − Y(bicubic)|. The same patches give the same choice.

    Args:
        folder: The folder of prepared patches.
        rows: Rows of validation patches to choose from.
        count: Most patches to return.
    """
    lr, hr = validation_pairs(folder)
    index = _index(folder, len(lr))
    detail = [_detail(lr[row], hr[row]) for row in rows]
    chosen: list[int] = []
    waiting = sorted(range(len(rows)), key=lambda position: (-detail[position], position))
    while waiting and len(chosen) < count:
        images = [index[rows[position]]["image"] for position in chosen]
        best = min(waiting, key=lambda position: images.count(index[rows[position]]["image"]))
        chosen.append(best)
        waiting = [p for p in waiting if p != best and not _overlap(index[rows[p]], index[rows[best]], lr.shape[1])]
    return chosen


def _index(folder: Path, count: int) -> list[dict[str, str]]:
    """Return the records of index.csv; without a usable one, each patch counts as an image of its own."""
    try:
        return read_index(folder, "validation", count)
    except SrlibError:  # what is only shown must not stop a training
        return [{"image": str(row), "size": "1", "y": "0", "x": "0"} for row in range(count)]


def _detail(lr: ByteArray, hr: ByteArray) -> int:
    """Return the detail of a patch as a whole number: its sum is exact on every processor."""
    loss = np.abs(luma(hr) - luma(resize(np.asarray(lr), hr.shape[:2])))
    return int(np.rint(16 * loss).astype(np.int64).sum())


def _overlap(one: Mapping[str, str], other: Mapping[str, str], side: int) -> bool:
    """Return whether two patches of `side` LR pixels share pixels of an image, given their records in index.csv."""
    if (one["image"], one["size"]) != (other["image"], other["size"]):
        return False
    return all(abs(int(one[axis]) - int(other[axis])) < side for axis in ("y", "x"))
