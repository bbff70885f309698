"""Usage: prepare.py PICTURES OUT. Cuts training pictures into aligned LR/HR patches."""

import sys
from pathlib import Path

from srlib.stage import stage_run


def main(images: Path, out: Path) -> None:
    """Writes the patch folder `out` from the pictures of a folder."""
    with stage_run("prepare", inputs={"images": images}) as run:
        from srlib.data.patches import prepare_patches

        params = run.params
        done = prepare_patches(images, out, params.prepare, scale=params.scale, seed=params.seed, processes=True)
        for line in done.left_out:
            print(f"prepare: left out {line}", file=sys.stderr)
        print(
            f"prepare: {done.train} patches to train on and {done.validation} to validate with, from {done.images} "
            f"images ({len(done.left_out)} left out, {done.flat} flat patches dropped), {done.bytes / 1e6:.0f} MB"
        )
        counts = {"images": done.images, "left_out": len(done.left_out), "flat_patches": done.flat}
        run.log_metrics(counts | {"train_patches": done.train, "validation_patches": done.validation})
        run.done([out])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
