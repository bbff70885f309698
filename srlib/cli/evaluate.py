"""`srlib score`."""

from pathlib import Path
from typing import Annotated

import typer

from srlib.cli.options import Scale


def score(
    sr_folder: Annotated[Path, typer.Argument(help="Folder of upscaled images.", metavar="SR_DIR", readable=False)],
    hr_folder: Annotated[
        Path, typer.Argument(help="Folder of the originals, with the same names.", metavar="HR_DIR", readable=False)
    ],
    scale: Scale = 4,
    csv: Annotated[Path | None, typer.Option(help="CSV file for the scores of each image.", readable=False)] = None,
) -> None:
    """Score upscaled images of any origin by the protocol behind the published tables."""
    from srlib.evaluation import tables
    from srlib.evaluation.benchmark import score_folder
    from srlib.files import check_output, write_text

    if csv:
        check_output(csv)
    scores = [score for result in score_folder(sr_folder, hr_folder, scale) for score in result.scores]
    tables.print_table(tables.image_table(scores))
    tables.print_table(tables.detail_table(scores[0].set, scores))
    if csv:
        write_text(csv, tables.scores_csv(scores))
