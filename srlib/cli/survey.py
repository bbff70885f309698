"""`srlib survey make`, `serve` and `score`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from srlib.cli.options import Scale

app = typer.Typer(help="A blind opinion survey: make the page, serve it, score the answers.", no_args_is_help=True)


@app.command("make")
def make(
    images: Annotated[
        Path, typer.Argument(help="Folder <Set>/<Method>/<name>.png, as evaluate writes it.", readable=False)
    ],
    page: Annotated[Path, typer.Option(help="Page for the raters.", readable=False)] = Path("survey.html"),
    key: Annotated[Path, typer.Option(help="Which version is which; keep it to yourself.", readable=False)] = Path(
        "survey.key.json"
    ),
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method to show; repeat for each. Default: bicubic, the networks and the original."),
    ] = None,
    test_set: Annotated[
        list[str] | None, typer.Option("--set", help="Test set to draw from; repeat for each. Default: all.")
    ] = None,
    count: Annotated[int, typer.Option(help="Images to rate; 0 for all.", min=0)] = 13,
    examples: Annotated[
        int | None,
        typer.Option(
            help="Images shown first, as examples, and not rated. Default: 2, or none with fewer than 5 images.", min=0
        ),
    ] = None,
    examples_from: Annotated[
        Path | None,
        typer.Option(help="Folder of other images for the examples. Default: some of the images.", readable=False),
    ] = None,
    max_side: Annotated[int, typer.Option(help="Longest side shown, in pixels.", min=32)] = 480,
    order: Annotated[
        Literal["grouped", "mixed", "fixed"],
        typer.Option(
            help="grouped: a random order of images for each rater, the versions of an image one after another; mixed: "
            "all versions in one random sequence; fixed: grouped, in one order for everybody."
        ),
    ] = "grouped",
    scale: Scale = 4,
    seed: Annotated[int, typer.Option(help="Seed for the choice of images and for the order.", min=0)] = 0,
) -> None:
    """Make one self-contained page on which people score versions of images without knowing which is which."""
    from srlib.pipeline.dvc import recorded_outputs
    from srlib.survey.page import SurveyOptions, make_page
    from srlib.survey.tracking import origin

    options = SurveyOptions(
        methods=method or (),
        sets=test_set or (),
        count=count,
        max_side=max_side,
        examples=examples,
        examples_from=examples_from,
        scale=scale,
        order=order,
        seed=seed,
    )
    made = make_page(images, page, key, options, origin=origin(images, recorded_outputs(), Path.cwd()))
    if len(made.images) < count:
        typer.echo(
            f"{images}: {made.available} images in all: {len(made.images)} to rate instead of {count}, "
            f"{len(made.examples)} as examples",
            err=True,
        )
    typer.echo(
        f"{page}: {len(made.images)} images × {len(made.methods)} methods ({', '.join(made.methods)}), "
        f"{made.byte_count / 1e6:.1f} MB; key: {key}"
    )


@app.command("serve")
def serve(
    page: Annotated[Path, typer.Argument(help="Page that `survey make` wrote.", readable=False)],
    answers: Annotated[Path, typer.Argument(help="Folder for the answers.", readable=False)],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all addresses.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    name: Annotated[
        list[str] | None, typer.Option(help="Further host name that browsers may use, such as a proxy's; repeat.")
    ] = None,
) -> None:
    """Serve the page and collect the answers, on this machine only by default."""
    from srlib.survey.server import serve as serve_page

    serve_page(page, answers, host=host, port=port, names=name or [])


@app.command("score")
def score(
    answers: Annotated[list[Path], typer.Argument(help="Answer files, or folders of them.", readable=False)],
    key: Annotated[Path, typer.Option(help="Key that `survey make` wrote.", readable=False)] = Path("survey.key.json"),
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for scores, tables and plot.", readable=False)
    ] = Path("data/survey"),
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Count unfinished answers too.")] = False,
    mlflow: Annotated[bool, typer.Option(help="Log the opinion scores to MLflow.")] = True,
) -> None:
    """Check the answers and print mean opinion scores with confidence intervals."""
    from srlib.evaluation.tables import print_table
    from srlib.survey.opinions import tables
    from srlib.survey.score import score_answers

    opinions = score_answers(answers, key, out, unfinished=unfinished)
    for table in tables(opinions):
        print_table(table)
    for file, reason in opinions.refused:
        typer.echo(f"left out: {file}: {reason}", err=True)
    if mlflow:
        from srlib.pipeline.dvc import root
        from srlib.survey.tracking import log_opinions
        from srlib.tracking import connect

        store = connect(root())
        log_opinions(store.client, store.experiment, opinions, out, key)
