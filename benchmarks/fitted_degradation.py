"""Compare a model trained with the degradation fitted to a folder with one trained with broad degradations.

    python benchmarks/fitted_degradation.py folders WORK PHOTOS
    python benchmarks/fitted_degradation.py train WORK NAME --patches PATCHES --start MODEL [--steps 400] [--rate 3e-4]
    python benchmarks/fitted_degradation.py score WORK HELD_OUT [--start MODEL]

`folders` makes a folder of JPEG files for each of `CASES` from PHOTOS, as a camera or a messenger would, and prints the
section that `srlib degradation estimate` finds for it. `train` trains for a few steps from earlier weights: NAME is
`broad` for the degradations of --recipe, or a folder of WORK for its section.json, such as one of `CASES`; all else is
equal. PATCHES are clean ones (`srlib.data.patches`); only their HR files are read. `score` makes images of HELD_OUT in
the same ways as the folders, and prints PSNR-Y and the paired differences to `broad`, with their standard errors over
the images.
"""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow

from srlib.engine import pin_threads

if TYPE_CHECKING:
    from srlib.arrays import Image
    from srlib.params.degradation import Degradation

SCALE = 4
BROAD = "broad"
_MATLAB = {"methods": ["antialiased"]}

CAMERA = {
    "blur": {"sigma": [1.6, 2.2], "anisotropic": 0.3, "generalized": 0},
    "resize": _MATLAB,
    "noise": {"poisson": 1, "scale": [0.25, 0.6], "gray": 0},
}
"""A soft lens, and the shot noise of little light, which the estimator states as Gaussian noise."""

