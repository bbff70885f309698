"""Usage: check.py OUT. Check all of params.yaml before any other stage runs, and so before DVC removes an output."""

import sys
from pathlib import Path

from srlib.files import write_text
from srlib.params import load_params
from srlib.stage import errors_in_one_line


def main(out: Path) -> None:
    """Write `out`, whose content never changes, so that the stages after it run again for their own parameters only."""
    with errors_in_one_line("check"):
        load_params()
        write_text(out, "params.yaml: no mistake found\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
