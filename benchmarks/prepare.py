"""`prepare` at the size of DIV2K: photographs of 2040×1356 to patches of 64/256, beside one PNG per patch, in one run.

    python benchmarks/prepare.py SOURCES --work FOLDER [--images 800] [--same-settings]

SOURCES holds photographs; each is mirrored until it fills 2040×1356, at an offset of its own. In FOLDER (30 GB for 800
images; removed first, left in place afterwards) both ways run as the only stage of `dvc repro prepare`, each in a
repository of its own:

- srlib: its real stage, from a clone of this project, with everything around it: the check of params.yaml and of all
  images, the MLflow run (in a new database), MATLAB's antialiased bicubic, one process per core. The clone's
  .dvc/config links files to the cache and hashes four at once.
- naive: the way of most articles. One process, one image after the other: cv2.imread, cv2.resize(INTER_CUBIC),
  cv2.imwrite of each LR and HR patch as a PNG of its own with OpenCV's settings. No checks, no run, no antialiasing.
  DVC as `dvc init` leaves it; with --same-settings, as this project sets it.

Measured for both: `dvc repro prepare` (hashing the images, making the patches, hashing them), its peak anonymous
memory over all processes, the disk the patches take, random batches of 16 pairs read back by one thread (Batches;
cv2.imread), `dvc status`, `dvc repro` with nothing to do, and `dvc push` to a folder. Exits with 1 where srlib is not 3
times as fast or needs 1.5 GiB.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil
import yaml

from srlib.data.batches import Batches
from srlib.imaging.folders import list_images
from srlib.imaging.read import image_size, read_image
from srlib.imaging.write import write_png
from srlib.parallel import for_each

PROJECT = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH, SCALE, PATCH = 1356, 2040, 4, 64
PAIRS = (HEIGHT // SCALE // PATCH) * (WIDTH // SCALE // PATCH)  # per image
BATCH, STEPS = 16, 125  # for reading back


@dataclass(frozen=True)
class Measured:
    """Seconds of a command, and the peak anonymous memory of all its processes together, in MiB."""

    seconds: float
    peak: float = 0.0


def make_images(sources: Path, out: Path, count: int) -> None:
    """Write `count` different images of 2040×1356: photographs of at least 300 pixels, mirrored side by side.

    Smaller ones would repeat within an image as often as the patches do, so that many patches would be equal.
    """
    photographs = [path for path in list_images(sources) if min(image_size(path)) >= 300]

    def make(number: int) -> None:
        image = read_image(photographs[number % len(photographs)])
        write_png(out / f"{number + 1:04}.png", mirrored(image, HEIGHT, WIDTH, seed=number))

    for_each(make, range(count), label="making images", unit="images")


def mirrored(photograph: np.ndarray, height: int, width: int, seed: int) -> np.ndarray:
    """Return uint8 RGB [height, width, 3]: a photograph mirrored side by side, from a random offset."""
    rng = np.random.default_rng(seed)
    top, left = (int(rng.integers(side)) for side in photograph.shape[:2])
    rows, columns = height + top, width + left
    padding = ((0, max(rows - photograph.shape[0], 0)), (0, max(columns - photograph.shape[1], 0)), (0, 0))
    return np.ascontiguousarray(np.pad(photograph, padding, mode="symmetric")[top:rows, left:columns])


def naive(images: Path, out: Path) -> None:
    """Cut patches the naive way: OpenCV's bicubic and one PNG per patch, one image after the other."""
    for kind in ("hr", "lr"):
        (out / kind).mkdir(parents=True)
    for path in sorted(images.iterdir()):
        hr = cv2.imread(str(path))
        lr = cv2.resize(hr, None, fx=1 / SCALE, fy=1 / SCALE, interpolation=cv2.INTER_CUBIC)
        for y in range(0, lr.shape[0] - PATCH + 1, PATCH):
            for x in range(0, lr.shape[1] - PATCH + 1, PATCH):
                name = f"{path.stem}_{y:04}_{x:04}.png"
                cv2.imwrite(str(out / "lr" / name), lr[y : y + PATCH, x : x + PATCH])
                part = np.s_[y * SCALE : (y + PATCH) * SCALE, x * SCALE : (x + PATCH) * SCALE]
                cv2.imwrite(str(out / "hr" / name), hr[part])


def read_srlib(patches: Path) -> None:
    """Read random pairs as a training does, whole patches without augmentation."""
    batches = Batches(patches, lr_patch=PATCH, batch=BATCH, seed=0, augment=False)
    for step in range(STEPS):
        batches(step)


