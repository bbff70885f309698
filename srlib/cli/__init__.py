"""The command line: each command is one call into srlib, and imports heavy libraries itself."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from srlib import __version__
from srlib.errors import SrlibError

app = typer.Typer(
    name="srlib",
    help="Image super-resolution: enlarge pictures, and measure how well.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Scale = Annotated[int, typer.Option(help="Factor of enlargement.", min=1, max=16)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


@app.command()
def upscale(
    inputs: Annotated[list[str], typer.Argument(help="Pictures, folders, patterns, or - for one.", metavar="IN")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="A file for one picture, else a folder; - for standard output.")
    ],
    scale: Annotated[
        str | None, typer.Option(help="1 to 16, such as 4, 1.5 or 8/3; the model's own by default.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A name, a folder, or from MLflow models:/NAME@champion, models:/NAME/2, runs:/ID/NAME.")
    ] = "psnr-x4",
    fidelity: Annotated[
        float | None, typer.Option(help="From 0, sharp by the GAN weights, to 1, faithful.", min=0, max=1)
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Mean over eight flips and turns: eight times slower, a little better.")
    ] = False,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    tile: Annotated[str, typer.Option(help="auto, or the side of a tile in pixels of the small picture.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Of the processor; all by default.", min=1)] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="png, jpeg, tiff or webp; by default as OUT ends, else as the input.")
    ] = None,
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP; WebP's 100 is lossless.", min=1, max=100)] = 95,
    force: Force = False,
) -> None:
    """Enlarge pictures: PNG, JPEG, TIFF or WebP of any size, with depth, transparency, profile and EXIF kept.

    Into a folder, what is there already is left out: a run that was interrupted goes on.
    """
    from srlib.inference.batch import upscale_files
    from srlib.inference.upscale import parse_scale

    if tile != "auto" and not (tile.isdigit() and int(tile)):
        raise SrlibError(f"--tile: expected auto or a number of pixels, got {tile}")

    def opened() -> Any:
        from srlib.inference.upscaler import open_model

        side = None if tile == "auto" else int(tile)
        return open_model(model, fidelity=fidelity, precision=precision, tile=side, ensemble=ensemble, threads=threads)

    factor = None if scale is None else parse_scale(scale)
    summary = upscale_files(inputs, out, opened, factor=factor, format=file_format, quality=quality, force=force)
    if summary.skipped:
        typer.echo(f"{out}: {summary.skipped} were there already; --force makes them again", err=True)


@app.command()
def downscale(
    hr_folder: Annotated[Path, typer.Argument(help="Pictures to make smaller.", metavar="HR_DIR")],
    lr_folder: Annotated[Path, typer.Argument(help="Where the small ones go, as PNG.", metavar="LR_DIR")],
    scale: Scale = 4,
    edges: Annotated[str, typer.Option(help="clamp (benchmarks' LR files) or mirror (newer MATLAB, DIV2K).")] = "clamp",
    force: Force = False,
) -> None:
    """Make LR pictures as MATLAB's imresize(…, 'bicubic') does, byte for byte."""
    from srlib.data.downscale import downscale_folder

    downscale_folder(hr_folder, lr_folder, scale, edges, force=force)


@app.command()
def score(
    sr_folder: Annotated[Path, typer.Argument(help="Enlarged pictures.", metavar="SR_DIR")],
    hr_folder: Annotated[Path, typer.Argument(help="Their originals, of the same names.", metavar="HR_DIR")],
    scale: Scale = 4,
    csv: Annotated[Path | None, typer.Option(help="Also write the scores of each picture here.")] = None,
) -> None:
    """Score pictures of any origin by the protocol behind the published tables."""
    from srlib.evaluation import tables
    from srlib.evaluation.benchmark import score_folder
    from srlib.files import write_text

    scores = [score for result in score_folder(sr_folder, hr_folder, scale) for score in result.scores]
    tables.print_table(tables.image_table(scores))
    tables.print_table(tables.detail_table(hr_folder.name, scores))
    if csv:
        write_text(csv, tables.scores_csv(scores))