CASES: dict[str, tuple[dict[str, object], tuple[int, int]]] = {
    "camera": (CAMERA, (94, 98)),
    "camera-90": (CAMERA, (86, 92)),  # the compression hides the noise from the estimator
    "soft": ({"blur": {"sigma": [4.0, 6.0], "anisotropic": 0.3, "generalized": 0}, "resize": _MATLAB}, (75, 90)),
    "messenger": ({"resize": {"methods": ["area"]}}, (50, 65)),  # averaging has no name in a fitted section
}
"""Name → the last pass without compression, and the lowest and highest JPEG quality."""


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["folders", "train", "score"])
    parser.add_argument("work", type=Path)
    parser.add_argument("what", help="PHOTOS, NAME or HELD_OUT")
    parser.add_argument("--every", type=int, default=8, help="folders: take every so manyth photograph")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/photo-x4.yaml"))
    parser.add_argument("--patches", type=Path)
    parser.add_argument("--start", type=Path, default=Path("srlib/weights/photo-x4/keras"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--crop", type=int, default=768, help="score: side of the middle of each image that is scored")
    parser.add_argument("--precision", default="mixed_bfloat16")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    {"folders": folders, "train": train, "score": score}[options.command](options)


def folders(options: argparse.Namespace) -> None:
    """Make the folders and print what is fitted to them."""
    from srlib.data.fit_degradation import estimate_folder, fitted_degradation, section_text
    from srlib.files import write_json

    photographs = sorted(Path(options.what).glob("*.png"))[:: options.every]
    for case in CASES:
        folder = options.work / case / "folder"
        folder.mkdir(parents=True, exist_ok=True)
        for path in photographs:
            file_of(path, case, folder)
        traces = estimate_folder(folder)
        section = fitted_degradation(traces.traces, SCALE)
        write_json(options.work / case / "section.json", section.model_dump(mode="json"))
        print(f"{case}: {len(traces.images)} images, noise hidden below: {traces.hidden_noise}")
        print(section_text(section))


def file_of(path: Path, case: str, folder: Path, crop: int | None = None) -> "tuple[Path, Image]":
    """Write the JPEG file of a photograph or of its middle, and return it and the HR image."""
    from srlib.data.degradation import degrade_image, keyed_generator
    from srlib.imaging.read import read_image
    from srlib.imaging.resize import crop_to_multiple
    from srlib.params.degradation import Degradation

    one, (low, high) = CASES[case]
    generator = keyed_generator(f"{case}/{path.name}")
    hr = read_image(path)
    if crop is not None:
        top, left = (max(0, (side - crop) // 2) for side in hr.shape[:2])
        hr = np.ascontiguousarray(hr[top : top + crop, left : left + crop])
    hr = crop_to_multiple(hr, SCALE)
    lr = degrade_image(hr, SCALE, Degradation.model_validate({"clean": 0, "passes": [one]}), generator)
    out = folder / f"{path.stem}.jpg"
    Pillow.fromarray(lr).save(out, quality=int(generator.integers(low, high + 1)), subsampling="4:2:0")
    return out, hr


def train(options: argparse.Namespace) -> None:
    """Train with the degradations of the recipe or of a folder."""
    print(pin_threads(), flush=True)
    import yaml

    from srlib.files import file_hash
    from srlib.models import WEIGHTS
    from srlib.params import check_params
    from srlib.training.metric_log import MetricLog
    from srlib.training.pretrain import pretrain

    content = yaml.safe_load(options.recipe.read_text(encoding="utf-8"))
    content["prepare"]["images"] = str(options.patches)  # not read: the patches are there
    if options.what != BROAD:
        content["prepare"]["degradation"] = json.loads((options.work / options.what / "section.json").read_text())
    content["pretrain"] |= {
        "loss": "psnr",
        "precision": options.precision,
        "lr_patch": 48,
        "batch": 8,
        "steps": options.steps,
        "log_every": 50,
        "validate_every": options.steps,  # the last weights, whatever they are: nothing is chosen
        "ema_decay": 0.99,
        "learning_rate": {"schedule": "cosine", "peak": options.rate, "warmup": 20, "final": 1e-6},
        "start_from": {"folder": str(options.start), "sha256": file_hash(options.start / WEIGHTS)},
    }
    params = check_params(content, options.recipe)
    work = options.work / options.what
    work.mkdir(exist_ok=True)
    section = params.prepare.degradation
    assert section is not None
    patches = linked_patches(options.patches, work / "patches", section)
    _, result = pretrain(params, patches, work / "model", resume=work / "resume", log=MetricLog(work))
    print(result.validation, flush=True)


def linked_patches(clean: Path, folder: Path, section: "Degradation") -> Path:
    """Return a folder with the HR files of clean patches and another degradation."""
    from srlib.data.degradation import degrade_image, keyed_generator, write_degradation

    folder.mkdir(exist_ok=True)
    for path in clean.iterdir():
        if path.name not in {"validation_lr.npy", "degradation.json"} and not (folder / path.name).exists():
            os.symlink(path.resolve(), folder / path.name)
    hr = np.load(clean / "validation_hr.npy", mmap_mode="r")
    lr = [degrade_image(patch, SCALE, section, keyed_generator(f"validation {i}")) for i, patch in enumerate(hr)]
    np.save(folder / "validation_lr.npy", np.stack(lr))
    write_degradation(folder, section)
    return folder


def score(options: argparse.Namespace) -> None:
    """Print PSNR-Y of every model on the held-out images of every case."""
    pin_threads()
    from srlib.imaging.metrics import psnr_y, to_uint8
    from srlib.imaging.read import read_image
    from srlib.imaging.resize import resize
    from srlib.models import load_model, super_resolve

    names = sorted({path.parent.name for path in options.work.glob("*/model")}, key=lambda name: (name != BROAD, name))
    places = {"start": options.start} | {name: options.work / name / "model" for name in names}
    models = {name: load_model(place)[0] for name, place in places.items()}
    for case in CASES:
        folder = options.work / case / "held-out"
        folder.mkdir(parents=True, exist_ok=True)
        rows: dict[str, list[float]] = {name: [] for name in ("bicubic", *models)}
        for path in sorted(Path(options.what).glob("*.png")):
            file, hr = file_of(path, case, folder, options.crop)
            lr = read_image(file)
            rows["bicubic"].append(psnr_y(hr, resize(lr, SCALE), scale=SCALE))
            for name, model in models.items():
                rows[name].append(psnr_y(hr, to_uint8(super_resolve(model, lr[None]))[0], scale=SCALE))
        print(f"\n{case}, {len(rows['bicubic'])} images\n\n| model | PSNR-Y | minus {BROAD} | images above |")
        print("|---|---:|---:|---:|")
        for name, values in rows.items():
            gains = [one - other for one, other in zip(values, rows[BROAD], strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5
            above = sum(gain > 0 for gain in gains)
            print(f"| {name} | {statistics.mean(values):.3f} | {statistics.mean(gains):+.3f} ± {error:.3f} | {above} |")


if __name__ == "__main__":
    main()
