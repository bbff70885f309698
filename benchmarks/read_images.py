"""Whether generated, cut and mutated image files give the right pixels, or one line that names the file.

    python benchmarks/read_images.py [--files 2000] [--mutations 10000] [--seed 0] [--seconds 20]

1. Generated: `--files` files over the product of the properties of TIFF, PNG, JPEG, WebP, BMP and GIF. Each must give
   the pixels that it was generated from, and those that an independent reader gives: ImageMagick, or libtiff
   (tiffcp) and OpenCV where ImageMagick is not installed or is known to be wrong.
2. Cut: a small file of each format, cut at every length.
3. Mutated: `--mutations` files damaged in one of ten ways.

In 2 and 3 a file is either read or refused with one line (SrlibError); any other error, a file that takes longer than
`--seconds` or more than 1 GiB is a failure. Prints a table; exits with 1 on any failure.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fuzz_prepare import MUTATIONS, originals
from srlib.errors import SrlibError
from srlib.imaging.image_file import ImageFile, read_image_file
from srlib.imaging.read import read_image
from tests.formats.generated import Sample, foreign_reader, read_by_foreign, samples

ROUNDING = 0.01
"""Levels of 8 bits that another reader's rounding may differ in."""


def difference(image: ImageFile, sample: Sample) -> str | None:
    """Return what is wrong with a read sample, or None."""
    color = image.rgb[..., : sample.color.shape[2]]
    if color.shape != sample.color.shape or color.dtype != sample.color.dtype:
        return f"{color.dtype} {color.shape}, expected {sample.color.dtype} {sample.color.shape}"
    if (worst := int(np.abs(color.astype(int) - sample.color).max())) > sample.tolerance:
        return f"color differs by {worst}"
    if (image.alpha is None) != (sample.alpha is None):
        return "alpha is missing or too much"
    return None if sample.alpha is None or np.array_equal(image.alpha, sample.alpha) else "alpha differs"


def foreign_difference(image: ImageFile, sample: Sample, command: str, folder: Path) -> float:
    """Return the largest difference from ImageMagick in levels of 8 bits, where the image is visible."""
    path = folder / f"a{sample.suffix}"
    path.write_bytes(sample.content)
    other = read_by_foreign(command, str(path), sample)
    levels = 255 / np.iinfo(image.rgb.dtype).max
    alpha = np.full(image.rgb.shape[:2], 255.0) if image.alpha is None else image.alpha * levels
    visible = alpha > 0
    color = np.abs(other[..., :3] - image.rgb * levels)[visible].max(initial=0)
    return float(max(color, np.abs(other[..., 3] - alpha).max()))


def second_opinion(sample: Sample) -> str | None:
    """Return the name of another reader that reads the samples as they were stored, or None."""
    if sample.stored is not None and shutil.which("tiffcp"):
        copied = copied_by_libtiff(sample)
        if copied is not None:
            return "libtiff" if np.array_equal(copied, sample.stored) else None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH
    values = cv2.imdecode(np.frombuffer(sample.content, np.uint8), flags)
    if values is None or sample.unturned.shape[:2] != values.shape[:2] or values.dtype != sample.unturned.dtype:
        return None
    return "OpenCV" if np.abs(values.astype(int) - sample.unturned).max() <= sample.tolerance + 1 else None


