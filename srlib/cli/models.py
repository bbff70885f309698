"""`srlib export`."""

from pathlib import Path
from typing import Annotated

import typer

from srlib.cli.options import Force


def export(
    model: Annotated[
        Path,
        typer.Argument(
            help="Folder of a trained model (config.json and weights).", metavar="MODEL_DIR", readable=False
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.", metavar="OUT_DIR", readable=False)],
    file_format: Annotated[
        str, typer.Option("--format", help="openvino (what srlib itself runs) or onnx.")
    ] = "openvino",
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of HR images to compare on; they also show whether bfloat16 is harmless.", readable=False
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Export a trained model to OpenVINO or ONNX for images of any size, and verify it against Keras."""
    from srlib.inference import export as exporter

    report = exporter.export(model, out, file_format, images=images, force=force)
    typer.echo(exporter.summary(out, report))
