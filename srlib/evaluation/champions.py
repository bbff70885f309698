"""The scores that decide which models become champions in MLflow's registry."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srlib.errors import SrlibError
from srlib.evaluation import tables
from srlib.evaluation.benchmark import Metric, Score
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.models import read_config
from srlib.params import Champion, ModelName


@dataclass(frozen=True)
class Candidate:
    """A trained model and the score that its rule asks for.

    Attributes:
        name: `pretrained` or `gan`.
        folder: Folder of the model.
        value: Mean of the rule's metric over the rule's set; None if it is not finite.
        better: Direction that is better.
        images: Folder of the set.
    """

    name: ModelName
    folder: Path
    value: float | None
    better: Literal["higher", "lower"]
    images: Path


def check(rules: Mapping[ModelName, Champion], sets: Collection[str]) -> None:
    """Raise an SrlibError if a rule names a test set that does not exist; call it before anything is scored."""
    for name, rule in rules.items():
        if rule.set not in sets:
            raise SrlibError(
                f"params.yaml: evaluate.champion.{name}.set: expected one of {', '.join(sets)}, got {rule.set}"
            )


def candidates(
    rules: Mapping[ModelName, Champion],
    scores: Sequence[Score],
    metrics: Mapping[str, Metric],
    images: Path,
    models: Mapping[str, Path],
) -> list[Candidate]:
    """Return one candidate per rule.

    Args:
        rules: `evaluate.champion` of the recipe.
        scores: Scores of all images.
        metrics: The metrics that were computed.
        images: Folder with one folder per set.
        models: `pretrained` and `gan` → their folders.
    """
    means = tables.means(scores, metrics)
    result = []
    for name, rule in rules.items():
        folder = models[name]
        column = LPIPS if rule.metric == "lpips" else rule.metric
        value = means[rule.set][read_config(folder).title][column]
        result.append(Candidate(name, folder, value, metrics[column].better, images / rule.set))
    return result
