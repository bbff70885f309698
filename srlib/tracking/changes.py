"""What changed in the recipe between two runs.

A run records as parameters what params.yaml names, not the defaults; a key that only one of two runs names has its
default in the other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from srlib.params import Params

_LONGEST_VALUE = 40
_NOT_SET = "not set"


@dataclass(frozen=True)
class Change:
    """A parameter with its value before and now, as text."""

    key: str
    before: str
    now: str


def flatten(nested: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Return nested parameters as one level of dotted names, with values as MLflow shows them.

    Example:
        >>> flatten({"a": {"b": [1]}, "c": "text"})
        {'a.b': '[1]', 'c': 'text'}
    """
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def parameters_in_file(params: Params) -> dict[str, str]:
    """Return what params.yaml names, flat: without the defaults."""
    return flatten(params.model_dump(mode="json", exclude_unset=True))


def changes(before: Mapping[str, str], params: Params, section: str | None = None) -> list[Change]:
    """Return what differs between the parameters of an earlier run and a recipe.

    Args:
        before: Parameters of the earlier run, as MLflow has them.
        params: The recipe now.
        section: Compare this section and the keys outside sections only.
    """
    values, defaults = flatten(params.model_dump(mode="json")), flatten(_defaults(params))
    now = {key: value for key, value in parameters_in_file(params).items() if belongs(key, section)}
    keys = [*now, *(key for key in before if key not in now and belongs(key, section))]
    compared = [Change(key, before.get(key, defaults.get(key, _NOT_SET)), values.get(key, _NOT_SET)) for key in keys]
    return [change for change in compared if change.before != change.now]


def belongs(key: str, section: str | None) -> bool:
    """Return whether a flat key lies in a section or outside all of them.

    Example:
        >>> belongs("finetune.steps", "finetune"), belongs("seed", "finetune"), belongs("prepare.patch", "finetune")
        (True, True, False)
    """
    return section is None or "." not in key or key.startswith(f"{section}.")


def in_words(changed: Sequence[Change], section: str | None = None, most: int = 2) -> str:
    """Return changes as part of a run's name.

    Args:
        changed: The changes.
        section: Section whose name is left out.
        most: Changes to name; the others are counted.

    Example:
        >>> in_words([Change("finetune.adversarial_weight", "0.001", "0.005")], "finetune")
        'adversarial_weight 0.001 → 0.005'
    """
    prefix = f"{section}." if section else ""
    words = [f"{c.key.removeprefix(prefix)} {shortened(c.before)} → {shortened(c.now)}" for c in changed[:most]]
    if len(changed) > most:
        words.append(f"{len(changed) - most} more")
    return ", ".join(words)


def shortened(text: str) -> str:
    """Return a text of at most 40 characters."""
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _defaults(model: BaseModel) -> dict[str, object]:
    """Return the defaults of the keys that a recipe names, nested like it."""
    nested: dict[str, object] = {}
    for name in model.model_fields_set:
        value, field = getattr(model, name), type(model).model_fields[name]
        if isinstance(value, BaseModel):
            nested[name] = _defaults(value)
        elif not field.is_required():
            default = field.get_default(call_default_factory=True)
            nested[name] = json.loads(json.dumps(default, default=str))
    return nested
