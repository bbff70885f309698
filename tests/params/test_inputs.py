"""Files that a recipe names: missing or wrong ones are reported before the first stage that needs them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.models import CONFIG, WEIGHTS
from srlib.params import load_params
from srlib.params.inputs import STAGES, input_mistakes

Lines = Callable[..., list[str]]
Write = Callable[[dict[str, object]], Path]

ROOT = Path(__file__).parents[2]
DIGEST = "0" * 64


@pytest.fixture
def start(tmp_path: Path) -> dict[str, str]:
    """A model that the quick start's network can start from."""
    folder = tmp_path / "start"
    folder.mkdir()
    options = {"blocks": 8, "filters": 32, "residual_scaling": 1.0, "skip": "nearest"}
    config = {"name": "edsr", "scale": 2, "options": options, "channels": "rgb", "value_range": [0.0, 1.0]}
    (folder / CONFIG).write_text(json.dumps({**config, "training": "pixel"}))
    (folder / WEIGHTS).write_bytes(b"weights")
    return {"folder": str(folder), "sha256": file_hash(folder / WEIGHTS)}


def test_weights_to_start_from(start: dict[str, str], write: Write, lines: Lines) -> None:
    assert load_params(write({"pretrain.start_from": start}))
    weights = f"{start['folder']}/{WEIGHTS}"
    expected = f"{weights}: expected the SHA-256 {DIGEST}, got {start['sha256']}; "
    expected += "write this SHA-256 if it is the file you mean"
    assert lines({"pretrain.start_from": {**start, "sha256": DIGEST}}, "download") == [
        f"pretrain.start_from: {expected}"
    ]
    Path(weights).unlink()
    expected = f"expected a file, got {weights}, which does not exist"
    assert lines({"pretrain.start_from": start}, "download") == [f"pretrain.start_from: {expected}"]
    missing = {**start, "folder": f"{start['folder']}/none"}
    (line,) = lines({"pretrain.start_from": missing}, "download")
    assert line.startswith(f"pretrain.start_from: {missing['folder']}: expected a model (a folder with config.json")


def test_weights_of_another_network(start: dict[str, str], lines: Lines) -> None:
    (line,) = lines({"pretrain.start_from": start, "pretrain.model": {"name": "compact"}}, "prepare")
    assert line.startswith("pretrain.start_from: expected a model like pretrain.model, compact {'blocks': 16")
    assert "got edsr {'blocks': 8" in line


def test_feature_weights_of_another_network(shared: Path, write: Write, lines: Lines) -> None:
    (path,) = (shared / "weights").glob("squeezenet*.h5")
    file = {"file": str(path), "sha256": file_hash(path)}
    changes = {"download.features": file, "finetune.features": {"network": "squeezenet", "layer": "fire9"}}
    assert load_params(write(changes))
    assert lines(changes | {"finetune.features": {"network": "vgg19"}}, "download") == [
        f"download.features: {path}: expected weights of vgg19, but there is no layer block1_conv1; "
        "finetune.features.network is vgg19"
    ]


MISSING: dict[str, tuple[dict[str, object], str, str]] = {
    "features": (
        {"download.features": {"file": "none.h5", "sha256": DIGEST}},
        "download",
        "download.features: expected a file, got none.h5, which does not exist",
    ),
    "images": (
        {"download.train": "none", "prepare.images": "none"},
        "prepare",
        "prepare.images: expected a folder of images (download.train is none), got none, which does not exist; make "
        "it, or name another one",
    ),
    "method": (
        {"evaluate.methods": [{"name": "a", "file": "none.pb", "sha256": DIGEST}]},
        "evaluate",
        "evaluate.methods[0]: expected a file, got none.pb, which does not exist",
    ),
    "champion's set": (
        {"evaluate.champion.gan.set": "Set5"},
        "evaluate",
        "evaluate.champion.gan.set: expected a set of download.test (sample) or a folder in data/raw/test, got Set5",
    ),
}


@pytest.mark.parametrize(("changes", "last", "line"), MISSING.values(), ids=MISSING.keys())
def test_a_missing_input(
    changes: dict[str, object],
    last: str,
    line: str,
    lines: Lines,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = list(STAGES)
    needed = names.index(last) + 1
    for stage in names[:needed]:
        assert lines(changes, stage) == [line]
    for stage in [*names[needed:], None]:
        assert load_params(write(changes), stage=stage)


def test_images_under_dvc_that_are_not_pulled(lines: Lines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("team.dvc").touch()
    (line,) = lines({"download.train": "none", "prepare.images": "team/"}, "download")
    assert line.endswith("got team/, which does not exist; run `dvc pull team.dvc`")


def test_files_of_lpips(tmp_path: Path, lines: Lines) -> None:
    (tmp_path / "linear.npz").write_bytes(b"x")
    linear = {"file": str(tmp_path / "linear.npz"), "sha256": DIGEST}
    backbone = {"file": str(tmp_path), "sha256": DIGEST}
    first, second = lines({"evaluate.lpips": {"backbone": backbone, "linear": linear}}, "download")
    assert first == f"evaluate.lpips.backbone: expected a file, got {tmp_path}, which is not a regular file"
    assert second.startswith(f"evaluate.lpips.linear: {tmp_path}/linear.npz: expected the SHA-256 {DIGEST}, got ")


def test_a_champion_of_a_set_of_your_own(tmp_path: Path, write: Write) -> None:
    (tmp_path / "mine").mkdir()
    assert load_params(write({"evaluate.images": str(tmp_path), "evaluate.champion.gan.set": "mine"}))


def test_a_folder_of_images_as_a_method(tmp_path: Path, write: Write) -> None:
    method = {"name": "a", "file": str(tmp_path), "sha256": DIGEST}
    assert load_params(write({"evaluate.methods": [method]}))


def test_stages_are_those_of_the_pipeline() -> None:
    import yaml

    assert ["check", *STAGES] == list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    params = load_params(ROOT / "tests/recipe.yaml")
    with pytest.raises(ValueError, match="expected one of download"):
        next(input_mistakes(params, "train"))


def test_an_unreadable_model_is_one_line(start: dict[str, str], lines: Lines) -> None:
    Path(start["folder"], CONFIG).write_text("[" * 10_000)
    (line,) = lines({"pretrain.start_from": start}, "pretrain")
    assert "not valid JSON" in line


def test_without_a_stage_no_file_is_read(write: Write) -> None:
    path = write({"pretrain.start_from": {"folder": "none", "sha256": DIGEST}})
    assert load_params(path, stage=None).pretrain.start_from
    with pytest.raises(SrlibError):
        load_params(path)
