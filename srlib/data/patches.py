"""Cut images into aligned LR/HR patches: a few large files with the same bytes for any number of workers.

The LR image is computed from the whole HR image and cut afterwards, so that no patch has edges of its own. Patches are
written directly to their position in the files; memory holds one image per worker.
"""

import contextlib
import csv
import functools
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from srlib.data.degradation import degrade_patch, keyed_generator, write_degradation
from srlib.data.pairs import ImagePair, check_pair, find_pairs, validation_names
from srlib.errors import SrlibError
from srlib.files import atomic_path, remove, write_bytes
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale, resize
from srlib.parallel import for_each
from srlib.params import Prepare

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
INDEX_COLUMNS = ("split", "row", "image", "size", "y", "x")
_CHUNK = 2**20  # bytes of HR patches per write
_PART = 2**28  # bytes of training patches per file, so that DVC hashes and transfers several files at once
_SPARE = 2**26  # bytes that must stay free on the disk
_MANY = 64  # from this number of images on, processes are worth their start-up time


@dataclass(frozen=True)
class PreparedPatches:
    """Counts of a patch folder.

    Attributes:
        images: Images that patches were cut from.
        train: Training patches.
        validation: Validation patches.
        flat: Patches dropped because of `prepare.flat` or `prepare.detail`.
        bytes: Size on disk.
        left_out: One line for each image that was left out.
    """

    images: int
    train: int
    validation: int
    flat: int
    bytes: int
    left_out: tuple[str, ...]


class _Corner(NamedTuple):
    """Top-left corner of a patch, in LR pixels of a copy of the image scaled by `size`."""

    size: float
    y: int
    x: int


@dataclass(frozen=True)
class _Job:
    """An image, the corners of its patches, and their rows in the files of a split, beginning at `row`."""

    pair: ImagePair
    corners: tuple[_Corner, ...]
    flat: int = 0
    split: Split = "train"
    row: int = 0


def prepare_patches(
    images: Path,
    out: Path,
    params: Prepare,
    *,
    scale: int,
    seed: int,
    workers: int | None = None,
    processes: bool = False,
) -> PreparedPatches:
    """Write the patch folder `out` from a folder of images.

    The folder holds `{train,validation}_lr.npy`, uint8 RGB [N, p, p, 3], `{train,validation}_hr.npy`, uint8 RGB
    [N, scale·p, scale·p, 3], `degradation.json` if `params.degradation` is set, and `index.csv` with the columns
    split, row, image, size (of the copy), y and x (corner in LR pixels of that copy). Only the largest copies are used
    for validation. Training patches beyond 256 MiB continue in `train_lr.1.npy`, `train_hr.1.npy` and so on, each with
    as many patches as the first file.

    Args:
        images: Folder of images at any depth, or with the folders `HR` and `LR` (see `srlib.data.pairs`).
        out: Folder to write; it is replaced as a whole at the end.
        params: The `prepare` section of the recipe.
        scale: Ratio of HR to LR size.
        seed: Seed for the validation split and the noise.
        workers: Number of images processed at once (default: all CPU cores). The bytes do not depend on it.
        processes: Use processes instead of threads for many images, which is faster; see `for_each` for the
            requirements. The bytes do not depend on it.

    Raises:
        SrlibError: Unusable images (all named in one error before any work, unless `params.unusable` is `skip`), too
            few images, or not enough disk space.
    """
    pairs, mistakes = find_pairs(images, given_lr=params.lr == "given", scale=scale)
    total = len(pairs) + len(mistakes)

    def inspect(pair: ImagePair) -> _Job | str:
        try:
            return _inspect(pair, params, scale)
        except SrlibError as error:
            return str(error)

    results = for_each(inspect, pairs, label="checking images", unit="images", workers=workers)
    mistakes += [mistake for mistake in results if isinstance(mistake, str)]
    jobs = [job for job in results if isinstance(job, _Job)]
    with atomic_path(Path(out)) as folder:
        while True:
            if mistakes and params.unusable == "stop":
                raise SrlibError(_unusable(mistakes, total))
            if not jobs:
                raise SrlibError("\n".join(["none of the images can be used (prepare.images):", *mistakes]))
            plan = _plan(jobs, params, seed)
            processes = processes and len(plan) >= _MANY
            failed = _write(plan, folder, params, scale=scale, seed=seed, workers=workers, processes=processes)
            if not failed:
                break
            # Intact by their checksums, but not decodable: plan again without them.
            mistakes += failed.values()
            jobs = [job for job in jobs if job.pair.name not in failed]
        size = sum(path.stat().st_size for path in folder.iterdir())
    train, validation = (sum(len(job.corners) for job in plan if job.split == split) for split in SPLITS)
    return PreparedPatches(len(plan), train, validation, sum(job.flat for job in plan), size, tuple(mistakes))


