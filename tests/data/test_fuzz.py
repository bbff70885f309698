"""One of each kind of damage to one of each kind of image; benchmarks/fuzz_prepare.py does this by the hundred."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from srlib.data.patches import prepare_patches
from srlib.params import Prepare

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_prepare.py"


spec = importlib.util.spec_from_file_location("fuzz_prepare", SCRIPT)
fuzz = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("mutation", fuzz.MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_damaged_file_is_used_or_named(tmp_path, mutation):
    rng = np.random.default_rng(1)
    kinds = fuzz.originals(rng)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in kinds.items():
        (folder / f"whole_{name}").write_bytes(content)
        (folder / f"hurt_{name}").write_bytes(mutation(content, rng))
    params = Prepare(images="images", patch=16, stride=8, validation=0.1, unusable="skip")
    summary = prepare_patches(folder, tmp_path / "out", params, scale=4, seed=0)
    with (tmp_path / "out" / "index.csv").open(newline="") as file:
        used = {row["image"] for row in csv.DictReader(file)}
    named = {name for name in map(str, folder.iterdir()) for line in summary.left_out if line.startswith(f"{name}: ")}
    named = {Path(name).name for name in named}
    assert used | named == {path.name for path in folder.iterdir()} and not used & named
    assert {f"whole_{name}" for name in kinds} <= used
    if mutation in (fuzz.truncate, fuzz.garbage):
        assert named == {f"hurt_{name}" for name in kinds}
