"""The command line: one module per group of commands, each command one call into srlib.

Commands import what they need themselves, so that `srlib --help` answers at once.
"""

import os
import signal
import sys
from typing import Annotated

import typer

from srlib import __version__
from srlib.cli import data, demo, evaluate, models, raster, survey, tracking, uncertainty, upscale
from srlib.cli.streams import flush_output, prepare_streams
from srlib.errors import SrlibError, one_line, pip_install, printable
from srlib.signals import Stopped, stoppable

app = typer.Typer(
    name="srlib",
    help="Image super-resolution: upscale images, and measure how well.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("upscale")(upscale.upscale)
app.command("raster")(raster.raster)
app.command("downscale")(data.downscale)
app.command("degrade")(data.degrade)
app.add_typer(data.degradation, name="degradation")
app.command("align")(data.align)
app.command("patches")(data.patches)
app.command("overlap")(data.overlap)
app.add_typer(uncertainty.app, name="uncertainty")
app.command("score")(evaluate.score)
app.command("export")(models.export)
app.command("quantize")(models.quantize)
app.command("ui")(tracking.ui)
app.command("demo")(demo.demo)
app.add_typer(survey.app, name="survey")


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"srlib {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. Bad input ends in one line per mistake and status 1, never in a traceback.

    Ctrl-C ends in status 130, SIGTERM in 143; a wrong option in a usage message and status 2.
    """
    prepare_streams()
    if "" in sys.argv[1:]:
        sys.exit("error: one of the arguments is empty; is a variable of the shell not set?")
    try:
        with stoppable(signal.SIGINT):  # as `Stopped`: typer would turn KeyboardInterrupt into status 1
            try:
                app()
            finally:
                flush_output()
    except Stopped as error:
        note = f"; {error.note}" if error.note else ""
        print(f"error: stopped by {signal.Signals(error.signum).name}{note}", file=sys.stderr)
        sys.exit(128 + error.signum)
    except SrlibError as error:
        for line in str(error).split("\n"):
            print(f"error: {printable(line)}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "srlib").split(".")[0] == "srlib":
            raise
        sys.exit(f"error: this command needs {error.name}, which is not installed: {pip_install('srlib[pipeline]')}")
    except OSError as error:
        where = f"{printable(error.filename)}: " if error.filename else ""
        if not where and not _has_working_folder():
            sys.exit("error: the working folder does not exist any more; go to another one")
        sys.exit(f"error: {where}{error.strerror or one_line(error)}")


def _has_working_folder() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False