def _unusable(mistakes: Sequence[str], total: int) -> str:
    head = (
        f"{len(mistakes)} of {total} images cannot be used; repair or remove them, or set prepare.unusable to `skip`:"
    )
    return "\n".join([head, *mistakes])


def _inspect(pair: ImagePair, params: Prepare, scale: int) -> _Job:
    """Check an image and list its patches; raise SrlibError if it cannot be used."""
    height, width = check_pair(pair, scale=scale, patch=params.patch)
    if min(_shrunk(side, largest := max(params.sizes)) for side in (height, width)) < params.patch:
        raise SrlibError(f"{pair.hr}: smaller than a patch at {largest:g} of its size, the largest of prepare.sizes")
    corners = tuple(
        _Corner(size, y, x)
        for size in params.sizes
        for y in range(0, _shrunk(height, size) - params.patch + 1, params.stride)
        for x in range(0, _shrunk(width, size) - params.patch + 1, params.stride)
    )
    if not params.flat and not params.detail:
        return _Job(pair, corners)
    hr, side = read_image(pair.hr), params.patch * scale
    detailed: list[_Corner] = []
    for size, group in groupby(corners, key=lambda corner: corner.size):
        copy = _copy(hr, size, scale)
        gray = cv2.cvtColor(copy, cv2.COLOR_RGB2GRAY)
        error = _bicubic_error(copy, gray, scale, params) if params.detail else None
        for at in group:
            place = np.s_[at.y * scale : at.y * scale + side, at.x * scale : at.x * scale + side]
            if cv2.meanStdDev(gray[place])[1].item() < params.flat:
                continue
            if error is None or cv2.mean(error[place])[0] >= params.detail**2:
                detailed.append(at)
    return _Job(pair, tuple(detailed), flat=len(corners) - len(detailed))


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


