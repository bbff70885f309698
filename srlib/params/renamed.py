"""Keys and values of params.yaml that have new names: each old one is reported in a line of its own."""

import copy
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from srlib.schema import text_of

Content = dict[str, object]


class Rename(NamedTuple):
    """A key with a new name in the same section; `values` translates its values where these changed too."""

    section: str
    old: str
    new: str
    values: Mapping[str, bool | str] | None = None


_TRAINING = {"crop": "lr_patch", "draw": "sampling", "ema": "ema_decay"}
_FINETUNE = {
    "content_loss": "perceptual_loss",
    "content_scale": "perceptual_scale",
    "content_weight": "perceptual_weight",
    "lattice_weight": "checkerboard_weight",
}

RENAMES = (
    Rename("prepare", "pictures", "images"),
    *(Rename(section, old, new) for section in ("pretrain", "finetune") for old, new in _TRAINING.items()),
    *(Rename("finetune", old, new) for old, new in _FINETUNE.items()),
    Rename("finetune.features", "activation", "pre_activation", {"before": True, "after": False}),
    Rename("evaluate", "pictures", "images"),
    Rename("evaluate", "crop", "strip_size"),
)

METRICS = {"colour_error": "color_error"}
"""Old → new value of `evaluate.champion.*.metric`."""


def translate(content: Content) -> tuple[Content, list[str]]:
    """Return a recipe with the new names, and a line for each old one.

    Args:
        content: The recipe as read, of any version.
    """
    content = copy.deepcopy(content)
    lines = [line for rename in RENAMES for line in _rename(content, rename)]
    champions = _section(content, "evaluate.champion")
    for name in champions:
        rule = _section(champions, name)
        old = rule.get("metric")
        if isinstance(old, str) and old in METRICS:
            rule["metric"] = METRICS[old]
            lines.append(
                f"evaluate.champion.{name}.metric: {old} is now {METRICS[old]}; write `metric: {METRICS[old]}`"
            )
    return content, lines


def _rename(content: Content, rename: Rename) -> Iterator[str]:
    section = _section(content, rename.section)
    if rename.old not in section:
        return
    value = section.pop(rename.old)
    example = f"{rename.new}: {_yaml(value)}"
    if rename.values is not None:
        if not isinstance(value, str) or value not in rename.values:
            meanings = ", ".join(f"{old} → {_yaml(new)}" for old, new in rename.values.items())
            yield f"{rename.section}.{rename.old}: this key is now {rename.new} ({meanings}), got {text_of(value)}"
            return
        value = rename.values[value]
        example = f"{rename.new}: {_yaml(value)}"
    section.setdefault(rename.new, value)
    yield f"{rename.section}.{rename.old}: this key is now {rename.new}; write `{example}`"


def _section(content: Content, path: str) -> Content:
    """Return the section at a dotted path, or an empty one."""
    section: object = content
    for name in path.split("."):
        section = section.get(name) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}


def _yaml(value: object) -> str:
    """Return a scalar as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, str) else text_of(value)