@app.command()
def patches(
    folder: Annotated[Path, typer.Argument(help="The folder that the prepare stage wrote.")] = Path("data/patches"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the picture goes.")] = Path("patches.png"),
    count: Annotated[int, typer.Option(help="How many pairs.", min=1, max=1000)] = 16,
) -> None:
    """Draw a contact sheet of training patches, LR beside HR, to check by eye that they are aligned."""
    from srlib.data.contact_sheet import contact_sheet

    sheet = contact_sheet(folder, out, count=count)
    typer.echo(f"{out}: {sheet.pairs} pairs, {sheet.displaced} look displaced")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A trained model: config.json and weights.", metavar="MODEL_DIR")],
    out: Annotated[Path, typer.Argument(help="The folder to write the network and its config.json to.")],
    form: Annotated[str, typer.Option("--format", help="openvino (what srlib itself runs) or onnx.")] = "openvino",
    pictures: Annotated[
        Path | None, typer.Option(help="Originals to compare on; they also tell whether bfloat16 is harmless.")
    ] = None,
    force: Force = False,
) -> None:
    """Write a trained model as OpenVINO or ONNX, for pictures of any size, checked against Keras."""
    from srlib.inference.export import export, summary

    typer.echo(summary(out, export(model, out, form, pictures=pictures, force=force)))


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> None:
    """Browse the recorded runs in the MLflow UI, on this machine only."""
    from srlib.tracking import serve_ui

    serve_ui(port)


survey = typer.Typer(
    help="A blind survey of opinions: make the page, serve it, score the answers.", no_args_is_help=True
)
app.add_typer(survey, name="survey")


@survey.command("make")
def survey_make(
    pictures: Annotated[Path, typer.Argument(help="<Set>/<Method>/<name>.png, as evaluate writes them.")],
    page: Annotated[Path, typer.Option(help="The page to give to raters.")] = Path("survey.html"),
    key: Annotated[Path, typer.Option(help="What tells the versions apart; keep it to yourself.")] = Path(
        "survey.key.json"
    ),
    method: Annotated[list[str] | None, typer.Option(help="A version to show; again for each.")] = None,
    test_set: Annotated[list[str] | None, typer.Option("--set", help="A set to draw from; again for each.")] = None,
    count: Annotated[int, typer.Option(help="How many pictures.", min=1)] = 13,
    crop: Annotated[int, typer.Option(help="Largest side shown, in pixels.", min=32)] = 480,
    scale: Scale = 4,
    seed: Annotated[int, typer.Option(help="Of the choice of pictures.", min=0)] = 0,
) -> None:
    """Make one self-contained page on which a person scores versions of pictures without knowing which is which."""
    from srlib.survey import page as room
    from srlib.survey.tracking import origin

    made = room.make(
        pictures, page, key, methods=method or room.METHODS, sets=test_set or (), count=count, crop=crop, scale=scale,
        seed=seed, origin=origin(pictures),
    )  # fmt: skip
    typer.echo(f"{page}: {len(made.pictures)} pictures, {made.items} items, {made.page_bytes / 1e6:.1f} MB; key: {key}")


@survey.command("serve")
def survey_serve(
    page: Annotated[Path, typer.Argument(help="The page that `survey make` wrote.")],
    answers: Annotated[Path, typer.Argument(help="The folder that answers are written to.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    name: Annotated[list[str] | None, typer.Option(help="A host name that browsers may use; again for each.")] = None,
) -> None:
    """Serve the page and collect the answers, on this machine only unless told otherwise."""
    from srlib.survey.server import serve

    serve(page, answers, host=host, port=port, names=name or [])


@survey.command("score")
def survey_score(
    answers: Annotated[list[Path], typer.Argument(help="Answer files, or folders of them.")],
    key: Annotated[Path, typer.Option(help="The key that `survey make` wrote.")] = Path("survey.key.json"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Where tables and plot go.")] = Path("results/survey"),
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Count half-finished answers too.")] = False,
    mlflow: Annotated[bool, typer.Option(help="Record the opinions in MLflow.")] = True,
) -> None:
    """Check the answers and give mean opinion scores with confidence intervals."""
    from srlib.evaluation.tables import print_table
    from srlib.survey import score as room

    opinions = room.score(answers, key, out, unfinished=unfinished)
    for table in room.tables(opinions):
        print_table(table)
    for file, reason in opinions.refused:
        typer.echo(f"left out: {file}: {reason}", err=True)
    if mlflow:
        from srlib.survey.tracking import log_to_mlflow

        log_to_mlflow(opinions, out, key)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"srlib {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line; bad input ends in one line and status 1, never in a traceback."""
    try:
        app()
    except SrlibError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "srlib").split(".")[0] == "srlib":
            raise
        sys.exit(f"error: this command needs {error.name}, which is not installed: pip install 'srlib[pipeline]'")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}")
