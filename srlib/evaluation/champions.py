"""What an evaluation says of the models that may become champions in MLflow's registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srlib.errors import SrlibError
from srlib.evaluation import tables
from srlib.evaluation.benchmark import Metric, Score
from srlib.models import read_config
from srlib.params import Champion, Trained


@dataclass(frozen=True)
class Candidate:
    """A model and its figure.

    Attributes:
        name: Which of the models.
        folder: Where it is.
        value: The mean of the rule's metric over the rule's set; None where it is not finite.
        better: Which way it is better.
        pictures: The set's folder.
    """

    name: Trained
    folder: Path
    value: float | None
    better: Literal["higher", "lower"]
    pictures: Path


def check(rules: Mapping[Trained, Champion], sets: Mapping[str, object]) -> None:
    """Raises an SrlibError where a rule asks for a test set that is not there; before anything is scored."""
    for name, rule in rules.items():
        if rule.set not in sets:
            raise SrlibError(
                f"params.yaml: evaluate.champion.{name}.set: expected one of {', '.join(sets)}, got {rule.set}"
            )


def candidates(
    rules: Mapping[Trained, Champion],
    scores: Sequence[Score],
    measures: dict[str, Metric],
    pictures: Path,
    models: Mapping[str, Path],
) -> list[Candidate]:
    """The figures that the rules ask for.

    Args:
        rules: `evaluate.champion` of the recipe.
        scores: Of all pictures.
        measures: Metric → what it is.
        pictures: The folder that holds one folder per set.
        models: `pretrained` and `gan` → their folders.
    """
    means = tables.scores_json(scores, measures)
    return [
        Candidate(
            name,
            models[name],
            means[rule.set][read_config(models[name]).title][rule.metric],
            measures[rule.metric].better,
            pictures / rule.set,
        )
        for name, rule in rules.items()
    ]
