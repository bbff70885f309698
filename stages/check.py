"""Usage: check.py OUT TRAIN TEST STORE. Check all of params.yaml before any other stage runs, and so before DVC removes
an output. TRAIN and TEST are the folders that the download stage makes, by way of STORE.
"""

import sys
from pathlib import Path

from srlib.check import check_recipe
from srlib.files import write_text
from srlib.params import load_params
from srlib.pipeline.dvc import root
from srlib.signals import stoppable
from srlib.stage import errors_in_one_line


def main(out: Path, train: Path, test: Path, store: Path) -> None:
    """Write `out`, whose content never changes, so that the stages after it run again for their own parameters only."""
    with errors_in_one_line("check"), stoppable():
        check_recipe(load_params(), train=train, test=test, store=root() / store)
        write_text(out, "params.yaml: no mistake found\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