def _copy(hr: np.ndarray, size: float, scale: int) -> np.ndarray:
    """Return the image, uint8 [H, W, 3], scaled by `size` and cropped to a multiple of the scale."""
    hr = crop_to_multiple(hr, scale)
    height, width = (_shrunk(side // scale, size) * scale for side in hr.shape[:2])
    return resize(hr, (height, width)) if size < 1 else hr


def _plan(jobs: Sequence[_Job], params: Prepare, seed: int) -> list[_Job]:
    """Return the jobs that have patches, each with its split and first row."""
    jobs = [job for job in jobs if any(at.size == max(params.sizes) for at in job.corners)]
    held_out = validation_names([job.pair for job in jobs], params.validation, seed)
    rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    plan = []
    for job in jobs:
        split: Split = "validation" if job.pair.name in held_out else "train"
        if split == "validation":
            job = replace(job, corners=tuple(at for at in job.corners if at.size == max(params.sizes)))
        plan.append(replace(job, split=split, row=rows[split]))
        rows[split] += len(plan[-1].corners)
    return plan


def _write(
    plan: Sequence[_Job], folder: Path, params: Prepare, *, scale: int, seed: int, workers: int | None, processes: bool
) -> dict[str, str]:
    """Write the patch folder; return one line, by image name, for each image that could not be decoded."""
    remove(folder)
    folder.mkdir()
    needed = sum(len(job.corners) for job in plan) * 3 * params.patch**2 * (1 + scale**2) + _SPARE
    if (free := shutil.disk_usage(folder).free) < needed:
        raise SrlibError(f"{folder.parent}: the patches need {needed / 1e9:.2f} GB, only {free / 1e9:.2f} GB are free")
    rows = {}
    for split in SPLITS:
        count = sum(len(job.corners) for job in plan if job.split == split)
        for kind, side in (("lr", params.patch), ("hr", params.patch * scale)):
            part = max(_PART // (3 * side**2), 1) if split == "train" else count
            rows[split, kind] = _Rows(folder / f"{split}_{kind}.npy", count, side, max(part, 1))
            rows[split, kind].create()
    cut = functools.partial(_cut, rows=rows, params=params, scale=scale, seed=seed)
    mistakes = for_each(cut, plan, label="cutting patches", unit="images", workers=workers, processes=processes)
    if params.degradation:
        write_degradation(folder, params.degradation)
    # A name that is not UTF-8 is written with its original bytes.
    write_bytes(folder / "index.csv", _index(plan).encode("utf-8", "surrogateescape"))
    return {job.pair.name: mistake for job, mistake in zip(plan, mistakes, strict=True) if mistake}


def _cut(job: _Job, *, rows: dict[tuple[Split, str], "_Rows"], params: Prepare, scale: int, seed: int) -> str | None:
    """Write the patches of one image; return one line if the image cannot be decoded."""
    try:
        original = _read_once(job.pair.hr)
        given_lr = _read_once(job.pair.lr) if job.pair.lr else None
    except SrlibError as error:
        return str(error)
    chunk = max(_CHUNK // (3 * (params.patch * scale) ** 2), 1)
    row = job.row
    for size, group in groupby(job.corners, key=lambda corner: corner.size):
        corners = list(group)
        hr = _copy(original, size, scale)
        lr = degrade(hr, scale, params, f"{seed}/{job.pair.name}") if given_lr is None else given_lr
        for start in range(0, len(corners), chunk):
            part = corners[start : start + chunk]
            if params.degradation:
                lr_patches = _degraded(hr, part, params, scale, f"{seed}/{job.pair.name}")
            else:
                lr_patches = _patches(lr, part, params.patch, 1)
            rows[job.split, "lr"].write(row + start, lr_patches)
            rows[job.split, "hr"].write(row + start, _patches(hr, part, params.patch, scale))
        row += len(corners)
    return None


def _degraded(hr: np.ndarray, corners: Sequence[_Corner], params: Prepare, scale: int, key: str) -> np.ndarray:
    """Return LR patches, uint8 [n, patch, patch, 3], each with a random degradation of its own."""
    assert params.degradation
    return np.stack(
        [
            degrade_patch(hr, at.y, at.x, params.patch, scale, params.degradation, keyed_generator(f"{key}/{at}"))
            for at in corners
        ]
    )


def _read_once(path: Path) -> np.ndarray:
    """Read an image once and drop it from the page cache, which then has space for the patches that DVC will hash."""
    image = read_image(path)
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return image


def degrade(hr: np.ndarray, scale: int, params: Prepare, key: str) -> np.ndarray:
    """Return the LR image, uint8 [H // scale, W // scale, 3]: MATLAB's bicubic, then optional noise and JPEG.

    Args:
        hr: uint8 RGB [H, W, 3].
        scale: Ratio of HR to LR size.
        params: `edges`; `noise`, the standard deviation of Gaussian noise in levels of 255; `jpeg`, its quality.
        key: Seed of the noise, as text.
    """
    lr = downscale(hr, scale, edges=params.edges)
    if params.noise:
        noise = keyed_generator(key).standard_normal(lr.shape, np.float32)
        lr = np.clip(np.floor(lr + params.noise * noise + 0.5), 0, 255).astype(np.uint8)
    if params.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, params.jpeg]
        _, content = cv2.imencode(".jpg", cv2.cvtColor(lr, cv2.COLOR_RGB2BGR), quality)
        lr = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))
    return lr


def _patches(image: np.ndarray, corners: Sequence[_Corner], patch: int, scale: int) -> np.ndarray:
    """Cut patches, uint8 [n, scale·patch, scale·patch, 3], at corners in LR pixels."""
    side = patch * scale
    return np.stack([image[at.y * scale :, at.x * scale :][:side, :side] for at in corners])


def _index(plan: Sequence[_Job]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INDEX_COLUMNS)
    for split in SPLITS:
        for job in plan:
            if job.split == split:
                writer.writerows((split, job.row + i, job.pair.name, *at) for i, at in enumerate(job.corners))
    return text.getvalue()


@dataclass(frozen=True)
class _Rows:
    """Patches, uint8 [count, side, side, 3], in .npy files of `part` patches, written in any order by many workers."""

    path: Path
    count: int
    side: int
    part: int

    def create(self) -> None:
        """Create the files with their full size."""
        for first in range(0, max(self.count, 1), self.part):
            rows = min(self.count - first, self.part)
            file = self._file(first // self.part)
            with _named(file), file.open("xb") as out:
                out.write(self._head(rows))
                out.truncate(out.tell() + rows * self._row_bytes)

    def write(self, row: int, patches: np.ndarray) -> None:
        """Write contiguous patches, uint8 [n, side, side, 3], to the rows from `row`."""
        while len(patches):
            number, inside = divmod(row, self.part)
            here = patches[: self.part - inside]
            file, rows = self._file(number), min(self.count - number * self.part, self.part)
            with _named(file), file.open("r+b", buffering=0) as out:
                out.seek(len(self._head(rows)) + inside * self._row_bytes)
                content = here.reshape(-1).data
                while len(content):
                    content = content[out.write(content) :]
            row, patches = row + len(here), patches[len(here) :]

    @property
    def _row_bytes(self) -> int:
        return self.side * self.side * 3

    def _file(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.{number}.npy") if number else self.path

    def _head(self, rows: int) -> bytes:
        head = io.BytesIO()
        shape = (rows, self.side, self.side, 3)
        np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return head.getvalue()


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turn an OSError into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise SrlibError(f"{file}: cannot be written ({error.strerror})") from error
