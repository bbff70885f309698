"""Upscale image files, on this machine or on the workers of a Dask cluster."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from srlib.errors import SrlibError
from srlib.imaging.image_file import QUALITY
from srlib.inference.batch import ImageOptions, Summary, run_jobs
from srlib.inference.choice import open_any
from srlib.inference.clustered import model_for_workers, run_on_cluster
from srlib.inference.jobs import JobPlan, plan_jobs
from srlib.inference.output_size import output_size
from srlib.inference.records import Records
from srlib.inference.shipped import AUTO
from srlib.inference.upscale import RgbModel
from srlib.inference.upscaler import Upscaler, model_name
from srlib.parts import Part


def upscale_files(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | Upscaler = AUTO,
    scale: float | Fraction | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: tuple[int, int] | None = None,
    megapixels: float | None = None,
    format: str | None = None,
    quality: int = QUALITY,
    force: bool = False,
    allow_large: bool = False,
    consistent: bool = False,
    scores: str | Path | None = None,
    maps: str | Path | None = None,
    uncertainty: str | Path | None = None,
    part: str | None = None,
    scheduler: str | None = None,
) -> Summary:
    """Upscale image files, keeping color profile, EXIF, transparency and bit depth.

    Each result is written whole or not at all. A bad image does not stop the others. In a folder, results that exist
    are left out, so that an interrupted run continues when it is started again.

    Args:
        inputs: One or several files, folders or patterns such as `scans/*.tif`.
        out: A file for a single image (its ending gives the format), else a folder.
        model: `auto` for the shipped model that fits each image; a model that `open_model` accepts by name or folder;
            or an opened model.
        scale: Factor from 1 to 16 (default: the model's own).
        width: Pixels per row; the height follows from the proportions. With `height` too: exactly this size.
        height: Pixels per column.
        fit: (width, height): the largest size inside it with each image's proportions.
        megapixels: Millions of pixels per result.
        format: `png`, `jpeg`, `tiff` or `webp` (default: by the ending of `out`, else the input's format).
        quality: JPEG and WebP quality, 1 to 100; 100 is lossless in WebP.
        force: Overwrite results that exist.
        allow_large: Also upscale images of more than 67 megapixels.
        consistent: Correct each result so that, downscaled again, it is its LR image within about one level.
        scores: CSV file that gets one line per image: sizes, seconds, and how well the result, downscaled again, agrees
            with the LR image.
        maps: A PNG file for a single image, else a folder: where a result shows detail that its LR image does not
            determine; white stands for 32 levels and more.
        uncertainty: The same, for maps of how far a result may be from its original: four shades per level of the
            half-width of bands that hold 95 % of the original's pixels. For models with bands, as those that ship have,
            at the model's own size.
        part: Only part K of N of the files, such as `3/32`, for job arrays; see `srlib.parts.Part`. Scores go to a file
            of the part's own, such as `scores.part-03-of-32.csv`.
        scheduler: Address of a Dask scheduler whose workers upscale the images, such as `tcp://10.0.0.1:8786` (default:
            this machine). A single image is upscaled on this machine.

    Returns:
        How many images were upscaled, and how many results existed already.

    Raises:
        SrlibError: Nothing could be done at all, or at the end one line per image that was left out.

    Example:
        >>> import numpy as np, srlib, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> srlib.write_image(f"{folder}/small.png", np.zeros((8, 8, 3), np.uint8))
        >>> srlib.upscale_files(f"{folder}/small.png", f"{folder}/big.png")
        Summary(done=1, existing=0)
    """
    if isinstance(model, str | Path) or not callable(model):
        model = model_name(model)
    if scheduler and not isinstance(model, str):
        raise SrlibError("model: workers of a cluster open it themselves; expected a name or a folder, got a model")
    size = output_size(scale=scale, width=width, height=height, fit=fit, megapixels=megapixels)
    options = ImageOptions(size, quality, allow_large, consistent)
    names = [inputs] if isinstance(inputs, str | Path) else inputs
    own = None if part is None else Part.parse(part)
    plan = plan_jobs([str(name) for name in names], str(out), format=format, force=force, part=own)
    if own is not None and scores is not None:
        scores = own.file(Path(scores))
    if isinstance(model, str) and scheduler:
        model = model_for_workers(model)
    name = model if isinstance(model, str) else None
    records = Records.at(scores, maps, out, bands=uncertainty, model=name)
    return upscale_plan(plan, lambda: open_any(model), options, records, scheduler)


def upscale_plan(
    plan: JobPlan,
    open_model: Callable[[], RgbModel],
    options: ImageOptions,
    records: Records | None = None,
    scheduler: str | None = None,
) -> Summary:
    """Upscale the images of a plan, on this machine or on a cluster.

    Args:
        plan: Images to upscale; see `srlib.inference.jobs.plan_jobs`.
        open_model: Function that opens the model; called only if there is something to do.
        options: How images are upscaled.
        records: Where scores and maps go (default: nowhere).
        scheduler: Address of a Dask scheduler (default: this machine, also for a single image, which is upscaled sooner
            than a model is opened in many workers).

    Returns:
        How many images were upscaled, and how many results existed already.

    Raises:
        SrlibError: Nothing could be done at all, or at the end one line per image that was left out.
    """
    if scheduler and len(plan.jobs) > 1:
        return run_on_cluster(plan, open_model, options, records, scheduler=scheduler)
    return run_jobs(plan, open_model, options, records)
