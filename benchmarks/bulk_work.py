"""A data set of LSDIR's size on a cluster, rehearsed: real costs of some images, the real plan of 85,000.

    python benchmarks/bulk_work.py FOLDER [--measure 20] [--total 85000] [--workers 1 8 32 128]

Measured, on one core each: checking an image of FOLDER, cutting its patches (64/256 pixels, ×4), downscaling it, and
upscaling the downscaled one with psnr-x4. Then srlib's own code plans 85,000 such images, whose files have no content:
which patches go into which file, and which task writes it. The tasks are handed to simulated workers, each to the one
that is free first, as the costs of their images say; the scheduler spends 5 ms on each. Printed: cost per image, tasks,
bytes, the time of the planning itself, and hours for each number of workers, of one core each, with a disk that is fast
enough for all of them: the rate that it needs is printed too.
"""

import argparse
import heapq
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from srlib.data.pairs import ImagePair
from srlib.data.patch_files import PatchFiles
from srlib.data.patch_parts import _pieces
from srlib.data.patch_plan import Job, inspect, make_plan
from srlib.data.patches import _PART, _cut
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale
from srlib.imaging.write import write_png
from srlib.inference.upscaler import open_model
from srlib.params import Prepare

SCALE, PATCH, PER_TASK, PER_SUBMISSION = 4, 64, 100, 0.005


@dataclass(frozen=True)
class Costs:
    """An image's patches, and the seconds that its steps take on one core."""

    job: Job
    check: float
    cut: float
    downscale: float
    upscale: float
    lr_bytes: int
    sr_bytes: int


def measure(paths: Sequence[Path], params: Prepare) -> list[Costs]:
    """Measure each image."""
    model = open_model("psnr-x4", threads=1)
    costs = []
    with tempfile.TemporaryDirectory() as name:
        for path in paths:
            folder = Path(name)
            start = time.process_time()
            job = inspect(ImagePair(path.name, path), params, SCALE)
            checked = time.process_time()
            rows = {
                ("train", kind): PatchFiles(folder / f"{kind}.npy", len(job.corners), side, len(job.corners))
                for kind, side in (("lr", PATCH), ("hr", PATCH * SCALE))
            }
            for file in rows.values():
                file.path.unlink(missing_ok=True)
                file.create()
            if mistake := _cut(job, rows=rows, params=params, scale=SCALE, seed=0):
                raise SystemExit(mistake)
            cut = time.process_time()
            lr = downscale(read_image(path), SCALE)
            write_png(folder / "lr.png", lr)
            downscaled = time.process_time()
            write_png(folder / "sr.png", model(read_image(folder / "lr.png")))
            upscaled = time.process_time()
            sizes = [(folder / f"{kind}.png").stat().st_size for kind in ("lr", "sr")]
            steps = [checked - start, cut - checked, downscaled - cut, upscaled - downscaled]
            costs.append(Costs(job, *steps, *sizes))
    return costs


def stand_in(folder: Path, number: int) -> ImagePair:
    """Make an image that exists in the plan only: a file without content, of a size of its own as photographs have."""
    path = folder / f"{number:06}.png"
    path.touch()
    os.truncate(path, 10**6 + number)
    return ImagePair(path.name, path)


def hours(tasks: Sequence[float], workers: int) -> float:
    """Return the hours until the last worker is done, if each takes the next task when it is free."""
    free = [0.0] * workers
    for number, seconds in enumerate(tasks):
        start = max(heapq.heappop(free), number * PER_SUBMISSION)
        heapq.heappush(free, start + seconds)
    return max(free) / 3600


def grouped(costs: Sequence[float], total: int) -> list[float]:
    """Return the seconds of tasks of `PER_TASK` images each."""
    each = [costs[number % len(costs)] for number in range(total)]
    return [sum(each[start : start + PER_TASK]) for start in range(0, total, PER_TASK)]


def print_hours(name: str, tasks: Sequence[float], size: float, workers: Sequence[int]) -> None:
    """Print a line for one kind of work that reads and writes `size` bytes."""
    times = {count: hours(tasks, count) for count in workers}
    line = "  ".join(f"{count}: {time:.2f} h" for count, time in times.items())
    rate = size / 1e6 / (times[max(workers)] * 3600)
    print(f"{name:18} {len(tasks):6} tasks {size / 1e9:8.1f} GB   {line}   disk {rate:,.0f} MB/s at {max(workers)}")


def main() -> None:
    """Measure, plan and simulate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--measure", type=int, default=20, help="number of images to measure")
    parser.add_argument("--total", type=int, default=85_000, help="number of images to plan")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 32, 128])
    options = parser.parse_args()
    params = Prepare(images=str(options.folder), patch=PATCH, stride=PATCH, validation=100 / options.total)
    costs = measure(list_images(options.folder)[: options.measure], params)
    count, total = len(costs), options.total
    print(f"{count} images measured, seconds per image and core:")
    for step in ("check", "cut", "downscale", "upscale"):
        print(f"  {step:10} {sum(getattr(cost, step) for cost in costs) / count:.3f}")
    print(f"  {sum(len(cost.job.corners) for cost in costs) / count:.1f} patches per image")

    with tempfile.TemporaryDirectory() as name:
        jobs = [replace(costs[number % count].job, pair=stand_in(Path(name), number)) for number in range(total)]
        start = time.perf_counter()
        plan = make_plan(jobs, params, 0)
    train = [job for job in plan if job.split == "train"]
    rows = sum(len(job.corners) for job in train)
    hr = PatchFiles(Path("train_hr.npy"), rows, PATCH * SCALE, _PART // (3 * (PATCH * SCALE) ** 2))
    pieces = list(_pieces(train, "train", hr))
    planning = time.perf_counter() - start
    per_patch = sum(cost.cut for cost in costs) / sum(len(cost.job.corners) for cost in costs)
    cutting = [per_patch * (piece.stop - piece.start) for piece in pieces]
    patch_bytes = rows * 3 * PATCH**2 * (1 + SCALE**2)
    print(f"{total:,} images: {rows:,} training patches in {len(pieces)} files, planned in {planning:.1f} s")

    read = sum(cost.job.pair.hr.stat().st_size for cost in costs) / count * total
    lr, sr = (sum(getattr(cost, kind) for cost in costs) / count * total for kind in ("lr_bytes", "sr_bytes"))
    print("hours by number of workers, of one core each:")
    print_hours("prepare: check", grouped([cost.check for cost in costs], total), read, options.workers)
    print_hours("prepare: cut", cutting, read + patch_bytes, options.workers)
    print_hours("downscale", grouped([cost.downscale for cost in costs], total), read + lr, options.workers)
    print_hours("upscale psnr-x4", grouped([cost.upscale for cost in costs], total), lr + sr, options.workers)


if __name__ == "__main__":
    main()
