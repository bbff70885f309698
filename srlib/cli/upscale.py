"""`srlib upscale`."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srlib.cli.options import Force, PartOption, Scheduler
from srlib.errors import SrlibError
from srlib.inference.shipped import AUTO, CLEAN_MODEL, CLEAN_MODELS, PHOTO_MODEL, shipped_models
from srlib.parts import Part

if TYPE_CHECKING:
    from srlib.inference.choice import AutoModel
    from srlib.inference.upscaler import Upscaler


def _clean_models() -> str:
    """Return the models that `auto` takes for clean images, with their factors."""
    *smaller, (_, largest) = sorted(CLEAN_MODELS.items())
    return f"{largest} ({', '.join(f'up to ×{scale} {name}' for scale, name in smaller)})"


Inputs = Annotated[
    list[str], typer.Argument(help="Image files, films, folders or patterns; or - for standard input.", metavar="IN")
]
Out = Annotated[
    str, typer.Option("--out", "-o", help="A file for a single image or film, else a folder; - is standard output.")
]
Factor = Annotated[
    str | None, typer.Option(help="Factor from 1 to 16 such as 4, 1.5 or 8/3 (default: the model's own).")
]
Width = Annotated[
    int | None, typer.Option(help="Pixels per row; the height follows, unless --height is given too.", metavar="PIXELS")
]
Height = Annotated[int | None, typer.Option(help="Pixels per column; the width follows.", metavar="PIXELS")]
Fit = Annotated[
    str | None,
    typer.Option(help="The largest size inside WIDTHxHEIGHT, such as 3840x2160, without changing the proportions."),
]
Megapixels = Annotated[float | None, typer.Option(help="Millions of pixels per result, such as 8.3.")]
Model = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(shipped_models())}, which come with srlib; a model folder; an ONNX, .pth or .safetensors "
        "file; or from MLflow models:/NAME@champion, models:/NAME/2 or runs:/ID/NAME."
    ),
]
UpscalingModel = Annotated[
    str | None,
    typer.Option(
        help=f"auto, the default, takes for each image the one that fits: {_clean_models()} if it is clean, else "
        f"{PHOTO_MODEL}; or "
        f"{', '.join(shipped_models())}, which come with srlib; a model folder; an ONNX, .pth or .safetensors file; or "
        "from MLflow models:/NAME@champion, models:/NAME/2 or runs:/ID/NAME. With --gan the default is "
        f"{CLEAN_MODEL}."
    ),
]
Fidelity = Annotated[
    float | None,
    typer.Option(help="Blend of GAN and PSNR weights, from 0 (GAN, sharp) to 1 (PSNR, faithful).", min=0, max=1),
]
Gan = Annotated[
    str | None, typer.Option(help="GAN counterpart of --model for --fidelity, such as models/gan.", metavar="FOLDER")
]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="Average over eight flips and rotations: 8 times slower, slightly better.")
]
Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8.")]
Tile = Annotated[str, typer.Option(help="auto, or the side of a tile in pixels of the input image.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads (default: all).", min=1, max=1024)]
FileFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="png, jpeg, tiff or webp; mp4, mov, mkv or webm for films (default: by the ending of OUT, else as IN).",
    ),
]
Quality = Annotated[
    int,
    typer.Option(help="Quality of JPEG, WebP (100 is lossless) and films (95 is CRF 17 in H.264).", min=1, max=100),
]
Codec = Annotated[
    str | None,
    typer.Option(help="Video codec: h264, hevc, vp9 or av1 (default: h264, hevc for 10 bits; in WebM vp9, av1)."),
]
Preview = Annotated[
    float | None, typer.Option(help="Only the first seconds of films, to see what comes out.", metavar="SECONDS")
]
AllowLarge = Annotated[
    bool,
    typer.Option("--allow-large", help="Also upscale images of more than 67 megapixels, and films that take days."),
]

Consistent = Annotated[
    bool,
    typer.Option("--consistent", help="Correct the result so that, downscaled again, it is the input within a level."),
]
ScoresFile = Annotated[
    str | None,
    typer.Option(
        help="CSV file that gets a line per image: sizes, seconds, and how well the result agrees with the input.",
        metavar="FILE",
    ),
]
Track = Annotated[
    bool,
    typer.Option(
        "--track",
        help="Record an MLflow run: model, images, agreement with the input, speed, and how far the images lie outside "
        "of what the model was trained for.",
    ),
]
MapFile = Annotated[
    str | None,
    typer.Option(
        "--map",
        help="A PNG file for a single image, else a folder: shows where the detail is not determined by the input.",
        metavar="PATH",
    ),
]
BandsFile = Annotated[
    str | None,
    typer.Option(
        "--uncertainty",
        help="A PNG file for a single image, else a folder: shows how far the result may be from its original; white "
        "is 64 levels or more. For models with bands, at their own size.",
        metavar="PATH",
    ),
]


def upscale(
    inputs: Inputs,
    out: Out,
    scale: Factor = None,
    width: Width = None,
    height: Height = None,
    fit: Fit = None,
    megapixels: Megapixels = None,
    model: UpscalingModel = None,
    fidelity: Fidelity = None,
    gan: Gan = None,
    ensemble: Ensemble = False,
    precision: Precision = "auto",
    tile: Tile = "auto",
    threads: Threads = None,
    file_format: FileFormat = None,
    quality: Quality = 95,
    codec: Codec = None,
    preview: Preview = None,
    allow_large: AllowLarge = False,
    consistent: Consistent = False,
    scores: ScoresFile = None,
    maps: MapFile = None,
    uncertainty: BandsFile = None,
    track: Track = False,
    part: PartOption = None,
    scheduler: Scheduler = None,
    force: Force = False,
) -> None:
    """Upscale PNG, JPEG, TIFF or WebP images of any size; bit depth, transparency, color profile and EXIF are kept.

    MP4, QuickTime, Matroska and WebM films too (needs the extra films): sound, subtitles, chapters, times, rotation and
    color are kept. In a folder, results that exist are left as they are. An interrupted run continues, also within a
    film.
    """
    from srlib.films.batch import run_plan
    from srlib.films.options import FilmOptions
    from srlib.inference.clustered import model_for_workers
    from srlib.inference.jobs import plan_jobs
    from srlib.inference.output_size import output_size
    from srlib.inference.records import Records
    from srlib.inference.track import tracked
    from srlib.signals import Stopped

    tile_side = _tile_side(tile)
    model = model or (AUTO if gan is None else CLEAN_MODEL)
    if scheduler:
        model, gan = model_for_workers(model), gan and model_for_workers(gan)
    size = output_size(scale=scale, width=width, height=height, fit=fit, megapixels=megapixels)
    if uncertainty is not None and (fidelity is not None or gan is not None or ensemble):
        option = "--ensemble" if ensemble else "--gan" if fidelity is None else "--fidelity"
        raise SrlibError(f"--uncertainty: bands were measured for single models as they are; leave out {option}")

    def open_upscaler() -> "Upscaler | AutoModel":
        from srlib.inference.choice import open_any

        return open_any(
            model,
            fidelity=fidelity,
            gan=gan,
            precision=precision,
            tile=tile_side,
            ensemble=ensemble,
            threads=threads,
        )

    options = FilmOptions(size, quality, allow_large, consistent, codec, preview)
    chosen = None if part is None else Part.parse(part)
    plan = plan_jobs(inputs, out, format=file_format, force=force, films=True, part=chosen)
    if chosen is not None and scores is not None:
        scores = str(chosen.file(Path(scores)))
    records = Records.at(scores, maps, out, bands=uncertainty, model=model, tracked=track)
    settings = {"model": model, "fidelity": fidelity, "precision": precision, "ensemble": ensemble, "out": out}
    try:
        with tracked(records, settings) if track and plan.jobs else contextlib.nullcontext():
            summary = run_plan(plan, open_upscaler, options, records=records, scheduler=scheduler)
    except Stopped as error:
        if not error.is_reported:
            raise
        sys.exit(128 + error.signum)
    finally:
        if plan.existing:
            typer.echo(_existing_line(out, plan.existing, records.options), err=True)
    if part is not None and not summary.done + summary.existing:
        typer.echo(f"part {part}: no file of {', '.join(inputs)} belongs to it", err=True)


def _existing_line(out: str, count: int, options: list[str]) -> str:
    """Return the line about results that existed, and about the options that wrote nothing for them."""
    line = f"{out}: {count} existed already and {'was left as it is' if count == 1 else 'were left as they are'}"
    if not options:
        return f"{line}; --force makes {'it' if count == 1 else 'them'} again"
    names = " and ".join(options)
    return f"{line}, so {names} wrote nothing for {'it' if count == 1 else 'them'}; add --force to make both again"


def _tile_side(tile: str) -> int | None:
    if tile == "auto":
        return None
    if not (tile.isascii() and tile.isdigit() and 0 < int(tile) < 2**31):
        raise SrlibError(f"--tile: expected auto or a number of pixels, got {tile}")
    return int(tile)
