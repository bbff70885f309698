"""A rehearsal of the DIV2K recipes where DIV2K is out of reach: archives of its layout, from download to report.

    python -m benchmarks.rehearse_div2k build FOLDER PHOTOS… [--mirror FOLDER]
    python -m benchmarks.rehearse_div2k run FOLDER RECIPE… --work FOLDER [--pretrain 20] [--finetune 5] [--photos F]

`build` makes, once, what a mirror of the public data holds (5 GB): archives with DIV2K's names, counts and sizes,
their LR images by srlib's bicubic, a file of VGG19's shape with random weights, SqueezeNet's weights if `--mirror` has
them, and the benchmark images: copies from `--mirror` where it has them, else photographs. `checksums.txt` lists the
SHA-256 of every file that differs from the published one.

`run` serves FOLDER on 127.0.0.1 and runs all stages of each recipe in a fresh clone of this project, with
`SRLIB_MIRROR` and `SRLIB_CHECKSUMS`. The steps of both trainings are shortened, and with them what is counted in steps
(milestones, warm-up, intervals); everything else stays. Time, peak memory and disk of each stage are printed as a
table, and the number of training pairs is compared with what the sizes of the images give.
"""

import argparse
import contextlib
import csv
import functools
import math
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from benchmarks.prepare import PROJECT, anonymous, disk, mirrored
from srlib.data.pairs import find_pairs
from srlib.data.sources import SQUEEZENET, VGG19, Source, div2k, div2k_members, plan
from srlib.files import file_hash
from srlib.imaging.folders import list_images
from srlib.imaging.read import image_size, read_image
from srlib.imaging.resize import downscale
from srlib.params import Download, Params, load_params

SCALE = 4
SIZES = {(2040, 1356): 56, (1356, 2040): 14, (2040, 1536): 15, (2040, 1152): 10, (2040, 816): 3, (2040, 2040): 2}
"""Width and height → images per hundred: DIV2K's longer side is 2040; the shares are assumed."""
DIFFERENT = 100  # images of different pixels in an archive
URBAN = (1024, 768)
STAGES = ("check", "download", "prepare", "pretrain", "finetune", "evaluate")
POLL = 0.25  # seconds between two looks at the memory


def main() -> None:
    """Build the mirror, or run recipes against it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("build")
    making.add_argument("folder", type=Path)
    making.add_argument("photos", type=Path, nargs="+")
    making.add_argument("--mirror", type=Path, help="a folder with SelfExSR/ and keras-squeezenet/ to copy from")
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("recipes", nargs="+", help="names in recipes/, such as div2k-x4")
    running.add_argument("--work", type=Path, required=True)
    running.add_argument("--pretrain", type=int, default=20, help="steps")
    running.add_argument("--finetune", type=int, default=5, help="steps")
    running.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES, help="`check` begins a new clone")
    running.add_argument("--photos", type=Path, help="for recipes that read data/photos")
    options = parser.parse_args()
    if options.command == "build":
        build(options.folder, options.photos, options.mirror)
    else:
        with serving(options.folder) as address:
            for name in options.recipes:
                rehearse(name, address, options)


def build(folder: Path, photos: list[Path], mirror: Path | None) -> None:
    """Write the mirror; files that exist are left alone."""
    photographs = [path for top in photos for path in list_images(top) if min(image_size(path)) >= 300]
    for subset, first in (("train", 0), ("valid", 800)):
        build_archives(folder / "DIV2K", subset, first, photographs)
    for source in (item.source for item in plan("test", everything(), SCALE)):
        build_benchmark_image(folder, source, photographs, mirror)
    build_features(folder)
    copied(folder, SQUEEZENET, mirror)
    sources = [div2k(part) for part in ("train_HR", "valid_HR", f"train_LR_bicubic_X{SCALE}")]
    for role in ("test", "features"):
        sources += [item.source for item in plan(role, everything(), SCALE)]
    lines = sorted({line for source in sources if (line := changed_checksum(folder, source))})
    (folder / "checksums.txt").write_text("".join(lines))
    print(f"{folder}: {disk(folder) / 1e9:.2f} GB, {len(lines)} checksums differ from the published ones")


def everything() -> Download:
    """Return the largest request of any recipe."""
    sets = ["Set5", "Set14", "BSD100", "Urban100"]
    return Download.model_validate({"train": "div2k-bicubic", "test": sets, "features": "vgg19"})


def changed_checksum(folder: Path, source: Source) -> str:
    """Return a line as `sha256sum` writes it, or an empty text for a file that is the published one."""
    assert source.mirror
    path = folder / source.mirror
    if file_hash(path, source.algorithm) == source.digest:
        return ""
    return f"{file_hash(path)}  {source.mirror}\n"


def build_archives(folder: Path, subset: str, first: int, photographs: list[Path]) -> None:
    """Write the HR archive of a subset and, for training, that of its LR images.

    Each hundred images repeats the pixels of the first hundred in files of their own, which differ by a comment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"{subset}_HR"] + ([f"{subset}_LR_bicubic_X{SCALE}"] if subset == "train" else [])
    paths = [folder / f"DIV2K_{part}.zip" for part in parts]
    if all(path.exists() for path in paths):
        return
    members = [div2k_members(part) for part in parts]
    temporary = [path.with_suffix(".tmp") for path in paths]
    archives = [zipfile.ZipFile(path, "w") for path in temporary]
    for archive, names in zip(archives, members, strict=True):
        archive.mkdir(names[0].rsplit("/", 1)[0])
    make = functools.partial(encoded, first=first, photographs=photographs, with_lr=len(parts) > 1)
    for number in range(min(DIFFERENT, len(members[0]))):
        contents = make(number)
        for copy in range(number, len(members[0]), DIFFERENT):
            for archive, names, content in zip(archives, members, contents, strict=True):
                archive.writestr(names[copy], commented(content, names[copy]))
        print(f"{subset}: {number + 1}/{DIFFERENT} contents", flush=True)
    for archive, path, end in zip(archives, temporary, paths, strict=True):
        archive.close()
        path.rename(end)


