"""The command line. Each command is one call into srlib; heavy libraries are imported by the command that needs them."""

import sys
from pathlib import Path
from typing import Annotated

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
def downscale(
    hr_folder: Annotated[Path, typer.Argument(help="Pictures to make smaller.", metavar="HR_DIR")],
    lr_folder: Annotated[Path, typer.Argument(help="Where the small ones go, as PNG.", metavar="LR_DIR")],
    scale: Scale = 4,
    edges: Annotated[str, typer.Option(help="clamp (benchmarks' LR files) or mirror (newer MATLAB, DIV2K).")] = "clamp",
    force: Force = False,
) -> None:
    """Make LR pictures as MATLAB's imresize(…, 'bicubic') does, byte for byte."""
    from srlib.data.resize import downscale_folder

    downscale_folder(hr_folder, lr_folder, scale, edges, force=force)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> None:
    """Browse the recorded runs in the MLflow UI, on this machine only."""
    from srlib.tracking import serve_ui

    serve_ui(port)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"srlib {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line; bad input ends in one line and status 1, never in a traceback."""
    try:
        app()
    except SrlibError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}")


if __name__ == "__main__":
    main()
