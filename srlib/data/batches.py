"""Training batches from the patch files: a batch is a pure function of (seed, step), for any backend.

Every patch is drawn once per epoch, in an order of its own for each epoch, and a batch may reach into the next one;
or pictures are drawn, large ones more often, but not in proportion. Crop position and orientation come from a
counter-based generator (Philox; Salmon et al. 2011) keyed by (seed, step), so that a resumed training sees the same
batches, and each process of several can make its own share without talking to others.
"""

import csv
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from srlib.errors import SrlibError

Batch = tuple[np.ndarray, np.ndarray]
Sampling = Literal["patches", "balanced"]


class Batches:
    """Random LR/HR crops from a folder that `prepare_patches` wrote; calling it with a step gives that batch.

    `len()` is the number of patches, so steps per epoch are `len(batches) / batch`; `scale` is HR over LR size.

    Args:
        folder: Holds `<split>_lr.npy`, uint8 [N, p, p, 3], and `<split>_hr.npy`, uint8 [N, s·p, s·p, 3], and what goes
            on in `<split>_hr.1.npy` and so forth.
        lr_patch: Side of an LR crop in pixels, at most the patch.
        batch: Pairs per step, over all processes together.
        seed: Of order, crops and orientations.
        sampling: `patches` draws each patch once per epoch. `balanced` draws an image in proportion to the square root
            of its number of patches, then one of them, so that a few large images do not outweigh many small ones.
        split: "train" or "validation".
        in_memory: Reads the files into memory instead of mapping them.
        augment: Draws one of the eight flips and rotations for each pair.
        rank: Which of the `world` processes this is; it gets rows [rank, rank + 1) · batch / world of the batch.
        world: How many processes share a batch.

    Raises:
        SrlibError: The files are missing or do not fit together, the crop is larger than the patches, or `batch`
            cannot be shared out.
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
        in_memory: bool = False,
        augment: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._lr, self._hr = lr, hr = open_pairs(Path(folder), split, in_memory=in_memory)
        self.scale = hr.shape[1] // lr.shape[1]
        self._room = lr.shape[1] - lr_patch
        if not 0 < lr_patch <= lr.shape[1]:
            raise SrlibError(
                f"{folder}: its LR patches are {lr.shape[1]} wide; expected lr_patch from 1 to that, got {lr_patch}"
            )
        if batch <= 0 or world <= 0 or batch % world or not 0 <= rank < world:
            raise SrlibError(f"batch: expected a multiple of the {world} processes (this is {rank}), got {batch}")
        self._crop, self._batch, self._seed, self._augment = lr_patch, batch, seed, augment
        self._rows = slice(rank * batch // world, (rank + 1) * batch // world)
        self._sizes = None if sampling == "patches" else _patches_of_pictures(Path(folder), split, len(lr))

    def __len__(self) -> int:
        """The number of patches."""
        return len(self._lr)

    def __call__(self, step: int) -> Batch:
        """The batch of a step (from 0): LR uint8 [b, crop, crop, 3] and HR uint8 [b, s·crop, s·crop, 3]."""
        draws = np.random.Philox(key=[self._seed, step]).random_raw(5 * self._batch).reshape(5, -1)
        tops, lefts = draws[:2] % (self._room + 1)
        turns = draws[2] % 8 if self._augment else np.zeros_like(draws[2])
        patches = self._order(step) if self._sizes is None else _balanced(self._sizes, draws[3], draws[4])
        chosen = list(zip(patches, tops.tolist(), lefts.tolist(), turns.tolist(), strict=True))[self._rows]
        sides = self._crop, self._crop * self.scale
        lr, hr = (np.empty((len(chosen), side, side, 3), np.uint8) for side in sides)
        for row, (patch, top, left, turn) in enumerate(chosen):
            _turn(self._lr[patch][top:, left:][: sides[0], : sides[0]], turn, lr[row])
            top, left = top * self.scale, left * self.scale
            _turn(self._hr[patch][top:, left:][: sides[1], : sides[1]], turn, hr[row])
        return lr, hr

    def _order(self, step: int) -> list[int]:
        """Which patches a step draws, each once per epoch."""
        first, count = step * self._batch, len(self)
        places = range(first, first + self._batch)
        return [int(_epoch_order(self._seed, place // count, count)[place % count]) for place in places]


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    # Another counter than a step's, hence other numbers. Sorting raw words does not depend on numpy's version.
    words = np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, 1]).random_raw(count)
    return np.argsort(words, kind="stable")


def _balanced(sizes: np.ndarray, pictures: np.ndarray, patches: np.ndarray) -> list[int]:
    """Which patches two rows of random words draw from pictures that have `sizes` patches."""
    until = np.cumsum(np.sqrt(sizes))
    # 53 bits of each word, in [0, 1); rounding might lead past the end.
    chosen = np.minimum(np.searchsorted(until, (pictures >> 11) * 2.0**-53 * until[-1], side="right"), len(sizes) - 1)
    within = (patches % sizes[chosen].astype(np.uint64)).astype(np.int64)
    return [int(patch) for patch in (np.cumsum(sizes) - sizes)[chosen] + within]


def _turn(crop: np.ndarray, turn: int, out: np.ndarray) -> None:
    """Writes one of the eight orientations of a square crop: bits 0 and 1 flip, bit 2 transposes afterwards."""
    flips, transposed = turn & 3, turn & 4
    if flips:  # OpenCV's codes: left to right, top to bottom, both
        crop = cv2.flip(crop, (1, 0, -1)[flips - 1], None if transposed else out)
    if transposed:
        cv2.transpose(crop, out)
    elif not flips:
        out[...] = crop


class Patches:
    """Patches in one file or several, each with as many as the first but the last; one is got by its number.

    Attributes:
        shape: (N, side, side, 3), of all together.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        # Plain arrays: slicing a numpy.memmap costs more than copying a crop.
        self._parts = [part.view(np.ndarray) for part in parts]
        self._each = len(parts[0])
        self.shape: tuple[int, ...] = (sum(map(len, parts)), *parts[0].shape[1:])

    def __len__(self) -> int:
        """The number of patches."""
        return self.shape[0]

    def __getitem__(self, row: int) -> np.ndarray:
        """A patch, uint8 [side, side, 3]."""
        patch: np.ndarray = self._parts[row // self._each][row % self._each]
        return patch


def open_pairs(folder: Path, split: str, *, in_memory: bool = False) -> tuple[Patches, Patches]:
    """The patches of a split, LR [N, p, p, 3] and HR [N, s·p, s·p, 3], mapped or read into memory.

    Raises:
        SrlibError: The files are missing, damaged, or do not fit together.
    """
    lr, hr = (Patches(_open(folder / f"{split}_{kind}.npy", in_memory)) for kind in ("lr", "hr"))
    if len(lr) != len(hr) or len(lr) == 0 or hr.shape[1] % lr.shape[1]:
        raise SrlibError(f"{folder}: {split}_lr.npy and {split}_hr.npy do not fit together: {lr.shape}, {hr.shape}")
    return lr, hr


def _open(path: Path, in_memory: bool) -> list[np.ndarray]:
    """The arrays of a file `x.npy` and of `x.1.npy`, `x.2.npy`, … beside it."""
    parts: list[np.ndarray] = []
    part = path
    while part == path or part.exists():
        try:
            array = np.load(part, mmap_mode=None if in_memory else "r", allow_pickle=False)
        except FileNotFoundError:
            raise SrlibError(f"{part}: no such file; run the prepare stage first") from None
        except (ValueError, EOFError) as error:
            raise SrlibError(f"{part}: not a whole .npy file ({error}); run the prepare stage again") from None
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] != array.shape[2] or array.shape[3] != 3:
            raise SrlibError(f"{part}: expected uint8 [N, p, p, 3], got {array.dtype} {array.shape}")
        if parts and not (array.shape[1:] == parts[0].shape[1:] and len(parts[-1]) == len(parts[0]) >= len(array) > 0):
            raise SrlibError(f"{part}: does not fit {path.name}; run the prepare stage again")
        parts.append(array)
        part = path.with_name(f"{path.stem}.{len(parts)}.npy")
    return parts


