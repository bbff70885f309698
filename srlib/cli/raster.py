"""`srlib raster`."""

from pathlib import Path
from typing import Annotated

import typer

from srlib.cli.options import Force
from srlib.cli.upscale import Model, Precision, Threads
from srlib.errors import SrlibError
from srlib.inference.shipped import CLEAN_MODEL

Together = Annotated[
    list[str] | None,
    typer.Option(
        help="Three bands, from 1, that go through the network as red, green and blue, such as 4,3,2; may be repeated "
        "(default: the bands that the file calls red, green and blue).",
        metavar="BANDS",
    ),
]


def raster(
    source: Annotated[Path, typer.Argument(help="A GeoTIFF or JPEG 2000 file.", metavar="IN")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The GeoTIFF to write.")],
    model: Model = CLEAN_MODEL,
    together: Together = None,
    precision: Precision = "auto",
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Upscale raster data: GeoTIFF and JPEG 2000 with any bands, integers or floats, by the model's factor.

    Nodata, NaN, masks, the coordinate system and the meaning of bands are kept, the georeference is scaled. Needs the
    extra geo.
    """
    from srlib.inference.upscaler import open_model
    from srlib.rasters.upscaling import run_raster

    run_raster(
        source,
        out,
        lambda: open_model(model, precision=precision, threads=threads),
        together=None if together is None else [_bands(group) for group in together],
        force=force,
    )


def _bands(text: str) -> list[int]:
    try:
        return [int(band) for band in text.split(",")]
    except ValueError:
        raise SrlibError(f"--together: expected three numbers of bands such as 4,3,2, got {text}") from None
