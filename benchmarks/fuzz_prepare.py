"""Damaged image files through `prepare`: no crash, no hang, each either used or named.

    python benchmarks/fuzz_prepare.py [--files 500] [--seed 0] [--timeout 600]

Images of every kind are damaged in every way listed below, put into one folder and prepared with
`prepare.unusable: skip` in a process of its own. Prints how many were used and named, by kind of damage, the seconds
and the peak memory; exits with 1 where a file is neither, both, or anything is left over.
"""

import argparse
import csv
import io
import multiprocessing
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from srlib.data.patches import prepare_patches
from srlib.params import Prepare


def originals(rng: np.random.Generator) -> dict[str, bytes]:
    """Return an image of each kind, as suffix → content, each large enough for patches."""
    rgb = cv2.GaussianBlur(rng.integers(0, 256, (96, 120, 3), np.uint8), (0, 0), 1.5)
    rgba = np.dstack([rgb, rng.integers(0, 256, (96, 120), np.uint8)])
    deep = rgb.astype(np.uint16) * 257
    pillow = {
        "rgb.png": (rgb, "PNG", {}),
        "gray.png": (rgb[..., 0], "PNG", {}),
        "alpha.png": (rgba, "PNG", {}),
        "baseline.jpg": (rgb, "JPEG", {"quality": 90}),
        "progressive.jpg": (rgb, "JPEG", {"progressive": True}),
        "raw.tif": (rgb, "TIFF", {}),
        "lzw.tif": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "deflate.tif": (rgba, "TIFF", {"compression": "tiff_deflate"}),
        "jpeg.tif": (rgb, "TIFF", {"compression": "jpeg"}),
        "lossy.webp": (rgb, "WEBP", {}),
        "lossless.webp": (rgba, "WEBP", {"lossless": True}),
        "rgb.bmp": (rgb, "BMP", {}),
    }
    contents = {}
    for name, (pixels, kind, options) in pillow.items():
        Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **options)
        contents[name] = buffer.getvalue()
    for name, kind in (("palette.png", "PNG"), ("palette.gif", "GIF"), ("palette.bmp", "BMP")):
        Image.fromarray(rgb).quantize(64).save(buffer := io.BytesIO(), kind)
        contents[name] = buffer.getvalue()
    Image.fromarray(rgb).convert("CMYK").save(buffer := io.BytesIO(), "JPEG")
    contents["cmyk.jpg"] = buffer.getvalue()
    contents["deep.png"] = cv2.imencode(".png", deep)[1].tobytes()
    contents["deep.tif"] = cv2.imencode(".tif", deep)[1].tobytes()
    return contents


def truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(0, len(changed), rng.integers(1, 9)):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def change_head(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(0, min(64, len(changed)), 3):
        changed[place] = rng.integers(256)
    return bytes(changed)


def huge_numbers(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    place = rng.integers(0, min(400, len(changed) - 4))
    changed[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\xff\xff"])
    return bytes(changed)


def zero_block(content: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(0, len(content))
    size = rng.integers(1, 2000)
    return content[:start] + bytes(len(content[start : start + size])) + content[start + size :]


def lose_block(content: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(0, len(content))
    return content[:start] + content[start + rng.integers(1, 2000) :]


def insert_garbage(content: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(0, len(content))
    return content[:start] + rng.bytes(rng.integers(1, 500)) + content[start:]


def double(content: bytes, rng: np.random.Generator) -> bytes:
    return content + content[: rng.integers(1, len(content))]


def renew_checksums(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a PNG inside its chunks and renew their checksums; flip bits in every other kind."""
    changed = bytearray(flip_bits(content, rng))
    start = 8
    while content.startswith(b"\x89PNG") and start + 12 <= len(content):
        size = struct.unpack(">I", content[start : start + 4])[0]
        changed[start : start + 4] = content[start : start + 4]
        end = start + 8 + size
        changed[end : end + 4] = struct.pack(">I", zlib.crc32(bytes(changed[start + 4 : end])))
        start = end + 4
    return bytes(changed)


def garbage(content: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(rng.integers(0, 5000))


MUTATIONS = (
    *(truncate, flip_bits, change_head, huge_numbers, zero_block),
    *(lose_block, insert_garbage, double, renew_checksums, garbage),
)


def prepare(images: Path, out: Path, result: multiprocessing.Queue) -> None:
    params = Prepare(images=str(images), patch=16, stride=8, validation=0.1, unusable="skip")
    summary = prepare_patches(images, out, params, scale=4, seed=0)
    result.put((summary.left_out, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    """Make the files, prepare them, and account for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=600)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    kinds = originals(rng)
    with tempfile.TemporaryDirectory() as scratch:
        images, out = Path(scratch, "images"), Path(scratch, "out", "patches")
        images.mkdir()
        damage = {}
        for number in range(options.files):
            name, content = list(kinds.items())[number % len(kinds)]
            mutation = MUTATIONS[number // len(kinds) % len(MUTATIONS)]
            file = f"{number:04}_{mutation.__name__}_{name}"
            (images / file).write_bytes(mutation(content, rng))
            damage[file] = mutation.__name__
        for name, content in kinds.items():  # intact ones too, to detect a run that names every file
            (images / f"whole_{name}").write_bytes(content)
            damage[f"whole_{name}"] = "whole"
        context = multiprocessing.get_context("spawn")
        result = context.Queue()
        process = context.Process(target=prepare, args=(images, out, result))
        start = time.perf_counter()
        process.start()
        try:
            left_out, peak = result.get(timeout=options.timeout)
        except Exception:
            process.kill()
            sys.exit(f"no result after {time.perf_counter() - start:.0f} s (exit status {process.exitcode})")
        process.join()
        seconds = time.perf_counter() - start
        with (out / "index.csv").open(newline="") as file:
            used = {row["image"] for row in csv.DictReader(file)}
        named = Counter(name for name in damage for line in left_out if str(images / name) in line)
        wrong = [name for name in damage if (name in used) + named[name] != 1]
        leftovers = [path.name for path in out.parent.iterdir() if path != out]
    counts = Counter((damage[name], name in used) for name in damage)
    print(f"{'damage':16} used named")
    for mutation in ("whole", *(mutation.__name__ for mutation in MUTATIONS)):
        print(f"{mutation:16} {counts[mutation, True]:4} {counts[mutation, False]:5}")
    print(
        f"{len(damage)} files: {len(used)} used, {len(left_out)} named, {len(wrong)} neither or both, "
        f"{len(leftovers)} left over; {seconds:.1f} s, peak {peak:.0f} MiB"
    )
    reasons = Counter(line.rsplit(": ", 1)[-1].split("(")[0] for line in left_out)
    print(*(f"  {count:4} × {reason}" for reason, count in reasons.most_common(12)), sep="\n")
    if wrong or leftovers or process.exitcode or counts["whole", False]:
        sys.exit(f"wrong: {wrong} {leftovers} {process.exitcode}")


if __name__ == "__main__":
    main()