def read_index(folder: Path, split: str, count: int) -> list[dict[str, str]]:
    """The rows of index.csv for a split that has `count` patches: `srlib.data.patches.INDEX_COLUMNS` as text.

    Raises:
        SrlibError: It is missing, or does not fit the patches.
    """
    path = Path(folder) / "index.csv"
    try:
        with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
            index = [row for row in csv.DictReader(file) if row.get("split") == split]
    except FileNotFoundError:
        raise SrlibError(f"{path}: no such file; run the prepare stage first") from None
    if len(index) != count:
        raise SrlibError(f"{path}: {len(index)} rows for {split}, but {count} patches; prepare again")
    return index


def _patches_of_pictures(folder: Path, split: str, count: int) -> np.ndarray:
    """How many patches each picture has, in the order in which they lie in the files."""
    pictures = groupby(read_index(folder, split, count), key=lambda row: row.get("picture"))
    return np.array([len(list(rows)) for _, rows in pictures])


def validation_pairs(folder: Path) -> Batch:
    """The validation patches, mapped: LR uint8 [N, p, p, 3] and HR uint8 [N, s·p, s·p, 3]; raises as `open_pairs`."""
    open_pairs(Path(folder), "validation")
    lr, hr = (_open(Path(folder) / f"validation_{kind}.npy", in_memory=False)[0] for kind in ("lr", "hr"))
    return lr, hr


def prefetch(
    batches: Callable[[int], Batch], start: int, stop: int, *, ahead: int = 4, threads: int = 1
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields (step, lr, hr) for the steps in [start, stop), in order, made ahead of need in the background.

    An error of `batches` is raised where its step would have come. The threads end with the generator, also where the
    consumer stops early. One thread fills 20,000 pairs a second from memory; more help where the disk is slow.
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
