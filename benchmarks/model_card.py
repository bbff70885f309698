"""Every figure of the shipped weights' model card, and README's strip.

    python benchmarks/model_card.py scores TEST [--scale 4] [--models psnr-x4 gan-x4] [--sets Set5 Set14]
        [--backbone H5 --linear NPZ]
    python benchmarks/model_card.py strip TEST SET IMAGE OUT.png [--models free-x4 gan-x4] [--trained models]

TEST is what the stage `download` makes: one folder per set with HR, and LR where the set has its own. A model is the
name of a shipped one, an exported folder or a folder of the pipeline such as `models/pretrained`; by default all of
this scale that ship. Results of a model of a larger scale are downscaled.

`scores` prints two tables in Markdown, each with a row per set and model; the values are means over the images.

- Quality, in float32, for bicubic too: PSNR-Y, SSIM-Y, LPIPS (SqueezeNet; without weights there is no such column), LR
  consistency (PSNR between result and original, both downscaled), color error (distance between the mean colors), and
  at scale 4 the share of blocks with a line of period 4 (`benchmarks/periodic_lines.py`), for the originals too.
- Precision: PSNR-Y in bfloat16 and in int8 minus that in float32, with the lowest of the images; the difference
  between the images in int8 and in float32 in levels of 255, root mean square and largest; and the CPU time of an
  image, summed over cores, without reading and writing files. Other work on the machine changes it less than the
  clock's. A precision that the model or the processor lacks is reported on stderr and has a dash.

`strip` draws LR, bicubic, the models, with --trained the networks of the quick start (FOLDER/pretrained and
FOLDER/gan), and HR side by side, each whole and as its most detailed square.
"""

import argparse
import functools
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from degraded_table import timed
from periodic_lines import PERIODIC, SCALE

import srlib
from srlib.errors import SrlibError
from srlib.evaluation.benchmark import METRICS, ORIGINAL, Method, Metric, Result, Sets, evaluate, interpolation
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.evaluation.lpips import lpips
from srlib.evaluation.number_text import number
from srlib.evaluation.sets import find_sets
from srlib.imaging.write import write_png
from srlib.progress import progress
from srlib.report.strips import strip

FORMS = ("bfloat16", "int8")
QUALITY = ("psnr_y", "ssim_y", LPIPS, "lr_psnr", "color_error", "periodic")


@dataclass
class Precision:
    """One model on one set: per image, what the other forms change and what each costs."""

    changes: dict[str, list[float]] = field(default_factory=lambda: {form: [] for form in FORMS})
    errors: list[float] = field(default_factory=list)
    largest: int = 0
    seconds: dict[str, list[float]] = field(default_factory=lambda: {form: [] for form in ("float32", *FORMS)})


def main() -> None:
    """Print the tables, or write the strip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("scores")
    command.set_defaults(run=scores)
    command.add_argument("test", type=Path)
    command.add_argument("--scale", type=int, default=SCALE)
    command.add_argument("--models", nargs="+", help="(default: all of this scale that ship)")
    command.add_argument("--sets", nargs="+", help="sets of TEST (default: all)")
    command.add_argument("--backbone", type=Path, help="SqueezeNet's weights, for LPIPS")
    command.add_argument("--linear", type=Path, help="LPIPS' weights for SqueezeNet")
    command = commands.add_parser("strip")
    command.set_defaults(run=draw)
    command.add_argument("test", type=Path)
    command.add_argument("set")
    command.add_argument("image")
    command.add_argument("out", type=Path)
    command.add_argument("--models", nargs="+", default=["free-x4", "gan-x4"])
    command.add_argument("--trained", type=Path, help="folder with the models `pretrained` and `gan`")
    command.add_argument("--side", type=int, default=96, help="side of the detail in HR pixels")
    options = parser.parse_args()
    try:
        options.run(options)
    except SrlibError as error:
        sys.exit(f"error: {error}")


def scores(options: argparse.Namespace) -> None:
    """Print the tables of quality and precision."""
    if (options.backbone is None) != (options.linear is None):
        raise SrlibError("--backbone, --linear: LPIPS needs both files")
    scale = options.scale
    models = options.models or [name for name in srlib.shipped_models() if srlib.open_model(name).scale == scale]
    sets = chosen(find_sets(options.test, scale), options.sets)
    measures = dict(METRICS)
    if scale == SCALE:
        measures["periodic"] = PERIODIC
    if options.backbone:
        measures[LPIPS] = lpips(options.backbone, options.linear)
    metrics = {key: measures[key] for key in QUALITY if key in measures}
    names = [Path(model).name for model in models]
    seconds: dict[tuple[str, str], float] = {}
    exact = [timed(network(model, "float32", scale), seconds) for model in models]
    others = [timed(method, seconds) for method in forms(models, scale)]
    quality: dict[tuple[str, str], list[dict[str, float]]] = {}
    precision: dict[tuple[str, str], Precision] = {}
    reference = evaluate(sets, [interpolation("bicubic"), *exact], scale, metrics=metrics)
    rounded = evaluate(sets, others, scale, metrics={"psnr_y": METRICS["psnr_y"]})
    with progress(sum(map(len, sets.values())), "scores", "images") as advance:
        for one, other in zip(reference, rounded, strict=True):
            add_quality(quality, one, metrics)
            for name in names:
                add_precision(precision.setdefault((one.image.set, name), Precision()), name, one, other, seconds)
            advance()
    print_quality(quality, metrics, {name: len(images) for name, images in sets.items()})
    print_precision(precision)


def chosen(sets: Sets, names: Sequence[str] | None) -> Sets:
    """Return the sets of these names, or all."""
    if missing := sorted(set(names or ()) - set(sets)):
        raise SrlibError(f"no set {', '.join(missing)}; there are {', '.join(sets)}")
    return {name: images for name, images in sets.items() if names is None or name in names}


def network(model: str, precision: str, scale: int) -> Method:
    """Return a model in one precision as a method."""
    upscaler = srlib.open_model(model, precision=precision)
    if upscaler.scale < scale:
        raise SrlibError(f"{model}: upscales by {upscaler.scale}, expected at least {scale}")
    return Method(f"{upscaler.name} {precision}", lambda lr, scale: srlib.upscale(lr, model=upscaler, scale=scale))


def forms(models: Iterable[str], scale: int) -> Iterator[Method]:
    """Yield the models in the precisions other than float32; one that is not possible is reported."""
    for model in models:
        for form in FORMS:
            try:
                yield network(model, form, scale)
            except SrlibError as error:
                print(f"{model} in {form}: left out: {error}", file=sys.stderr)


def add_quality(
    rows: dict[tuple[str, str], list[dict[str, float]]], result: Result, metrics: dict[str, Metric]
) -> None:
    """Add the scores of an image, and at scale 4 how many lines its original has."""
    for score in result.scores:
        rows.setdefault((score.set, score.method.removesuffix(" float32")), []).append(score.values)
    if "periodic" in metrics:
        original = {"periodic": PERIODIC.compute(result.hr, result.hr, SCALE)}
        rows.setdefault((result.image.set, ORIGINAL), []).append(original)


def add_precision(
    row: Precision, name: str, exact: Result, other: Result, seconds: dict[tuple[str, str], float]
) -> None:
    """Add an image's differences and times."""
    psnr = {score.method: score.values["psnr_y"] for score in (*exact.scores, *other.scores)}
    for form in row.seconds:
        if (method := f"{name} {form}") in psnr:
            row.seconds[form].append(seconds[method, str(exact.lr.shape)])
            if form in FORMS:
                row.changes[form].append(psnr[method] - psnr[f"{name} float32"])
    if (method := f"{name} int8") in psnr:
        difference = np.abs(other.sr[method].astype(np.int16) - exact.sr[f"{name} float32"])
        row.errors.append(float(np.sqrt(np.mean(np.square(difference, dtype=np.float64)))))
        row.largest = max(row.largest, int(difference.max()))


