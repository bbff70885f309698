"""Usage: download.py ROLE OUT STORE. Fetch the training images, the test sets or the feature weights."""

import os
import sys
from pathlib import Path

from srlib.pipeline.dvc import root
from srlib.stage import stage_run


def main(role: str, out: Path, store: Path) -> None:
    """Make the folder `out` of one role (train, test, features), by way of `store` in the repository."""
    with stage_run("download") as run:
        from srlib.data.download import download
        from srlib.data.sources import read_checksums

        mirror = os.environ.get("SRLIB_MIRROR") or None
        list_of_checksums = os.environ.get("SRLIB_CHECKSUMS")
        files = download(
            role,
            out,
            run.params.download,
            scale=run.params.scale,
            store=root() / store,
            mirror=mirror,
            checksums=read_checksums(Path(list_of_checksums)) if list_of_checksums else None,
        )
        run.tracking.log_results({"data/files": len(files)})
        run.done([out])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
