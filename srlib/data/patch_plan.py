"""Which patches are cut from which image: checked images, the corners of their patches, and their split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

import cv2
import numpy as np

from srlib.data.pairs import ImagePair, check_pair, validation_names
from srlib.errors import SrlibError
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale, resize
from srlib.params import Prepare

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


class Corner(NamedTuple):
    """Top-left corner of a patch, in LR pixels of a copy of the image scaled by `size`."""

    size: float
    y: int
    x: int

    @property
    def seed(self) -> str:
        """The corner as part of a seed. The spelling must stay: degraded patches depend on it."""
        return f"_Corner(size={self.size!r}, y={self.y}, x={self.x})"


@dataclass(frozen=True)
class Job:
    """An image, the corners of its patches, and their rows in the files of a split, beginning at `row`."""

    pair: ImagePair
    corners: tuple[Corner, ...]
    flat: int = 0
    split: Split = "train"
    row: int = 0


def inspect(pair: ImagePair, params: Prepare, scale: int) -> Job:
    """Check an image and list its patches; raise SrlibError if it cannot be used."""
    height, width = check_pair(pair, scale=scale, patch=params.patch)
    if min(_shrunk(side, largest := max(params.sizes)) for side in (height, width)) < params.patch:
        raise SrlibError(f"{pair.hr}: smaller than a patch at {largest:g} of its size, the largest of prepare.sizes")
    corners = all_corners(height, width, params)
    if not params.flat and not params.detail:
        return Job(pair, corners)
    hr, side = read_image(pair.hr), params.patch * scale
    detailed: list[Corner] = []
    for size, group in groupby(corners, key=lambda corner: corner.size):
        copy = scaled_copy(hr, size, scale)
        gray = cv2.cvtColor(copy, cv2.COLOR_RGB2GRAY)
        error = _bicubic_error(copy, gray, scale, params) if params.detail else None
        for at in group:
            place = np.s_[at.y * scale : at.y * scale + side, at.x * scale : at.x * scale + side]
            if cv2.meanStdDev(gray[place])[1].item() < params.flat:
                continue
            if error is None or cv2.mean(error[place])[0] >= params.detail**2:
                detailed.append(at)
    return Job(pair, tuple(detailed), flat=len(corners) - len(detailed))


def all_corners(height: int, width: int, params: Prepare) -> tuple[Corner, ...]:
    """Return the corners of the patches of an LR image, flat ones included."""
    return tuple(
        Corner(size, y, x)
        for size in params.sizes
        for y in range(0, _shrunk(height, size) - params.patch + 1, params.stride)
        for x in range(0, _shrunk(width, size) - params.patch + 1, params.stride)
    )


def _bicubic_error(hr: np.ndarray, gray: np.ndarray, scale: int, params: Prepare) -> np.ndarray:
    """Return the squared error of bicubic upscaling at each pixel, float32 [H, W]: what is left for a network to learn.

    Patches that bicubic already restores cost as much as others and teach little (SamplingAug: Wang et al. 2021,
    arXiv:2111.15185).
    """
    bicubic = resize(downscale(hr, scale, edges=params.edges), hr.shape[:2])
    difference = cv2.cvtColor(bicubic, cv2.COLOR_RGB2GRAY).astype(np.float32) - gray
    return np.asarray(difference * difference)


def _shrunk(side: int, size: float) -> int:
    """Return the side in LR pixels of a copy scaled by `size`."""
    return int(side * size + 1e-9)


def scaled_copy(hr: np.ndarray, size: float, scale: int) -> np.ndarray:
    """Return the image, uint8 [H, W, 3], scaled by `size` and cropped to a multiple of the scale."""
    hr = crop_to_multiple(hr, scale)
    height, width = (_shrunk(side // scale, size) * scale for side in hr.shape[:2])
    return resize(hr, (height, width)) if size < 1 else hr


def make_plan(jobs: Sequence[Job], params: Prepare, seed: int) -> list[Job]:
    """Return the jobs that have patches, each with its split and first row.

    Raises:
        SrlibError: Images of fewer than two different scenes have patches.
    """
    total = len(jobs)
    jobs = [job for job in jobs if any(at.size == max(params.sizes) for at in job.corners)]
    try:
        held_out = validation_names([job.pair for job in jobs], params.validation, seed)
    except SrlibError as error:
        if len(jobs) == total:
            raise
        dropped = f"prepare.flat {params.flat:g} and prepare.detail {params.detail:g} drop all patches of"
        raise SrlibError(f"{error}; {dropped} {total - len(jobs)} of {total} images: lower them") from None
    rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    plan = []
    for job in jobs:
        split: Split = "validation" if job.pair.name in held_out else "train"
        if split == "validation":
            job = replace(job, corners=tuple(at for at in job.corners if at.size == max(params.sizes)))
        plan.append(replace(job, split=split, row=rows[split]))
        rows[split] += len(plan[-1].corners)
    return plan
