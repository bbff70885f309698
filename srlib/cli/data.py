"""`srlib downscale`, `degrade`, `degradation estimate`, `align`, `patches` and `overlap`."""

from pathlib import Path
from typing import Annotated

import typer

from srlib.cli.options import Force, PartOption, Scale, Scheduler
from srlib.parts import Part


def downscale(
    hr_folder: Annotated[Path, typer.Argument(help="Folder of images to downscale.", metavar="HR_DIR", readable=False)],
    lr_folder: Annotated[
        Path, typer.Argument(help="Folder for the results, as PNG.", metavar="LR_DIR", readable=False)
    ],
    scale: Scale = 4,
    edges: Annotated[
        str, typer.Option(help="clamp (as the benchmarks' LR files) or mirror (newer MATLAB, DIV2K).")
    ] = "clamp",
    part: PartOption = None,
    scheduler: Scheduler = None,
    force: Force = False,
) -> None:
    """Downscale images as MATLAB's imresize(…, 'bicubic') does, byte for byte."""
    from srlib.data.downscale import downscale_folder

    chosen = None if part is None else Part.parse(part)
    count = downscale_folder(hr_folder, lr_folder, scale, edges, force=force, part=chosen, scheduler=scheduler)
    _print_empty(part, count, hr_folder)


def degrade(
    hr_folder: Annotated[Path, typer.Argument(help="Folder of images to degrade.", metavar="HR_DIR", readable=False)],
    lr_folder: Annotated[
        Path, typer.Argument(help="Folder for the results, as PNG.", metavar="LR_DIR", readable=False)
    ],
    recipe: Annotated[
        Path, typer.Option(help="Recipe whose section prepare.degradation is applied.", readable=False)
    ] = Path("params.yaml"),
    seed: Annotated[int, typer.Option(help="Seed of all random settings.", min=0)] = 0,
    part: PartOption = None,
    scheduler: Scheduler = None,
    force: Force = False,
) -> None:
    """Degrade images at random as a recipe does in training: blur, resizing, noise and compression."""
    from srlib.data.downscale import degrade_folder
    from srlib.errors import SrlibError
    from srlib.params import load_params

    chosen = None if part is None else Part.parse(part)
    params = load_params(recipe, stage=None)
    if params.prepare.degradation is None:
        raise SrlibError(f"{recipe}: no section prepare.degradation; add one, or use `srlib downscale`")
    section = params.prepare.degradation
    count = degrade_folder(
        hr_folder, lr_folder, params.scale, section, seed=seed, force=force, part=chosen, scheduler=scheduler
    )
    _print_empty(part, count, hr_folder)


def _print_empty(part: str | None, count: int, folder: Path) -> None:
    if part is not None and not count:
        typer.echo(f"part {part}: no image of {folder} belongs to it", err=True)


degradation = typer.Typer(help="Fit random degradations to images of your own.", no_args_is_help=True)


@degradation.callback()
def _degradation() -> None:
    pass


@degradation.command("estimate")
def estimate_degradation(
    folder: Annotated[Path, typer.Argument(help="Folder of images as the network will get them.")],
    scale: Scale = 4,
    hr_folder: Annotated[
        Path | None, typer.Option("--hr", help="Folder of clean images, for the sheet.", metavar="HR_DIR")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="PNG file to write: your images beside degraded clean ones.", readable=False),
    ] = None,
    force: Force = False,
) -> None:
    """Estimate noise, blur and JPEG quality of a folder, and print the section prepare.degradation that fits it."""
    from srlib.data.fit_degradation import comparison_sheet, estimate_folder, fitted_degradation, section_text
    from srlib.errors import SrlibError
    from srlib.files import check_output
    from srlib.imaging.folders import list_images

    if (sheet is None) != (hr_folder is None):
        raise SrlibError("--sheet and --hr: give both, the file to write and clean images to degrade, or neither")
    if sheet is not None and hr_folder is not None:
        check_output(sheet, suffix=".png", force=force)
        for images in (folder, hr_folder):
            if sheet.resolve().is_relative_to(images.resolve()):
                raise SrlibError(
                    f"{sheet}: expected a file outside {images}, or the next run would read it as an image"
                )
        list_images(hr_folder)  # a mistake in its name is reported before the work
    result = estimate_folder(folder)
    section = fitted_degradation(result.traces, scale)
    for line in result.skipped:
        typer.echo(f"left out: {line}", err=True)
    typer.echo(f"{folder}: {len(result.traces)} images", err=True)
    if result.hidden_noise is not None:
        some = "noise.sigma counts stronger noise only"
        what = some if section.passes[0].noise else "there may be some, though none is estimated"
        typer.echo(f"the JPEG compression hides noise below {result.hidden_noise:.1f} levels: {what}", err=True)
    typer.echo("prepare:")
    typer.echo(section_text(section), nl=False)
    if sheet is not None and hr_folder is not None:
        comparison_sheet(result.images, hr_folder, section, scale, sheet)
        typer.echo(f"{sheet}: your images on the left, degraded images on the right", err=True)