def copied_by_libtiff(sample: Sample) -> np.ndarray | None:
    """Let libtiff's tiffcp rewrite a TIFF as one uncompressed strip; return its samples, [H, W, samples].

    None where tiffcp cannot do that.
    """
    height, width, samples = sample.stored.shape
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "a.tif"), Path(folder, "b.tif")
        source.write_bytes(sample.content)
        planes = samples if "planar True" in sample.name else 1
        command = ["tiffcp", "-c", "none", "-s", "-r", str(height), str(source), str(target)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        with tifffile.TiffFile(target) as file:
            strips = file.pages[0].dataoffsets, file.pages[0].databytecounts
            data = b"".join(target.read_bytes()[at : at + size] for at, size in zip(*strips, strict=True))
            order = file.byteorder
    rows = np.frombuffer(data, np.uint8).reshape(planes, height, -1)
    if sample.bits == 16:
        values = rows.view(f"{order}u2")
    else:
        bits = np.unpackbits(rows, axis=2)[..., : width * samples // planes * sample.bits]
        values = (bits.reshape(planes, height, -1, sample.bits) * 2 ** np.arange(sample.bits)[::-1]).sum(axis=3)
    return np.moveaxis(values.reshape(planes, height, width, samples // planes), 0, 2).reshape(sample.stored.shape)


def generated(count: int, seed: int) -> list[str]:
    """Check `count` generated files; return the failures."""
    failures, agreed = [], Counter[str]()
    command = foreign_reader()
    with tempfile.TemporaryDirectory() as folder:
        for number, sample in enumerate(samples(count, seed)):
            agreed["files"] += 1
            try:
                image = read_image_file(Path(f"{number}{sample.suffix}"), sample.content)
            except SrlibError as error:
                failures.append(f"{sample.name}: {error}")
                continue
            if wrong := difference(image, sample):
                failures.append(f"{sample.name}: {wrong}")
            if sample.foreign is None or command is None:
                agreed[second_opinion(sample) or "no other reader reads this kind"] += 1
            elif foreign_difference(image, sample, command, Path(folder)) <= sample.foreign + ROUNDING:
                agreed["ImageMagick"] += 1
            else:
                agreed["differs from ImageMagick"] += 1
                failures.append(f"{sample.name}: differs from ImageMagick")
    print("generated:", ", ".join(f"{count} {name}" for name, count in agreed.most_common()))
    return failures


def cut() -> Iterator[tuple[str, bytes]]:
    """Yield a small file of each format, cut at every length."""
    smallest: dict[str, Sample] = {}
    for sample in samples(400, 1):
        kind = " ".join(sample.name.split()[:2])
        if kind not in smallest or len(sample.content) < len(smallest[kind].content):
            smallest[kind] = sample
    for kind, sample in smallest.items():
        for length in range(len(sample.content)):
            yield f"cut {kind}", sample.content[:length]


def mutated(count: int, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield damaged files: half of them photographs of each format, half of them generated."""
    kinds = list(originals(rng).values())
    kinds += [sample.content for sample in samples(len(kinds) * 8, 2)]
    for number in range(count):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        yield mutation.__name__, mutation(kinds[number // len(MUTATIONS) % len(kinds)], rng)


def attempts(files: Iterator[tuple[str, bytes]], seconds: float) -> list[str]:
    """Read each file in both ways; return the failures."""
    failures, outcomes = [], Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        for number, (kind, content) in enumerate(files):
            start = time.perf_counter()
            path.write_bytes(content)
            outcome = "read"
            for read in (read_image_file, read_image):
                try:
                    read(path)
                except SrlibError as error:
                    outcome = "refused"
                    if "\n" in str(error) or str(path) not in str(error):
                        failures.append(f"{kind} {number}: not one line that names the file: {error}")
                except Exception as error:
                    failures.append(f"{kind} {number} ({zlib.crc32(content):08x}): {type(error).__name__}: {error}")
            if (took := time.perf_counter() - start) > seconds:
                failures.append(f"{kind} {number}: {took:.0f} s")
            outcomes[kind, outcome] += 1
    for kind in sorted({kind for kind, _ in outcomes}):
        print(f"  {kind:32} {outcomes[kind, 'read']:6} read {outcomes[kind, 'refused']:6} refused")
    total = sum(outcomes.values())
    print(f"  {total} files, {len(failures)} failures")
    return failures


def main() -> int:
    """Run the three campaigns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    failures = generated(options.files, options.seed)
    print("cut at every length:")
    failures += attempts(cut(), options.seconds)
    print("mutated:")
    failures += attempts(mutated(options.mutations, rng), options.seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB")
    for failure in failures[:40]:
        print("FAILURE", failure)
    return int(bool(failures) or peak > 1024 + 512)


if __name__ == "__main__":
    sys.exit(main())