def commented(content: bytes, text: str) -> bytes:
    """Return a PNG file with a comment before its end."""
    chunk = b"tEXt" + b"Comment\0" + text.encode("latin-1")
    end = content.rindex(b"IEND") - 4
    length, checksum = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return content[:end] + length + chunk + checksum + content[end:]


def encoded(number: int, first: int, photographs: list[Path], with_lr: bool) -> list[bytes]:
    """Return an HR image, and its LR image if wanted, as PNG files."""
    width, height = size_of(first + number)
    photograph = read_image(photographs[(first + number) * 4 % len(photographs)])
    hr = mirrored(photograph, height, width, seed=first + number)
    images = [hr, downscale(hr, SCALE, edges="mirror")] if with_lr else [hr]
    return [png(image) for image in images]


def size_of(number: int) -> tuple[int, int]:
    """Return the width and height of an image: the shares of SIZES, evenly mixed."""
    sizes = [size for size, share in SIZES.items() for _ in range(share)]
    return sizes[number * 37 % 100]


def png(image: np.ndarray) -> bytes:
    """Return a PNG file of uint8 RGB [H, W, 3]."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 3]
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)[1].tobytes()


def build_benchmark_image(folder: Path, source: Source, photographs: list[Path], mirror: Path | None) -> None:
    """Copy an image of Set5, Set14, BSD100 or Urban100 from `mirror`, or make one of a usual size."""
    assert source.mirror
    path = folder / source.mirror
    if copied(folder, source, mirror):
        return
    number = int(source.name.split("_")[1])
    photograph = read_image(photographs[number * 3 % len(photographs)])
    path.write_bytes(png(mirrored(photograph, URBAN[1], URBAN[0], seed=number)))


def copied(folder: Path, source: Source, mirror: Path | None) -> bool:
    """Copy a file from `mirror`; return True if it is there, now or from before."""
    assert source.mirror
    path = folder / source.mirror
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and mirror is not None and (mirror / source.mirror).is_file():
        shutil.copyfile(mirror / source.mirror, path)
    return path.exists()


def build_features(folder: Path) -> None:
    """Write random weights in the layout of Keras' VGG19 without its classifier."""
    import h5py

    from srlib.models.features import feature_network

    assert VGG19.mirror
    path = folder / VGG19.mirror
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    network = feature_network("vgg19", ["block5_conv4"], seed=1)
    with h5py.File(path.with_suffix(".tmp"), "w") as file:
        for layer in network.layers:
            if layer.weights:
                group = file.create_group(layer.name)
                names = [f"{layer.name}/{kind}:0" for kind in ("kernel", "bias")]
                group.attrs["weight_names"] = [name.encode() for name in names]
                for name, array in zip(names, layer.get_weights(), strict=True):
                    group[name] = array
    path.with_suffix(".tmp").rename(path)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine alone and yield its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def rehearse(name: str, address: str, options: argparse.Namespace) -> None:
    """Run all stages of a recipe in a fresh clone, with the store of the recipe before it, and print a table."""
    work = options.work.resolve()
    clone = work / name
    if "check" in options.stages:
        make_clone(clone, name, options)
    environment = os.environ | {
        "SRLIB_MIRROR": address,
        "SRLIB_CHECKSUMS": str((options.folder / "checksums.txt").resolve()),
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": str(clone),
    }
    for stage in options.stages:
        seconds, peak = measured([sys.executable, "-m", "dvc", "repro", "--single-item", stage], clone, environment)
        used = disk(clone) + disk(work / "store")
        print(f"| {name} | {stage} | {seconds:.1f} | {peak:,.0f} | {used / 1e9:.2f} |", flush=True)
    if "prepare" in options.stages:
        check_pairs(clone, name)
    if "evaluate" in options.stages:
        print((clone / "results" / "table.md").read_text())


