"""Training batches cut from the patch files. A batch is a pure function of (seed, step), on any Keras backend.

With `patches` sampling, every patch is drawn once per epoch in a new random order, and a batch may reach into the next
epoch. With `balanced` sampling, images are drawn first, so that large images do not dominate. Position and orientation
come from a counter-based random generator (Philox; Salmon et al. 2011) keyed by (seed, step). A resumed training
therefore sees the same batches, and each of several processes can make its own share without communication.
"""

import csv
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from tokenize import TokenError
from typing import Literal

import cv2
import numpy as np

from srlib.data.degradation import degrade_patch, read_degradation
from srlib.errors import SrlibError
from srlib.imaging.resize import downscale
from srlib.params.training import REACH

Batch = tuple[np.ndarray, np.ndarray]
Sampling = Literal["patches", "balanced"]
Positions = Literal["lr_pixels", "hr_pixels"]


class Batches:
    """Cut random LR/HR training patches from a patch folder: `batches(step)` returns the batch of that step.

    `len(batches)` is the number of stored patches, so one epoch has `len(batches) / batch` steps. The attribute `scale`
    is the ratio of HR to LR size. If the folder names a random degradation (`prepare.degradation`), LR training patches
    are degraded anew from HR in every step; the stored ones show one example each.

    Args:
        folder: Folder written by `prepare_patches`, with `<split>_lr.npy`, uint8 [N, p, p, 3], `<split>_hr.npy`, uint8
            [N, scale·p, scale·p, 3], and further parts `<split>_hr.1.npy` and so on.
        lr_patch: Side of the LR training patch in pixels; at most the stored side p.
        batch: Pairs per step, summed over all processes.
        seed: Seed for sampling order, positions and augmentation.
        sampling: `patches` draws each stored patch once per epoch. `balanced` draws an image with a probability
            proportional to the square root of its number of patches, then one of its patches.
        split: `train` or `validation`.
        positions: Where a training patch may begin: `lr_pixels`, at every LR pixel, with the stored LR; `hr_pixels`, at
            every HR pixel at least `REACH` LR pixels away from the stored patch's border, with LR made anew from HR.
        in_memory: Read the files into memory instead of memory-mapping them.
        augment: Apply one of the eight flips and rotations (dihedral augmentation, D4) to each pair.
        rank: Index of this process; it gets rows [rank, rank + 1) · batch / world of each batch.
        world: Number of processes that share a batch.

    Raises:
        SrlibError: Files are missing or inconsistent, `lr_patch` exceeds the stored patches, `batch` is not a
            multiple of `world`, or LR cannot be made anew, since the stored LR patches are not HR downscaled.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lr_patch: int,
        batch: int,
        seed: int,
        sampling: Sampling = "patches",
        split: str = "train",
        positions: Positions = "lr_pixels",
        in_memory: bool = False,
        augment: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._lr, self._hr = lr, hr = open_pairs(Path(folder), split, in_memory=in_memory)
        self.scale = hr.shape[1] // lr.shape[1]
        border, self._stride = (0, self.scale) if positions == "lr_pixels" else (REACH, 1)
        if not 0 < lr_patch <= lr.shape[1] - 2 * border:
            largest = f"the stored side {lr.shape[1]}" + (f" less {2 * border}" if border else "")
            raise SrlibError(f"{folder}: expected lr_patch from 1 to {largest}, got {lr_patch}")
        self._first = border * self.scale  # HR pixel of the first position along each axis
        self._positions = (lr.shape[1] - 2 * border - lr_patch) * self.scale // self._stride + 1
        if batch <= 0 or world <= 0 or batch % world or not 0 <= rank < world:
            raise SrlibError(
                f"batch: expected a multiple of the number of processes ({world}, rank {rank}), got {batch}"
            )
        self._side = lr_patch
        self._batch = batch
        self._seed = seed
        self._augment = augment
        self._rows = slice(rank * batch // world, (rank + 1) * batch // world)
        self._degradation = read_degradation(Path(folder)) if split == "train" else None
        self._stored_lr = positions == "lr_pixels" and self._degradation is None
        if positions == "hr_pixels" and self._degradation is None:
            _check_downscaled(Path(folder), lr[0], hr[0])
        self._patches_per_image = None if sampling == "patches" else _patches_per_image(Path(folder), split, len(lr))

    def __len__(self) -> int:
        """Return the number of stored patches."""
        return len(self._lr)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step (from 0): LR uint8 [b, q, q, 3] and HR uint8 [b, scale·q, scale·q, 3]."""
        draws = np.random.Philox(key=[self._seed, step]).random_raw(5 * self._batch).reshape(5, -1)
        tops, lefts = self._first + draws[:2] % self._positions * self._stride
        orientations = draws[2] % 8 if self._augment else np.zeros_like(draws[2])
        if self._patches_per_image is None:
            patches = self._epoch_patches(step)
        else:
            patches = _balanced_patches(self._patches_per_image, draws[3], draws[4])
        rows = list(zip(patches, tops.tolist(), lefts.tolist(), orientations.tolist(), strict=True))[self._rows]
        lr_side, hr_side = self._side, self._side * self.scale
        lr, hr = (np.empty((len(rows), side, side, 3), np.uint8) for side in (lr_side, hr_side))
        for row, (patch, top, left, orientation) in enumerate(rows):
            _orient(self._lr_at(patch, top, left, step, self._rows.start + row), orientation, lr[row])
            _orient(self._hr[patch][top:, left:][:hr_side, :hr_side], orientation, hr[row])
        return lr, hr

    def _lr_at(self, patch: int, top: int, left: int, step: int, row: int) -> np.ndarray:
        """Return the LR training patch of one row of the whole batch, stored or made anew, at (top, left) of HR."""
        at, within = (top // self.scale, left // self.scale), (top % self.scale, left % self.scale)
        if self._stored_lr:
            return self._lr[patch][at[0] :, at[1] :][: self._side, : self._side]
        # A counter per row that neither the draws of a step nor the order of an epoch use.
        generator = np.random.Generator(np.random.Philox(key=[self._seed, step], counter=[0, 0, row, 2]))
        hr = self._hr[patch][within[0] :, within[1] :]
        return degrade_patch(hr, *at, self._side, self.scale, self._degradation, generator)

    def _epoch_patches(self, step: int) -> list[int]:
        """Return the patches of a step, each drawn once per epoch."""
        first, count = step * self._batch, len(self)
        positions = range(first, first + self._batch)
        return [int(_epoch_order(self._seed, at // count, count)[at % count]) for at in positions]


def _check_downscaled(folder: Path, lr: np.ndarray, hr: np.ndarray) -> None:
    """Refuse an LR patch that is not its HR patch, downscaled; its border depends on what lay around it."""
    inner = (slice(REACH, -REACH),) * 2
    if not np.array_equal(lr[inner], downscale(hr, hr.shape[0] // lr.shape[0])[inner]):
        raise SrlibError(
            f"{folder}: the stored LR patches are not the HR patches, downscaled, so that LR cannot be made anew at "
            "other pixels; write `positions: lr_pixels`"
        )


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    # A counter that no step uses. Sorting raw random words does not depend on NumPy's version.
    words = np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, 1]).random_raw(count)
    return np.argsort(words, kind="stable")


def _balanced_patches(per_image: np.ndarray, image_words: np.ndarray, patch_words: np.ndarray) -> list[int]:
    """Draw patches from images with `per_image` patches each, by two rows of random 64-bit words."""
    edges = np.cumsum(np.sqrt(per_image))
    # 53 bits of each word give a float in [0, 1); rounding could reach past the last edge.
    images = np.searchsorted(edges, (image_words >> 11) * 2.0**-53 * edges[-1], side="right")
    images = np.minimum(images, len(per_image) - 1)
    within = (patch_words % per_image[images].astype(np.uint64)).astype(np.int64)
    return [int(patch) for patch in (np.cumsum(per_image) - per_image)[images] + within]


def _orient(patch: np.ndarray, orientation: int, out: np.ndarray) -> None:
    """Write one of the eight orientations of a square patch: bits 0 and 1 flip, bit 2 then transposes."""
    flips, transposed = orientation & 3, orientation & 4
    if flips:  # OpenCV's codes: left to right, top to bottom, both
        patch = cv2.flip(patch, (1, 0, -1)[flips - 1], None if transposed else out)
    if transposed:
        cv2.transpose(patch, out)
    elif not flips:
        out[...] = patch


class ShardedPatches:
    """Access patches by index across one or more .npy files. All files but the last hold equally many patches.

    Attributes:
        shape: (N, side, side, 3) over all files.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        # Plain arrays: slicing a numpy.memmap costs more than copying a patch.
        self._parts = [part.view(np.ndarray) for part in parts]
        self._per_part = len(parts[0])
        self.shape: tuple[int, ...] = (sum(map(len, parts)), *parts[0].shape[1:])

    def __len__(self) -> int:
        """Return the number of patches."""
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one patch, uint8 [side, side, 3]."""
        patch: np.ndarray = self._parts[index // self._per_part][index % self._per_part]
        return patch


def open_pairs(folder: Path, split: str, *, in_memory: bool = False) -> tuple[ShardedPatches, ShardedPatches]:
    """Open the patches of a split: LR [N, p, p, 3] and HR [N, scale·p, scale·p, 3], uint8.

    Args:
        folder: Folder written by `prepare_patches`.
        split: `train` or `validation`.
        in_memory: Read the files into memory instead of memory-mapping them.

    Raises:
        SrlibError: Files are missing, damaged or inconsistent.
    """
    lr, hr = (ShardedPatches(_open(folder / f"{split}_{kind}.npy", in_memory)) for kind in ("lr", "hr"))
    if len(lr) != len(hr) or len(lr) == 0 or hr.shape[1] % lr.shape[1]:
        raise SrlibError(f"{folder}: {split}_lr.npy and {split}_hr.npy do not match: {lr.shape}, {hr.shape}")
    return lr, hr


def _open(path: Path, in_memory: bool) -> list[np.ndarray]:
    """Open `x.npy` and its further parts `x.1.npy`, `x.2.npy` and so on."""
    parts: list[np.ndarray] = []
    part = path
    while part == path or part.exists():
        if part.exists() and not part.is_file():
            raise SrlibError(f"{part}: expected a regular file; run the prepare stage again")
        try:
            array = np.load(part, mmap_mode=None if in_memory else "r", allow_pickle=False)
        except FileNotFoundError:
            raise SrlibError(f"{part}: no such file; run the prepare stage first") from None
        except (ValueError, EOFError, TokenError, MemoryError, OverflowError) as error:
            raise SrlibError(f"{part}: not a complete .npy file ({error}); run the prepare stage again") from None
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] != array.shape[2] or array.shape[3] != 3:
            raise SrlibError(f"{part}: expected uint8 [N, p, p, 3], got {array.dtype} {array.shape}")
        if parts and not (array.shape[1:] == parts[0].shape[1:] and len(parts[-1]) == len(parts[0]) >= len(array) > 0):
            raise SrlibError(f"{part}: does not match {path.name}; run the prepare stage again")
        parts.append(array)
        part = path.with_name(f"{path.stem}.{len(parts)}.npy")
    return parts


def read_index(folder: Path, split: str, count: int) -> list[dict[str, str]]:
    """Read the records of index.csv for a split with `count` patches; columns as in `patches.INDEX_COLUMNS`.

    Raises:
        SrlibError: The file is missing or does not match the patches.
    """
    path = Path(folder) / "index.csv"
    if path.exists() and not path.is_file():
        raise SrlibError(f"{path}: expected a regular file; run the prepare stage again")
    try:
        with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
            index = [row for row in csv.DictReader(file) if row.get("split") == split]
    except FileNotFoundError:
        raise SrlibError(f"{path}: no such file; run the prepare stage first") from None
    except csv.Error as error:
        raise SrlibError(f"{path}: not a whole index ({error}); run the prepare stage again") from None
    if len(index) != count:
        raise SrlibError(f"{path}: {len(index)} {split} records for {count} patches; run the prepare stage again")
    return index


def _patches_per_image(folder: Path, split: str, count: int) -> np.ndarray:
    """Return the number of patches of each image, in file order."""
    images = groupby(read_index(folder, split, count), key=lambda record: record.get("image"))
    return np.array([len(list(records)) for _, records in images])


def validation_pairs(folder: Path) -> Batch:
    """Memory-map the validation patches: LR uint8 [N, p, p, 3] and HR uint8 [N, scale·p, scale·p, 3].

    Raises:
        SrlibError: As `open_pairs`.
    """
    open_pairs(Path(folder), "validation")
    lr, hr = (_open(Path(folder) / f"validation_{kind}.npy", in_memory=False)[0] for kind in ("lr", "hr"))
    return lr, hr


def prefetch(
    batches: Callable[[int], Batch], start: int, stop: int, *, ahead: int = 4, threads: int = 1
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (step, lr, hr) for the steps in [start, stop) in order, computed ahead in background threads.

    One thread produces about 20,000 pairs per second from memory; more threads help with slow disks.

    Args:
        batches: Function from step to batch, such as `Batches`.
        start: First step.
        stop: End of the steps, exclusive.
        ahead: Number of batches computed in advance.
        threads: Number of background threads. They end with the generator, even if the consumer stops early.

    Raises:
        Exception: Any error of `batches`, at the step where it happened.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="prefetch") as pool:
        waiting: deque[tuple[int, Future[Batch]]] = deque()
        try:
            for step in range(start, stop):
                waiting.append((step, pool.submit(batches, step)))
                if len(waiting) > ahead:
                    ready, future = waiting.popleft()
                    yield ready, *future.result()
            for ready, future in waiting:
                yield ready, *future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
