"""The DIV2K recipe from download to report, on archives with DIV2K's names and counts and small images."""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from srlib.data.sources import div2k_members, plan
from srlib.imaging.resize import downscale
from srlib.params import Download

from .conftest import MINIATURE, ROOT, Repository

pytestmark = [pytest.mark.slow, pytest.mark.dvc]

PARTS = ("train_HR", "train_LR_bicubic_X4")


def png(pixels: np.ndarray) -> bytes:
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def photograph(number: int) -> np.ndarray:
    """A smooth image of 96×96 with a texture, another one for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (7, 7, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror that packed DIV2K anew, and the list of its checksums."""
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "DIV2K").mkdir()
    images = [photograph(number) for number in range(800)]
    for part, edit in zip(PARTS, (lambda hr: hr, lambda hr: downscale(hr, 4, edges="mirror")), strict=True):
        with zipfile.ZipFile(folder / f"DIV2K/DIV2K_{part}.zip", "w") as archive:
            for name, image in zip(div2k_members(part), images, strict=True):
                archive.writestr(name, png(edit(image)))
    request = Download.model_validate({"train": "none", "test": ["Set5"], "features": "none"})
    for number, item in enumerate(plan("test", request, 4)):
        path = folder / item.source.mirror
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(photograph(1000 + number)))
    files = sorted(path for path in folder.rglob("*.*") if path.is_file())
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / "checksums.txt").write_text("".join(lines))
    return folder


def test_the_recipe_runs_from_a_mirror_that_repacked_the_files(
    mirror: Path, new_repository: Callable[[str], Repository]
) -> None:
    repository = new_repository("div2k")
    recipe = yaml.safe_load((ROOT / "recipes/div2k-x4.yaml").read_text())
    recipe["download"] |= {"test": ["Set5"], "features": "none"}
    recipe["pretrain"].pop("epochs")
    for section, keys in MINIATURE.items():
        recipe[section] |= keys
    for section in ("pretrain", "finetune"):
        recipe[section] |= {"steps": 4, "log_every": 2, "validate_every": 2}
    (repository.path / "params.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    refused = repository.run("dvc", "repro", "download", check=False, SRLIB_MIRROR=str(mirror))
    assert refused.returncode
    assert re.search(r"DIV2K_train_(HR|LR_bicubic_X4)\.zip: could not be fetched from", refused.stderr)
    done = repository.run("dvc", "repro", SRLIB_MIRROR=str(mirror), SRLIB_CHECKSUMS=str(mirror / "checksums.txt"))
    assert done.stderr.count("instead of the published checksum") == 7  # two archives, five images
    facts = json.loads((repository.path / "data/raw/train/SOURCES.json").read_text())["files"]
    assert [fact["path"] for fact in facts] == ["HR", "LR"]
    assert all(fact["sha256"] != fact["published_checksum"] for fact in facts)
    with (repository.path / "data/patches/index.csv").open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert (splits.count("train"), splits.count("validation")) == (784, 16)
    assert "Set5" in (repository.path / "results/table.md").read_text()
    assert (repository.path / "results/report.html").stat().st_size
