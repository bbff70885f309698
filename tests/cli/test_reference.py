"""docs/reference/cli.md is made from the commands; `python tests/cli/test_reference.py` writes it anew."""

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from srlib.cli import app

FILE = Path(__file__).parents[2] / "docs/reference/cli.md"
HEAD = """# Command line

<!-- Made from the commands by: python tests/cli/test_reference.py -->

Every command prints one line per mistake on standard error and exits with status 1. A wrong option or a missing
argument is shown with the usage, and the status is 2. A command that is interrupted exits with 128 plus the signal's
number.

"""


def reference() -> str:
    """Return the page: each command with its arguments and options."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="srlib"), indent=1, name="srlib")
    return HEAD + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def test_the_reference_agrees_with_the_commands() -> None:
    assert FILE.read_text() == reference(), "run: python tests/cli/test_reference.py"


def test_every_argument_and_option_has_a_help_text() -> None:
    lines = [line for line in reference().splitlines() if line.startswith("* `")]
    assert len(lines) > 50
    assert all(": " in line for line in lines), [line for line in lines if ": " not in line]


if __name__ == "__main__":
    FILE.write_text(reference())
