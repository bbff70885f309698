"""`srlib survey make`, `serve` and `score`."""

from pathlib import Path
from typing import Annotated

import typer

from srlib.cli.options import Scale

app = typer.Typer(help="A blind opinion survey: make the page, serve it, score the answers.", no_args_is_help=True)


@app.command("make")
def make(
    pictures: Annotated[Path, typer.Argument(help="Folder <Set>/<Method>/<name>.png, as evaluate writes it.")],
    page: Annotated[Path, typer.Option(help="Page for the raters.")] = Path("survey.html"),
    key: Annotated[Path, typer.Option(help="Which version is which; keep it to yourself.")] = Path("survey.key.json"),
    method: Annotated[list[str] | None, typer.Option(help="Method to show; repeat for each.")] = None,
    test_set: Annotated[list[str] | None, typer.Option("--set", help="Test set to draw from; repeat for each.")] = None,
    count: Annotated[int, typer.Option(help="Number of images.", min=1)] = 13,
    crop: Annotated[int, typer.Option(help="Longest side shown, in pixels.", min=32)] = 480,
    scale: Scale = 4,
    seed: Annotated[int, typer.Option(help="Seed for the choice of images.", min=0)] = 0,
) -> None:
    """Make one self-contained page on which people score versions of images without knowing which is which."""
    from srlib.survey import page as survey_page
    from srlib.survey.tracking import origin

    made = survey_page.make(
        pictures,
        page,
        key,
        methods=method or survey_page.METHODS,
        sets=test_set or (),
        count=count,
        crop=crop,
        scale=scale,
        seed=seed,
        origin=origin(pictures),
    )
    typer.echo(f"{page}: {len(made.pictures)} images, {made.items} items, {made.page_bytes / 1e6:.1f} MB; key: {key}")


@app.command("serve")
def serve(
    page: Annotated[Path, typer.Argument(help="Page that `survey make` wrote.")],
    answers: Annotated[Path, typer.Argument(help="Folder for the answers.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    name: Annotated[list[str] | None, typer.Option(help="Host name that browsers may use; repeat for each.")] = None,
) -> None:
    """Serve the page and collect the answers, on this machine only by default."""
    from srlib.survey.server import serve as serve_page

    serve_page(page, answers, host=host, port=port, names=name or [])


@app.command("score")
def score(
    answers: Annotated[list[Path], typer.Argument(help="Answer files, or folders of them.")],
    key: Annotated[Path, typer.Option(help="Key that `survey make` wrote.")] = Path("survey.key.json"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for tables and plot.")] = Path("results/survey"),
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Count incomplete answers too.")] = False,
    mlflow: Annotated[bool, typer.Option(help="Log the opinion scores to MLflow.")] = True,
) -> None:
    """Check the answers and print mean opinion scores with confidence intervals."""
    from srlib.evaluation.tables import print_table
    from srlib.survey import score as survey_score

    opinions = survey_score.score(answers, key, out, unfinished=unfinished)
    for table in survey_score.tables(opinions):
        print_table(table)
    for file, reason in opinions.refused:
        typer.echo(f"left out: {file}: {reason}", err=True)
    if mlflow:
        from srlib.survey.tracking import log_to_mlflow

        log_to_mlflow(opinions, out, key)
