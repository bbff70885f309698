"""`srlib export` and `srlib quantize`."""

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
        str,
        typer.Option("--format", help="openvino (what srlib itself runs), onnx, onnx-fp16, litert or openvino-int8."),
    ] = "openvino",
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of HR images to compare on, and for openvino-int8 to calibrate on (default: five of "
            "scikit-image's); for openvino they also show whether bfloat16 is harmless.",
            readable=False,
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Export a trained model for OpenVINO, ONNX Runtime or LiteRT and images of any size, verified against Keras."""
    from srlib.inference import export as exporter

    report = exporter.export(model, out, format=file_format, images=images, force=force)
    typer.echo(exporter.summary(out, report))


def quantize(
    model: Annotated[
        Path, typer.Argument(help="Folder of an exported model in OpenVINO's format.", metavar="MODEL_DIR")
    ],
    images: Annotated[Path, typer.Option(help="Folder of HR images to calibrate on.", readable=False)],
    test: Annotated[
        Path,
        typer.Option(
            help="Folder of other HR images to measure the loss on; those of the same name are not calibrated on.",
            readable=False,
        ),
    ],
) -> None:
    """Add the same network in 8-bit integers to an exported model.

    `srlib upscale` then takes it by default on processors with AVX2, VNNI or AMX, if it loses less than 0.05 dB PSNR-Y.
    """
    from srlib.calibration import int8_form

    typer.echo(int8_form.summary(model, int8_form.add_int8(model, images, test)))
