"""The scores of the trained models, and those that decide which become champions in MLflow's registry."""

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


@dataclass(frozen=True)
class ModelScores:
    """The mean scores of a trained model: test set → metric → value.

    Attributes:
        name: `pretrained` or `gan`.
        method: Its name in tables.
        folder: Folder of the model.
        values: Test set → metric → mean; without values that are not finite.
        images: Test set → folder of its images.
    """

    name: str
    method: str
    folder: Path
    values: Mapping[str, Mapping[str, float]]
    images: Mapping[str, Path]


def model_scores(
    scores: Sequence[Score], metrics: Mapping[str, Metric], images: Path, models: Mapping[str, Path]
) -> list[ModelScores]:
    """Return the scores of each trained model; arguments as for `candidates`."""
    means = tables.means(scores, metrics)
    result = []
    for name, folder in models.items():
        method = read_config(folder).title
        values = {
            test_set: {key: value for key, value in rows[method].items() if value is not None}
            for test_set, rows in means.items()
        }
        result.append(ModelScores(name, method, folder, values, {test_set: images / test_set for test_set in means}))
    return result


def headline(models: Sequence[ModelScores]) -> list[str]:
    """Return the names, as `tables.flat` gives them, of PSNR-Y and SSIM-Y of the trained models."""
    return [
        f"{test_set}/{model.method}/{key}"
        for model in models
        for test_set, values in model.values.items()
        for key in ("psnr_y", "ssim_y")
        if key in values
    ]
