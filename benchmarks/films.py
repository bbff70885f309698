"""Films: flicker of the models, frames per second, and memory of a long film.

    python benchmarks/films.py flicker [--photo FILE] [--models psnr-x4 gan-x4] [--frames 16] [--width 320]
    python benchmarks/films.py psnr [--photo FILE] [--models psnr-x4 gan-x4] [--frames 16] [--qualities 100 95 75]
    python benchmarks/films.py speed [--sizes 480x270 960x540] [--model psnr-x4] [--frames 24] [--precision auto]
    python benchmarks/films.py memory [--size 64x48] [--frames 600 15000]

`flicker` pans over a photograph by one HR pixel per frame, downscales every frame by 4, upscales it, and follows each
point of the scene: the difference between the errors in two consecutive frames at the same point is what the eye sees
as flicker, while an error that moves with the scene is none. Printed are PSNR-Y, the root mean square of the error and
of this difference, in levels of luma; for bicubic too, and after encoding with H.264 at quality 95.

`psnr` takes the same pan as a film: its frames, downscaled, are stored without loss, the whole command upscales the
film, and the frames of the result are compared with the originals: for each method before encoding, and encoded in
H.264 with each quality.

`speed` upscales a generated film by the whole command, encoder included, on all cores that this process may use;
printed are frames per second, CPU seconds per frame, which a loaded machine changes less, and the largest resident
memory so far. `memory` runs a model that repeats pixels, so that nothing but the film takes memory, in a process of its
own for each length, and prints the largest resident memory.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

import srlib
from srlib.films.color import Color, from_rgb
from srlib.films.encoding import Encoding, YuvFrame, encode_segment
from srlib.films.options import FilmOptions
from srlib.films.reading import FrameReader, describe_film
from srlib.films.upscaling import upscale_one_film
from srlib.imaging.color import luma

SCALE = 4
BORDER = 8
RATE = 25


class Repeat:
    """A model that repeats pixels."""

    name = fingerprint = "repeat"
    scale = SCALE

    def __call__(self, rgb: np.ndarray, *, on_pixels: Callable[[int], object] | None = None) -> np.ndarray:
        return rgb.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


class Bicubic:
    """A model that upscales by MATLAB bicubic."""

    name = fingerprint = "bicubic"
    scale = SCALE

    def __call__(self, rgb: np.ndarray, *, on_pixels: Callable[[int], object] | None = None) -> np.ndarray:
        return bicubic(rgb)


def bicubic(lr: np.ndarray) -> np.ndarray:
    return srlib.resize(lr, SCALE)


def photograph(path: Path | None) -> np.ndarray:
    """Return a photograph: a file, or the cup of coffee that ships with scikit-image."""
    if path is not None:
        return srlib.read_image(path)
    import skimage.data

    return np.asarray(skimage.data.coffee())


def pan(photo: np.ndarray, width: int, frames: int) -> Iterator[np.ndarray]:
    """Yield windows of a photograph, each one pixel further to the right."""
    height = min(photo.shape[0], width * 3 // 4) // (2 * SCALE) * (2 * SCALE)
    width = min(width, photo.shape[1] - frames) // (2 * SCALE) * (2 * SCALE)
    top = (photo.shape[0] - height) // 2
    for left in range(frames):
        yield photo[top : top + height, left : left + width]


def write(path: Path, images: Iterator[np.ndarray], quality: int = 95) -> None:
    """Write a film of images without sound."""
    images = iter(images)
    first = next(images)
    height, width = first.shape[:2]
    rate, tick = Fraction(RATE), 512
    encoding = Encoding(
        "h264", quality, width, height, Color(1, False, 1, 1), Fraction(1), Fraction(1, RATE * tick), rate
    )

    def numbered() -> Iterator[YuvFrame]:
        for number, image in enumerate(itertools.chain([first], images)):
            yield YuvFrame(number * tick, tick, from_rgb(image, encoding.color))

    segment = path.with_suffix(".segment")
    for _ in encode_segment(segment, numbered(), encoding):
        pass
    join(segment, path)


def join(segment: Path, path: Path) -> None:
    """Put an encoded segment into an MP4 or Matroska file."""
    import av

    with av.open(str(segment)) as before, av.open(str(path), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                after.mux(packet)
    segment.unlink()


def decoded(path: Path) -> list[np.ndarray]:
    return [frame.rgb for frame in FrameReader(describe_film(path)).frames()]


def flicker(options: argparse.Namespace) -> None:
    hr = list(pan(photograph(options.photo), options.width, options.frames))
    lr = [srlib.downscale(image, SCALE) for image in hr]
    print("| method | PSNR-Y | error | flicker | flicker after H.264 |\n|---|---:|---:|---:|---:|")
    methods = {"bicubic": bicubic} | {name: srlib.open_model(name) for name in options.models}
    for name, method in methods.items():
        sr = [method(image) for image in lr]
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder, "a.mp4"), iter(sr))
            encoded = decoded(Path(folder, "a.mp4"))
        error, difference = errors(hr, sr)
        print(
            f"| {name} | {mean_psnr(hr, sr):.2f} | {error:.2f} | {difference:.2f} | {errors(hr, encoded)[1]:.2f} |",
            flush=True,
        )


def psnr(options: argparse.Namespace) -> None:
    hr = list(pan(photograph(options.photo), options.width, options.frames))
    print(f"| method | not encoded |{''.join(f' quality {quality} |' for quality in options.qualities)}")
    print(f"|---|---:|{'---:|' * len(options.qualities)}")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "small.mkv"), Path(folder, "big.mkv")
        write_lossless(source, [srlib.downscale(image, SCALE) for image in hr])
        lr = decoded(source)
        for name in ("bicubic", *options.models):
            model = Bicubic() if name == "bicubic" else srlib.open_model(name)
            cells = [mean_psnr(hr, [model(image) for image in lr])]
            for quality in options.qualities:
                upscale_one_film(source, target, model, FilmOptions(quality=quality))
                cells.append(mean_psnr(hr, decoded(target)))
                target.unlink()
            print(f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |", flush=True)


def mean_psnr(hr: list[np.ndarray], sr: list[np.ndarray]) -> float:
    return statistics.mean(srlib.psnr_y(a, b, scale=SCALE) for a, b in zip(hr, sr, strict=True))


def write_lossless(path: Path, images: list[np.ndarray]) -> None:
    """Write a film of RGB frames in FFV1, which gives every pixel back."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=RATE)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")))
        out.mux(stream.encode())
    if any((a != b).any() for a, b in zip(decoded(path), images, strict=True)):
        raise SystemExit("the film is not lossless")


