"""Cut images into aligned LR/HR patches: a few large files with the same bytes for any number of workers.

The LR image is computed from the whole HR image and cut afterwards, so that no patch has edges of its own. Patches are
written directly to their position in the files; memory holds one image per worker.
"""

import csv
import functools
import io
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from srlib.atomic import atomic_path, remove
from srlib.cluster import Cluster, connected
from srlib.data.degradation import degrade_patch, keyed_generator, write_degradation
from srlib.data.pairs import ImagePair, find_pairs
from srlib.data.patch_files import PatchFiles
from srlib.data.patch_parts import Files, write_on_cluster
from srlib.data.patch_plan import SPLITS, Corner, Job, inspect, make_plan, scaled_copy
from srlib.errors import SrlibError
from srlib.files import write_bytes
from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale
from srlib.parallel import for_each
from srlib.params import Prepare

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


def prepare_patches(
    images: Path,
    out: Path,
    params: Prepare,
    *,
    scale: int,
    seed: int,
    workers: int | None = None,
    processes: bool = False,
    scheduler: str | None = None,
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
        scheduler: Address of a Dask scheduler whose workers do the work (default: this machine). The bytes do not
            depend on it.

    Raises:
        SrlibError: Unusable images (all named in one error before any work, unless `params.unusable` is `skip`), too
            few images, not enough disk space, or a cluster that cannot do the work.
    """
    if scheduler:  # workers have another working folder
        images, out = Path(images).absolute(), Path(out).absolute()
    with connected(scheduler, inputs=[images], outputs=[out.parent]) as cluster:
        return _prepare(images, out, params, scale, seed, _Hands(workers, processes, cluster))


@dataclass(frozen=True)
class _Hands:
    """Who does the work: see `for_each`."""

    workers: int | None
    processes: bool
    cluster: Cluster | None


def _prepare(images: Path, out: Path, params: Prepare, scale: int, seed: int, hands: _Hands) -> PreparedPatches:
    """Check all images, then cut them; repeat the cutting without those that turn out to be damaged."""
    pairs, mistakes = find_pairs(images, given_lr=params.lr == "given", scale=scale)
    total = len(pairs) + len(mistakes)
    jobs, unusable = _inspect_all(pairs, params, scale, hands)
    mistakes += unusable
    with atomic_path(Path(out)) as folder:
        while True:
            if mistakes and params.unusable == "stop":
                raise SrlibError(_unusable(mistakes, total))
            if not jobs:
                raise SrlibError("\n".join(["none of the images can be used (prepare.images):", *mistakes]))
            plan = make_plan(jobs, params, seed)
            failed = _write(plan, folder, params, scale=scale, seed=seed, hands=hands)
            if not failed:
                break
            # Intact by their checksums, but not decodable: plan again without them.
            mistakes += failed.values()
            jobs = [job for job in jobs if job.pair.name not in failed]
        size = sum(path.stat().st_size for path in folder.iterdir())
    train, validation = (sum(len(job.corners) for job in plan if job.split == split) for split in SPLITS)
    return PreparedPatches(len(plan), train, validation, sum(job.flat for job in plan), size, tuple(mistakes))


def _inspect_all(pairs: Sequence[ImagePair], params: Prepare, scale: int, hands: _Hands) -> tuple[list[Job], list[str]]:
    """Return the images that can be cut, and a line for each of the others."""

    def inspect_or_explain(pair: ImagePair) -> Job | str:
        try:
            return inspect(pair, params, scale)
        except SrlibError as error:
            return str(error)

    results = for_each(
        inspect_or_explain,
        pairs,
        label="checking images",
        unit="images",
        workers=hands.workers,
        cluster=hands.cluster,
    )
    jobs = [job for job in results if isinstance(job, Job)]
    return jobs, [line for line in results if isinstance(line, str)]


def _unusable(mistakes: Sequence[str], total: int) -> str:
    head = (
        f"{len(mistakes)} of {total} images cannot be used; repair or remove them, or set prepare.unusable to `skip`:"
    )
    return "\n".join([head, *mistakes])


def _write(
    plan: Sequence[Job], folder: Path, params: Prepare, *, scale: int, seed: int, hands: _Hands
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
            rows[split, kind] = PatchFiles(folder / f"{split}_{kind}.npy", count, side, max(part, 1))
    cut = functools.partial(_cut, params=params, scale=scale, seed=seed)
    if hands.cluster:
        mistakes = write_on_cluster(plan, rows, cut, folder, hands.cluster)
    else:
        mistakes = _write_here(plan, rows, cut, hands)
    if params.degradation:
        write_degradation(folder, params.degradation)
    # A name that is not UTF-8 is written with its original bytes.
    write_bytes(folder / "index.csv", _index(plan).encode("utf-8", "surrogateescape"))
    return mistakes


def _write_here(plan: Sequence[Job], rows: Files, cut: Callable[..., str | None], hands: _Hands) -> dict[str, str]:
    """Write all patch files on this machine; return one line, by image name, for each that could not be decoded."""
    for files in rows.values():
        files.create()
    mistakes = for_each(
        functools.partial(cut, rows=rows),
        plan,
        label="cutting patches",
        unit="images",
        workers=hands.workers,
        processes=hands.processes and len(plan) >= _MANY,
    )
    return {job.pair.name: mistake for job, mistake in zip(plan, mistakes, strict=True) if mistake}


def _cut(job: Job, *, rows: Files, params: Prepare, scale: int, seed: int) -> str | None:
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
        hr = scaled_copy(original, size, scale)
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


def _degraded(hr: np.ndarray, corners: Sequence[Corner], params: Prepare, scale: int, key: str) -> np.ndarray:
    """Return LR patches, uint8 [n, patch, patch, 3], each with a random degradation of its own."""
    assert params.degradation
    return np.stack(
        [
            degrade_patch(hr, at.y, at.x, params.patch, scale, params.degradation, keyed_generator(f"{key}/{at.seed}"))
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


def _patches(image: np.ndarray, corners: Sequence[Corner], patch: int, scale: int) -> np.ndarray:
    """Cut patches, uint8 [n, scale·patch, scale·patch, 3], at corners in LR pixels."""
    side = patch * scale
    return np.stack([image[at.y * scale :, at.x * scale :][:side, :side] for at in corners])


def _index(plan: Sequence[Job]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INDEX_COLUMNS)
    for split in SPLITS:
        for job in plan:
            if job.split == split:
                writer.writerows((split, job.row + i, job.pair.name, *at) for i, at in enumerate(job.corners))
    return text.getvalue()