def align(
    folder: Annotated[
        Path, typer.Argument(help="Folder with HR and LR, images of the same names.", metavar="PAIRS", readable=False)
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the aligned pairs.", metavar="OUT", readable=False)],
    scale: Scale = 4,
    tile: Annotated[int, typer.Option(help="Side of the tiles in LR pixels.", min=16, max=4096)] = 128,
    force: Force = False,
) -> None:
    """Align pairs of photographs: resample HR to the grid of LR, fit its colors, and reject tiles that still differ."""
    from srlib.data.alignment import align_pairs

    result = align_pairs(folder, out, scale, tile=tile, force=force)
    for line in result.mistakes:
        typer.echo(f"left out: {line}", err=True)
    if result.others:
        typer.echo(f"{out}: has {result.others} more images, which are not of this run", err=True)
    typer.echo(f"{out}: {result.written} tiles; {result.rejected} rejected ({out / 'pairs.csv'} names the reasons)")
    typer.echo(f"{out / 'sheet.png'}: LR, HR and their difference; look at it before you train")


def patches(
    folder: Annotated[Path, typer.Argument(help="Folder that the prepare stage wrote.", readable=False)] = Path(
        "data/patches"
    ),
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write.", readable=False)] = Path("patches.png"),
    count: Annotated[int, typer.Option(help="Number of pairs.", min=1, max=1000)] = 16,
    force: Force = False,
) -> None:
    """Draw a contact sheet of training patches, LR beside HR, to check by eye that they are aligned."""
    from srlib.data.contact_sheet import contact_sheet

    sheet = contact_sheet(folder, out, count=count, force=force)
    typer.echo(f"{out}: {sheet.pairs} pairs, {sheet.displaced} look displaced")


def overlap(
    images: Annotated[Path, typer.Argument(help="Folder of training images.", metavar="IMAGES")],
    tests: Annotated[
        Path, typer.Argument(help="Folder of test images; folders named LR in it are left out.", metavar="TEST")
    ],
) -> None:
    """Find training images that show the scene or subject of a test image.

    The exit status is 1 if there are any, or if an image could not be read.
    """
    from srlib.data.overlap import find_overlaps
    from srlib.errors import printable

    search = find_overlaps(images, tests)
    for line in search.unreadable:
        typer.echo(f"left out: {line}", err=True)
    for pair in search.overlaps:
        typer.echo(f"{pair.image}: the same scene or subject as {pair.test} ({pair.points} points agree)")
    if search.plain:
        first, more = search.plain[0], len(search.plain) - 1
        names = f"{printable(first)} and {more} more" if more else printable(first)
        typer.echo(f"not compared, with too few corners, as a dark or blurred image has: {names}", err=True)
    compared = f"{search.images} images compared with {search.tests} test images"
    if search.overlaps:
        count = len({pair.image for pair in search.overlaps})
        typer.echo(f"{compared}: {count} to leave out of the training, or these test images score too high")
    else:
        typer.echo(f"{compared}: no overlap found")
    if search.overlaps or search.unreadable:
        raise typer.Exit(1)