def errors(hr: list[np.ndarray], sr: list[np.ndarray]) -> tuple[float, float]:
    """Return the root mean square of the error, and of its change at the same point of the scene."""
    error = [luma(b) - luma(a) for a, b in zip(hr, sr, strict=True)]
    inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    changes = [(after[:, :-1] - before[:, 1:])[inner] for before, after in itertools.pairwise(error)]
    return root_mean_square([e[inner] for e in error]), root_mean_square(changes)


def root_mean_square(arrays: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.square(arrays))))


def waves(width: int, height: int, frames: int) -> Iterator[np.ndarray]:
    """Yield moving waves with grain that is the same in every frame."""
    y, x = np.mgrid[:height, :width]
    grain = np.random.default_rng(0).normal(0, 6, (height, width, 1))
    for number in range(frames):
        wave = np.stack([np.sin((x + number) / 9), np.cos((y + number) / 11), np.sin((x - y) / 13)], -1)
        yield np.rint(np.clip(128 + 80 * wave + grain, 0, 255)).astype(np.uint8)


def speed(options: argparse.Namespace) -> None:
    model = srlib.open_model(options.model, precision=options.precision)
    print(f"{model.precision}\n| size | frames per second | CPU seconds per frame | MB |\n|---|---:|---:|---:|")
    for size in options.sizes:
        width, height = (int(side) for side in size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder, "a.mp4"), waves(width, height, options.frames))
            model(np.zeros((height, width, 3), np.uint8))
            start, cpu = time.perf_counter(), time.process_time()
            upscale_one_film(Path(folder, "a.mp4"), Path(folder, "b.mp4"), model, FilmOptions())
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {size} | {options.frames / seconds:.2f} | {cpu / options.frames:.2f} | {megabytes:.0f} |", flush=True)


def memory(options: argparse.Namespace) -> None:
    if options.child:
        width, height = (int(side) for side in options.size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder, "a.mp4"), waves(width, height, options.frames[0]))
            upscale_one_film(Path(folder, "a.mp4"), Path(folder, "b.mp4"), Repeat(), FilmOptions())
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        return
    print("| frames | minutes at 25 frames per second | MB |\n|---:|---:|---:|")
    for frames in options.frames:
        command = [sys.executable, __file__, "memory", "--child", "--size", options.size, "--frames", str(frames)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(f"| {frames:,} | {frames / RATE / 60:.1f} | {json.loads(done.stdout) / 1024:.0f} |", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("flicker")
    command.set_defaults(run=flicker)
    command.add_argument("--photo", type=Path)
    command.add_argument("--models", nargs="+", default=["psnr-x4", "gan-x4"])
    command.add_argument("--frames", type=int, default=16)
    command.add_argument("--width", type=int, default=320)
    command = commands.add_parser("psnr")
    command.set_defaults(run=psnr)
    command.add_argument("--photo", type=Path)
    command.add_argument("--models", nargs="+", default=["psnr-x4", "gan-x4"])
    command.add_argument("--frames", type=int, default=16)
    command.add_argument("--width", type=int, default=320)
    command.add_argument("--qualities", type=int, nargs="+", default=[100, 95, 75])
    command = commands.add_parser("speed")
    command.set_defaults(run=speed)
    command.add_argument("--sizes", nargs="+", default=["480x270", "960x540"])
    command.add_argument("--frames", type=int, default=24)
    command.add_argument("--model", default="psnr-x4")
    command.add_argument("--precision", default="auto")
    command = commands.add_parser("memory")
    command.set_defaults(run=memory)
    command.add_argument("--size", default="64x48")
    command.add_argument("--frames", type=int, nargs="+", default=[600, 15_000])
    command.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