def print_quality(
    rows: dict[tuple[str, str], list[dict[str, float]]], metrics: dict[str, Metric], counts: dict[str, int]
) -> None:
    """Print the means of every set and model."""
    header = ["set", "model", *(f"{m.title} ({m.unit})" if m.unit else m.title for m in metrics.values())]
    print_header(header)
    for (name, method), values in sorted(rows.items(), key=lambda row: list(counts).index(row[0][0])):
        means = [
            number(statistics.mean(value[key] for value in values), metric.digits) if key in values[0] else "–"
            for key, metric in metrics.items()
        ]
        print(f"| {name} ({counts[name]}) | {method} | {' | '.join(means)} |", flush=True)


def print_precision(rows: dict[tuple[str, str], Precision]) -> None:
    """Print what the forms other than float32 change and cost."""
    changes = [f"{form} − float32 (dB): mean, lowest" for form in FORMS]
    errors = "int8 − float32 (levels): RMS, largest"
    times = [f"{form} (CPU ms)" for form in ("float32", *FORMS)]
    print()
    print_header(["set", "model", *changes, errors, *times])
    signed = functools.partial(number, digits=4, sign=True)
    for (name, model), row in rows.items():
        cells = [f"{signed(statistics.mean(v))}, {signed(min(v))}" if v else "–" for v in row.changes.values()]
        cells.append(f"{statistics.mean(row.errors):.2f}, {row.largest}" if row.errors else "–")
        cells += [f"{1000 * statistics.mean(v):.0f}" if v else "–" for v in row.seconds.values()]
        print(f"| {name} | {model} | {' | '.join(cells)} |", flush=True)


def print_header(header: Sequence[str]) -> None:
    """Print the first two lines of a table whose columns from the third on are numbers."""
    print(f"| {' | '.join(header)} |\n|---|---|{'---:|' * (len(header) - 2)}", flush=True)


def draw(options: argparse.Namespace) -> None:
    """Write the strip of one image."""
    images = chosen(find_sets(options.test, SCALE), [options.set])[options.set]
    picked = [image for image in images if image.name == options.image]
    if not picked:
        raise SrlibError(f"{options.set}: no image {options.image}; there are {', '.join(i.name for i in images)}")
    methods = [interpolation("bicubic"), *(network(model, "float32", SCALE) for model in options.models)]
    methods = [Method(method.name.removesuffix(" float32"), method.upscale) for method in methods]
    if options.trained:
        from srlib.evaluation.methods import from_model

        methods += [from_model(options.trained / role, SCALE) for role in ("pretrained", "gan")]
    metrics = {key: METRICS[key] for key in ("psnr_y", "ssim_y")}
    for result in evaluate({options.set: picked}, methods, SCALE, metrics=metrics):
        write_png(options.out, strip(result, list(result.sr), scale=SCALE, side=options.side))


if __name__ == "__main__":
    main()
