"""Usage: prepare.py OUT. Cut training images into aligned LR/HR patches."""

import os
import sys
from pathlib import Path

from srlib.stage import stage_run


def main(out: Path) -> None:
    """Write the patch folder `out` from the images in `prepare.images` of params.yaml."""
    with stage_run("prepare") as run:
        from srlib.cluster import VARIABLE
        from srlib.data.epochs import check_epochs
        from srlib.data.patches import prepare_patches

        section = run.params.prepare
        check_epochs(run.params, Path(section.images))
        done = prepare_patches(
            Path(section.images),
            out,
            section,
            scale=run.params.scale,
            seed=run.params.seed,
            processes=True,
            scheduler=os.environ.get(VARIABLE),
        )
        for line in done.left_out:
            print(f"prepare: left out {line}", file=sys.stderr)
        print(
            f"prepare: {done.train} patches to train on and {done.validation} to validate with, from {done.images} "
            f"images ({len(done.left_out)} left out, {done.flat} flat patches dropped), {done.bytes / 1e6:.0f} MB"
        )
        counts = {"images": done.images, "left_out": len(done.left_out), "flat_patches": done.flat}
        counts |= {"train_patches": done.train, "validation_patches": done.validation}
        run.tracking.log_results({f"data/{name}": count for name, count in counts.items()})
        run.done([out])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
