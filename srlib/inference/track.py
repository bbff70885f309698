"""`--track`: one MLflow run for a batch of images, with figures that need no original."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from statistics import mean

from srlib.errors import SrlibError, pip_install, printable
from srlib.inference.records import Records, Scores, table

_LARGEST_PSNR = 100.0
"""PSNR in dB that stands for an infinite one in a mean."""


@contextlib.contextmanager
def tracked(records: Records, params: Mapping[str, object]) -> Iterator[None]:
    """Record the block, which upscales images, as one MLflow run.

    Args:
        records: The records of the run, made with `tracked=True`.
        params: How the images are upscaled; None values are left out.

    Raises:
        SrlibError: MLflow is missing, or its store cannot be used.
    """
    if find_spec("mlflow") is None:
        raise SrlibError(f"--track needs MLflow: {pip_install('srlib[pipeline]')}")
    from srlib import __version__
    from srlib.tracking.batch import BatchResult, batch_run

    def result() -> BatchResult:
        lines = records.lines
        models = sorted({line.model for line in lines})
        images = "1 image" if len(lines) == 1 else f"{len(lines)} images"
        metrics = batch_metrics(lines)
        quality = f", LR PSNR {metrics['lr_consistency/psnr']:.1f} dB" if lines else ""
        name = f"upscale {', '.join(models)}: {images}{quality}" if models else f"upscale: {images}"
        versions = {f"fingerprint.{model}": text for model, text in records.fingerprints.items()}
        return BatchResult(metrics, name, table(lines), {"models": ", ".join(models), **versions})

    settings = {key: printable(value) for key, value in params.items() if value is not None}
    with batch_run({**settings, "srlib": __version__}, result):
        yield


def batch_metrics(lines: Sequence[Scores]) -> dict[str, float]:
    """Return the figures of a batch: number, consistency, throughput, and the images against the model's training.

    Args:
        lines: The scores of its images.

    Returns:
        `lr_consistency/…`: mean and lowest PSNR and largest error; `speed/…`; `input/noise` and so on: means;
        `outside/noise` and so on: by how much the images lie outside of what their model was trained for, on average,
        and `outside/share`, the share of images that do.
    """
    if not lines:
        return {"images": 0.0}
    psnr = [min(line.lr_psnr, _LARGEST_PSNR) for line in lines]
    seconds = sum(line.seconds for line in lines)
    pixels = sum(line.result_width * line.result_height for line in lines)
    metrics = {
        "images": float(len(lines)),
        "lr_consistency/psnr": mean(psnr),
        "lr_consistency/lowest_psnr": min(psnr),
        "lr_consistency/largest_error": float(max(line.lr_largest_error for line in lines)),
        "speed/seconds": seconds,
        "speed/images_per_second": len(lines) / max(seconds, 1e-9),
        "speed/megapixels_per_second": pixels / 1e6 / max(seconds, 1e-9),
    }
    for name in ("noise", "blur", "jpeg_quality"):
        values = [value for line in lines if (value := getattr(line, name)) is not None]
        distances = [value for line in lines if (value := getattr(line, f"{name}_outside")) is not None]
        metrics |= {f"input/{name}": mean(values)} if values else {}
        metrics |= {f"outside/{name}": mean(distances)} if distances else {}
    outside = [any((line.noise_outside, line.blur_outside, line.jpeg_quality_outside)) for line in lines]
    return {**metrics, "outside/share": sum(outside) / len(lines)}
