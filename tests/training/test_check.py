"""Trainings that cannot be computed on this machine are found before the first stage."""

import os
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from srlib.files import file_hash
from srlib.models import WEIGHTS, ModelConfig, build, save_model
from srlib.params import check_params, load_params
from srlib.training import check
from srlib.training.memory import least_memory

from ..conftest import Lines

ROOT = Path(__file__).parents[2]


def test_weights_to_start_from(check_lines: Lines) -> None:
    model = Path("model")
    config = ModelConfig("edsr", 2, {"blocks": 1, "filters": 8, "skip": "nearest"})
    save_model(build(config), config, model)
    changes: dict[str, object] = {
        "pretrain.model": {"name": "edsr", "blocks": 1, "filters": 8, "skip": "nearest"},
        "pretrain.equivariant": False,
        "pretrain.start_from": {"folder": "model", "sha256": file_hash(model / WEIGHTS)},
    }
    assert check_lines(changes) == []
    (line,) = check_lines({**changes, "pretrain.equivariant": True})
    assert line.startswith("pretrain.start_from: model was not trained with pretrain.equivariant: true")
    (model / WEIGHTS).write_bytes(b"no weights")
    changes["pretrain.start_from"] = {"folder": "model", "sha256": file_hash(model / WEIGHTS)}
    (line,) = check_lines(changes)
    assert line.startswith(f"pretrain.start_from: model/{WEIGHTS}: not a readable weights file")


def test_feature_weights_of_another_network(check_lines: Lines) -> None:
    import h5py

    with h5py.File("own.h5", "w") as file:
        file.create_group("conv1").attrs["weight_names"] = []
    changes: dict[str, object] = {
        "download.features": {"file": "own.h5", "sha256": file_hash(Path("own.h5"))},
        "finetune.features": {"network": "squeezenet", "layer": "fire5"},
    }
    (line,) = check_lines(changes)
    assert line.startswith("download.features: own.h5: conv1: expected")
    assert check_lines({**changes, "finetune": None}) == []


@pytest.mark.parametrize("section", ["pretrain", "finetune"])
def test_micro_batches_with_another_backend(section: str, check_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    expected = f"{section}.micro_batches: expected 1 with the backend tensorflow, got 4; set KERAS_BACKEND=jax"
    assert check_lines({f"{section}.micro_batches": 4}) == [expected]
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert check_lines({f"{section}.micro_batches": 4}) == []


class TestMemory:
    """Trainings that do not fit into the memory of the machine."""

    HUGE: ClassVar = {"pretrain.model": {"name": "edsr", "blocks": 32, "filters": 4096}, "pretrain.equivariant": False}

    def test_a_network_that_does_not_fit(self, check_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "total_memory", lambda: 24 * 10**9)
        first, second = check_lines(self.HUGE)
        # 11,023,155,203 weights, with gradient, two moments and average
        parts = "220.5 GB for weights and optimizer, 13.0 GB for a batch of 16 × 24²"
        expected = f"pretrain: needs at least 233.4 GB of memory ({parts}), and this machine has 24.0 GB; lower `batch`"
        assert first.startswith(expected) and second.startswith("finetune: needs at least 22")

    def test_a_batch_that_does_not_fit(self, check_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "total_memory", lambda: 24 * 10**9)
        (line,) = check_lines({"pretrain.batch": 16_000})
        assert line.startswith("pretrain: needs at least ") and "for a batch of 16000 × 24²)" in line

    def test_a_network_that_is_too_deep(self, check_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        def build_all_blocks(*arguments: object) -> None:
            raise RecursionError

        monkeypatch.setattr("srlib.training.memory.least_memory", build_all_blocks)  # it takes minutes
        line = "the network has too many layers for Keras; lower `blocks`"
        changes = {"pretrain.model": {"name": "edsr", "blocks": 1000}, "pretrain.batch": 1000}
        assert check_lines(changes) == [f"{name}: {line}" for name in ("pretrain", "finetune")]

    def test_memory_that_others_use(
        self, check_lines: Lines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(check, "total_memory", lambda: 10**12)
        monkeypatch.setattr(check, "free_memory", lambda: 10**9)
        assert check_lines(self.HUGE) == []
        first, second = capsys.readouterr().err.splitlines()
        assert first.startswith("warning: params.yaml: pretrain: needs at least 233.4 GB of memory")
        assert first.endswith("and 1.0 GB are free now") and second.startswith("warning: params.yaml: finetune: needs")

    @pytest.mark.skipif("CI" not in os.environ, reason="recipes/ is yours to change")
    def test_a_peak_that_may_not_fit(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(check, "total_memory", lambda: 8 * 10**9)
        monkeypatch.setattr(check, "free_memory", lambda: 7 * 10**9)
        assert list(check.memory_mistakes(load_params(ROOT / "recipes/div2k-x4.yaml", stage=None))) == []
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            "warning: params.yaml: finetune: may need up to 8.4 GB of memory, and 7.0 GB are free now;"
        )

    @pytest.mark.parametrize("name", ["edsr", "espcn", "fsrcnn", "large_kernel", "srcnn", "srresnet"])
    def test_the_quick_estimate_is_never_below_the_exact_one(self, name: str) -> None:
        """It decides whether Keras is loaded at all."""
        recipe = yaml.safe_load((ROOT / "tests/recipe.yaml").read_text())
        recipe["pretrain"] |= {"model": {"name": name}, "equivariant": False, "batch": 16, "lr_patch": 24}
        finetune = recipe["finetune"] | {"discriminator_filters": 64}
        if name in ("espcn", "fsrcnn", "srcnn"):
            recipe |= {"finetune": None, "evaluate": {"images": "images"}}
        elif name == "edsr":
            recipe["finetune"] = finetune | {"discriminator": "unet"}
        else:
            recipe["finetune"] = finetune
        params = check_params(recipe, "params.yaml")
        for section in (params.pretrain, *([params.finetune] if params.finetune else [])):
            assert check.most_memory(params, section) >= least_memory(params, section).total

    @pytest.mark.skipif("CI" not in os.environ, reason="recipes/ is yours to change")
    @pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
    def test_usual_recipes_do_not_load_keras(self, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "free_memory", lambda: 14 * 10**9)
        monkeypatch.setattr("srlib.training.memory.least_memory", lambda *arguments: pytest.fail("measured"))
        assert list(check.memory_mistakes(load_params(recipe, stage=None))) == []