def make_clone(clone: Path, name: str, options: argparse.Namespace) -> None:
    """Clone this project with a shortened recipe and the store of the recipes before it."""
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(clone)], check=True)
    store = clone.with_name("store")
    store.mkdir(exist_ok=True)
    (clone / ".store").symlink_to(store)
    recipe = shortened(yaml.safe_load((clone / "recipes" / f"{name}.yaml").read_text()), options)
    (clone / "params.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    if options.photos and recipe["prepare"]["images"] == "data/photos":
        shutil.copytree(options.photos, clone / "data" / "photos", dirs_exist_ok=True)


def check_pairs(clone: Path, name: str) -> None:
    """Print the number of pairs; exit unless the sizes of the images give as many."""
    params = load_params(clone / "params.yaml", stage=None)
    with (clone / "data" / "patches" / "index.csv").open(newline="") as file:
        pairs = [row["split"] for row in csv.DictReader(file)]
    print(f"pairs: {pairs.count('train'):,} to train on and {pairs.count('validation'):,} to validate with")
    if not (params.prepare.flat or params.prepare.detail or params.prepare.unusable == "skip"):
        expected = expected_pairs(clone / params.prepare.images, params)
        print(f"expected from the sizes of the images: {expected:,}")
        if len(pairs) != expected:
            sys.exit(f"{name}: {len(pairs):,} pairs, expected {expected:,}")


def shortened(recipe: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return a recipe with fewer steps, and with them fewer of what is counted in steps."""
    for section, steps in (("pretrain", options.pretrain), ("finetune", options.finetune)):
        training = recipe[section]
        before = training.pop("steps", None)
        training.pop("epochs", None)
        training["steps"] = steps
        rate = training["learning_rate"]
        for key in ("log_every", "validate_every"):
            training[key] = min(training[key], steps)
        if "milestones" in rate:
            rate["milestones"] = [max(milestone * steps // before, 1) for milestone in rate["milestones"]]
        if "warmup" in rate:
            rate["warmup"] = rate["warmup"] * steps // before
    return recipe


def measured(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its seconds and the peak anonymous memory of all its processes, in MiB."""
    start, peak = time.perf_counter(), 0
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(POLL)
    if process.returncode:
        sys.exit((folder / "log.txt").read_text()[-3000:])
    return time.perf_counter() - start, peak / 1024


def expected_pairs(images: Path, params: Params) -> int:
    """Return the number of patches that the sizes of the images give."""
    pairs, _ = find_pairs(images, given_lr=False, scale=params.scale)
    patch, stride = params.prepare.patch, params.prepare.stride
    sides = ([side // params.scale for side in image_size(pair.hr)] for pair in pairs)
    return sum(math.prod((side - patch) // stride + 1 for side in size) for size in sides)


if __name__ == "__main__":
    main()
