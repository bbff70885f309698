"""`srlib uncertainty map`, `calibrate` and `check`."""

from pathlib import Path
from typing import Annotated

import typer

from srlib.cli.options import Force
from srlib.inference.shipped import CLEAN_MODEL

app = typer.Typer(help="How far a result may be from its original: bands with a tested coverage.", no_args_is_help=True)

Model = Annotated[str, typer.Option("--model", help="Model that made the result, as for `srlib upscale`.")]
LrFolder = Annotated[
    Path | None,
    typer.Option("--lr", help="Folder of their LR images (default: MATLAB's bicubic).", metavar="LR_DIR"),
]


@app.command("map")
def draw(
    result: Annotated[Path, typer.Argument(help="An upscaled image.", metavar="RESULT", readable=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write.", readable=False)],
    model: Model = CLEAN_MODEL,
    coverage: Annotated[
        float, typer.Option(help="Share of the pixels of originals inside the bands: .8, .9 or .95.")
    ] = 0.95,
    force: Force = False,
) -> None:
    """Draw the half-width of the bands around each pixel of a result: black is sure, white 64 levels of 255 or more."""
    from srlib.calibration.uncertainty import draw_map

    mean = draw_map(result, out, model, coverage, force=force)
    words = f"{100 * coverage:g} % of the original's pixels lie within {mean:.1f} levels of 255 on average"
    typer.echo(f"{out}: {words}; white: 64 or more")


@app.command("calibrate")
def calibrate(
    model: Annotated[str, typer.Argument(help="Model of your own, as for `srlib upscale --model`.")],
    hr_folder: Annotated[Path, typer.Argument(help="Originals that it was not trained on.", metavar="HR_DIR")],
    lr_folder: LrFolder = None,
) -> None:
    """Measure the bands of a model on originals, and keep them beside it."""
    from srlib.calibration.uncertainty import calibrate_model
    from srlib.inference.bands import bands_file

    bands = calibrate_model(model, hr_folder, lr_folder)
    typer.echo(f"{bands_file(model)}: bands from {bands.images} images, {bands.pixels:,} pixels")


@app.command("check")
def check(
    model: Annotated[str, typer.Argument(help="A model with bands.")],
    hr_folder: Annotated[Path, typer.Argument(help="Folder of originals.", metavar="HR_DIR")],
    lr_folder: LrFolder = None,
) -> None:
    """Measure how many pixels of originals really lie inside the bands of a model."""
    from srlib.calibration.uncertainty import check_coverage

    for line in check_coverage(model, hr_folder, lr_folder):
        typer.echo(
            f"stated {line.stated:.0%}: {line.mean:.1%} of an image's pixels as a mean over {line.images} images, "
            f"at least {line.lowest:.1%} in each"
        )