def read_naive(patches: Path) -> None:
    """Read as many random pairs file by file."""
    names = np.random.default_rng(0).permutation(sorted(os.listdir(patches / "lr")))
    for step in range(STEPS):
        for kind in ("lr", "hr"):
            batch = names.take(range(step * BATCH, (step + 1) * BATCH), mode="wrap")
            np.stack([cv2.imread(str(patches / kind / name), cv2.IMREAD_COLOR_RGB) for name in batch])


def run(*command: str, cwd: Path) -> Measured:
    """Run `dvc …` or `git …` and measure it."""
    start, peak = time.perf_counter(), 0
    arguments = [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)
    with subprocess.Popen(arguments, cwd=cwd, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.25)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return Measured(time.perf_counter() - start, peak / 1024)


def anonymous(pid: int) -> int:
    """Return the anonymous memory of a process and its descendants, in KiB."""
    total = 0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1])
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        pass  # the process has ended
    return total


def srlib_repository(folder: Path) -> None:
    """Clone this project with a recipe that prepares ../images."""
    run("git", "clone", "-q", str(PROJECT), str(folder), cwd=PROJECT)
    recipe = yaml.safe_load((PROJECT / "recipes" / "div2k-x4.yaml").read_text())
    recipe["prepare"] |= {"images": "../images", "lr": "make", "patch": PATCH, "stride": PATCH}
    recipe["scale"] = SCALE
    (folder / "params.yaml").write_text(yaml.safe_dump(recipe))


def naive_repository(folder: Path, same_settings: bool) -> None:
    """Make a repository with one stage, the naive one."""
    folder.mkdir()
    run("git", "init", "-q", cwd=folder)
    run("dvc", "init", "-q", cwd=folder)
    if same_settings:
        shutil.copy(PROJECT / ".dvc" / "config", folder / ".dvc" / "config")
    command = f"{sys.executable} {Path(__file__).resolve()} --naive ../images data/patches"
    stage = {"cmd": command, "deps": ["../images"], "outs": ["data/patches"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"prepare": stage}}))


def main() -> None:
    """Make the images, run both ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument(
        "--same-settings", action="store_true", help="this project's DVC settings for the naive way too"
    )
    options = parser.parse_args()
    work = options.work.resolve()
    for name in ("images", "srlib", "naive", "remote-srlib", "remote-naive"):
        shutil.rmtree(work / name, ignore_errors=True)
    make_images(options.sources, work / "images", options.images)
    table: dict[str, dict[str, float]] = {}
    for name, make, read in (
        ("srlib", srlib_repository, read_srlib),
        ("naive", lambda folder: naive_repository(folder, options.same_settings), read_naive),
    ):
        folder = work / name
        make(folder)
        run("dvc", "remote", "add", "-q", "-f", "-d", "local", str(work / f"remote-{name}"), cwd=folder)
        os.sync()  # earlier writes must not count
        prepared = run("dvc", "repro", "-q", "prepare", cwd=folder)
        files = [path for path in (folder / "data" / "patches").rglob("*") if path.is_file()]
        start = time.perf_counter()
        read(folder / "data" / "patches")
        reading = time.perf_counter() - start
        os.sync()
        table[name] = {
            "prepare and hash, s": prepared.seconds,
            "the same, pairs/s": options.images * PAIRS / prepared.seconds,
            "peak anonymous memory, MiB": prepared.peak,
            "patches, GB": sum(path.stat().st_size for path in files) / 1e9,
            "patch files": len(files),
            "read back, pairs/s": BATCH * STEPS / reading,
            "dvc status, s": run("dvc", "status", "-q", "prepare", cwd=folder).seconds,
            "dvc repro with nothing to do, s": run("dvc", "repro", "-q", "prepare", cwd=folder).seconds,
            "dvc push, s": run("dvc", "push", "-q", "prepare", cwd=folder).seconds,
            "dvc's cache, GB on disk": disk(folder / ".dvc" / "cache") / 1e9,
        }
    images = disk(work / "images") / 1e9
    print(f"{options.images} images of {WIDTH}×{HEIGHT}, {images:.2f} GB")
    print(f"{'':32} {'srlib':>10} {'naive':>10} {'ratio':>7}")
    for row, ours in table["srlib"].items():
        theirs = table["naive"][row]
        print(f"{row:32} {ours:10,.2f} {theirs:10,.2f} {theirs / ours if ours else 0:7.2f}")
    faster = table["naive"]["prepare and hash, s"] / table["srlib"]["prepare and hash, s"]
    if faster < 3 or table["srlib"]["peak anonymous memory, MiB"] > 1536:
        sys.exit("less than 3 times as fast, or more than 1.5 GiB")


def disk(folder: Path) -> int:
    """Return the bytes on disk below a folder; a file with several names counts once."""
    seen = {(stat.st_dev, stat.st_ino): stat.st_blocks * 512 for stat in (p.stat() for p in folder.rglob("*"))}
    return sum(seen.values())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--naive"]:
        naive(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
