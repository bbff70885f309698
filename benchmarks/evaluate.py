"""Time of scoring outside the networks, and its memory.

    python benchmarks/evaluate.py IMAGES PRETRAINED GAN [--scale 4] [--lpips BACKBONE LINEAR]

Scores nearest, bilinear, bicubic and the two models on every set in IMAGES, and writes the outputs of the stage into a
temporary folder. Prints seconds per method with megapixels per second, the seconds of everything else (reading,
degrading, the metrics, PNG files, strips, the report), and by how much the peak memory grew from the first image of
the largest size to the end.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from srlib.engine import pin_threads
from srlib.evaluation import tables
from srlib.evaluation.benchmark import METRICS, Timing, evaluate, interpolation
from srlib.evaluation.sets import featured, find_sets
from srlib.files import write_text
from srlib.imaging.write import write_png
from srlib.report import html as report
from srlib.report.strips import strip

LIMIT = 180.0


def megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Run the evaluation once; exit with 1 if more than 180 s pass outside the methods."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("images", "pretrained", "gan"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--lpips", type=Path, nargs=2, metavar=("BACKBONE", "LINEAR"))
    options = parser.parse_args()
    pin_threads()
    from srlib.evaluation.lpips import KEY, lpips
    from srlib.evaluation.methods import from_model

    rows = [interpolation(name) for name in ("nearest", "bilinear", "bicubic")]
    rows += [from_model(folder, options.scale) for folder in (options.pretrained, options.gan)]
    metrics = METRICS | ({KEY: lpips(*options.lpips)} if options.lpips else {})
    sets = find_sets(options.images, options.scale)
    chosen = featured(sets, 8)
    columns = [row.name for row in rows[2:]]
    scores, exhibits, timing, largest, base = [], [], Timing(), 0, 0.0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for result in evaluate(sets, rows, options.scale, metrics=metrics):
            scores += result.scores
            timing.add(result)
            for method, image in {**result.sr, "original": result.hr}.items():
                write_png(out / "images" / result.image.set / method / f"{result.image.name}.png", image)
            if (result.image.set, result.image.name) in chosen:
                drawing = strip(result, columns, scale=options.scale, side=96)
                write_png(out / "strips" / f"{result.image.set}_{result.image.name}.png", drawing)
                exhibits.append(report.exhibit(result, columns, side=96))
            if result.hr.size > largest:
                largest, base = result.hr.size, megabytes()
        page = report.render(scores, rows, options.scale, exhibits=exhibits, metrics=metrics)
        write_text(out / "report.html", page)
    total = time.perf_counter() - start

    figures = timing.metrics()
    own = 0.0
    for row in rows:
        seconds = figures[f"seconds/{row.name}"]
        own += seconds
        print(f"{row.name:9} {seconds:8.2f} s {figures[f'megapixels_per_second/{row.name}']:8.2f} megapixels/s")
    images = sum(map(len, sets.values()))
    print(f"{images} images: {total:.1f} s, {total - own:.1f} s of it outside the methods (warm-up included)")
    print(f"memory: {megabytes():.0f} MB at most, {megabytes() - base:.0f} MB more than after the largest image")
    tables.print_table(tables.main_table(scores, rows, options.scale))
    sys.exit(total - own > LIMIT)


if __name__ == "__main__":
    main()
