"""Old keys of params.yaml: exactly one line each, which says what to write now."""

from collections.abc import Callable

import pytest

from srlib.params import Params
from srlib.params.renamed import METRICS, RENAMES
from srlib.schema import Section

Lines = Callable[[dict[str, object]], list[str]]

MISSING = "(missing)"

OLD: list[tuple[str, str, object, object]] = [
    # section, new key, old key with its value, new value; the quick start has the new key or a default
    *(("pretrain", new, {old: value}, value) for old, new, value in [
        ("ema", "ema_decay", 0.99), ("crop", "lr_patch", 24), ("draw", "sampling", "balanced")]),
    *(("finetune", new, {old: value}, value) for old, new, value in [
        ("ema", "ema_decay", 0.99), ("crop", "lr_patch", 24), ("draw", "sampling", "balanced"),
        ("content_loss", "perceptual_loss", "mae"), ("content_scale", "perceptual_scale", 0.00002),
        ("content_weight", "perceptual_weight", 1.0), ("lattice_weight", "checkerboard_weight", 0.5)]),
    ("prepare", "images", {"pictures": "data/raw/train"}, "data/raw/train"),
    ("evaluate", "images", {"pictures": "data/raw/test"}, "data/raw/test"),
    ("evaluate", "strip_size", {"crop": 96}, 96),
    ("finetune.features", "pre_activation", {"activation": "before"}, "true"),
    ("finetune.features", "pre_activation", {"activation": "after"}, "false"),
]  # fmt: skip


@pytest.mark.parametrize(("section", "new", "old", "value"), OLD)
def test_an_old_key_is_one_line(section: str, new: str, old: dict, value: object, lines: Lines) -> None:
    ((key, old_value),) = old.items()
    changes: dict[str, object] = {f"{section}.{key}": old_value}
    present = {"pretrain.ema_decay", "pretrain.lr_patch", "finetune.ema_decay", "finetune.lr_patch", "prepare.images"}
    present |= {"finetune.perceptual_scale", "evaluate.images", "finetune.features.pre_activation"}
    if f"{section}.{new}" in present:
        changes[f"{section}.{new}"] = MISSING
    assert lines(changes) == [f"{section}.{key}: this key is now {new}; write `{new}: {value}`"]


def test_every_rename_is_tested() -> None:
    assert {(r.section, r.old, r.new) for r in RENAMES} == {(s, old, new) for s, new, pair, _ in OLD for old in pair}


def test_an_old_value_is_one_line(lines: Lines) -> None:
    expected = "evaluate.champion.gan.metric: colour_error is now color_error; write `metric: color_error`"
    assert lines({"evaluate.champion.gan.metric": "colour_error"}) == [expected]
    assert METRICS == {"colour_error": "color_error"}


def test_an_old_key_with_an_unknown_value(lines: Lines) -> None:
    expected = "this key is now pre_activation (before → true, after → false), got 'both'"
    assert lines({"finetune.features.activation": "both"}) == [f"finetune.features.activation: {expected}"]


def test_an_old_key_beside_the_new_one(lines: Lines) -> None:
    assert lines({"pretrain.ema": 0.9}) == ["pretrain.ema: this key is now ema_decay; write `ema_decay: 0.9`"]


def test_old_keys_and_other_mistakes_together(lines: Lines) -> None:
    assert lines({"pretrain.crop": 0, "pretrain.lr_patch": MISSING, "seed": -1}) == [
        "pretrain.crop: this key is now lr_patch; write `lr_patch: 0`",
        "seed: expected greater than or equal to 0, got -1",
        "pretrain.lr_patch: expected greater than or equal to 8, got 0",
    ]


@pytest.mark.parametrize("name", ["prepare", "finetune", "evaluate"])
@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_a_section_of_another_type(name: str, value: object, lines: Lines) -> None:
    changes = {name: value}
    if (name, value) != ("finetune", None):
        assert lines(changes)[0].startswith(f"{name}: expected a mapping")


def test_new_keys_exist() -> None:
    for rename in RENAMES:
        section: object = Params
        for part in rename.section.split("."):
            assert isinstance(section, type) and issubclass(section, Section)
            annotation = section.model_fields[part].annotation
            members = getattr(annotation, "__args__", (annotation,))
            section = next(one for one in members if isinstance(one, type) and issubclass(one, Section))
        assert rename.new in section.model_fields and rename.old not in section.model_fields
