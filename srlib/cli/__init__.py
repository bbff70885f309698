"""The command line: one module per group of commands, each command one call into srlib.

Commands import what they need themselves, so that `srlib --help` answers at once.
"""

import io
import os
import signal
import sys
from typing import Annotated, Any, BinaryIO, cast

import typer

from srlib import __version__
from srlib.cli import data, demo, evaluate, models, raster, survey, tracking, uncertainty, upscale
from srlib.errors import SrlibError, one_line, printable
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


def _open_closed_streams() -> None:
    """Open what takes the place of a closed standard stream, or the next file to be opened would get its output.

    Input is empty, messages go nowhere, and writing to standard output fails.
    """
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


class _Messages(io.FileIO):
    """Standard error that drops what cannot be written: a full disk or a closed pipe must not stop the work."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _forgive_standard_error() -> None:
    """Go on where messages cannot be written; results and the exit status tell what happened."""
    if sys.__stderr__ is None or sys.stderr is not sys.__stderr__:  # there is none, or somebody reads it
        return
    encoding = sys.__stderr__.encoding
    raw = io.BufferedWriter(_Messages(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


class _Output(io.FileIO):
    """Standard output whose errors name it, whenever they come: at a line, at a full buffer, or at the end."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


def _name_standard_output() -> None:
    """Let the message say that it was standard output that could not be written."""
    stream = sys.__stdout__
    if not isinstance(stream, io.TextIOWrapper) or sys.stdout is not stream:  # there is none, or somebody reads it
        return
    raw = _Output(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        cast(BinaryIO, raw if stream.write_through else io.BufferedWriter(raw)),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _run() -> None:
    """Run the command, and write out what it printed."""
    try:
        app()
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its end
            raise SrlibError(f"standard output: {error.strerror or one_line(error)}") from None


def main() -> None:
    """Run the command line. Bad input ends in one line per mistake and status 1, never in a traceback.

    Ctrl-C ends in status 130, SIGTERM in 143; a wrong option in a usage message and status 2.
    """
    _open_closed_streams()
    _forgive_standard_error()
    _name_standard_output()
    if "" in sys.argv[1:]:
        sys.exit("error: one of the arguments is empty; is a variable of the shell not set?")
    try:
        with stoppable(signal.SIGINT):  # as `Stopped`: typer would turn KeyboardInterrupt into status 1
            _run()
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
        sys.exit(f"error: this command needs {error.name}, which is not installed: pip install 'srlib[pipeline]'")
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
