"""`srlib score`."""

from pathlib import Path
from typing import Annotated

import typer

from srlib.cli.options import Scale
from srlib.errors import SrlibError


def score(
    sr_folder: Annotated[
        Path, typer.Argument(help="Folder of upscaled images, searched at any depth.", metavar="SR_DIR", readable=False)
    ],
    hr_folder: Annotated[
        Path, typer.Argument(help="Folder of the originals, with the same names.", metavar="HR_DIR", readable=False)
    ],
    scale: Scale = 4,
    csv: Annotated[Path | None, typer.Option(help="CSV file for the scores of each image.", readable=False)] = None,
) -> None:
    """Score upscaled images of any origin by the protocol behind the published tables."""
    from srlib.evaluation import tables
    from srlib.evaluation.benchmark import score_folder
    from srlib.files import write_text

    if csv:
        _check_table(csv)
    scores = [score for result in score_folder(sr_folder, hr_folder, scale) for score in result.scores]
    tables.print_table(tables.image_table(scores))
    tables.print_table(tables.detail_table(scores[0].set, scores))
    if csv:
        write_text(csv, tables.scores_csv(scores))


def _check_table(path: Path) -> None:
    """Raise an SrlibError if no table can be written at `path`, or if what exists there is another file."""
    from srlib.evaluation.tables import scores_csv
    from srlib.files import check_output

    check_output(path)
    if not path.exists():
        return
    # Earlier versions had other metrics, which follow these columns.
    columns = ",".join(scores_csv([]).split(",")[:3]).encode()
    with path.open("rb") as file:
        start = file.read(len(columns))
    if start not in (b"", columns):
        raise SrlibError(f"--csv {path}: exists and is no table of scores; name another file")
