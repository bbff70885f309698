"""The recipe, params.yaml, as typed and frozen models: one section per stage.

`load_params` reads and checks the whole file, also across sections, so that a typo in `finetune` shows before
`pretrain` runs for days. Every mistake is one line that names the key, what was expected and what came.
"""

from srlib.models.base import Scale
from srlib.params.data import Download, FeatureFile, Prepare
from srlib.params.evaluation import Champion, Evaluate, Lpips, ModelName, OtherMethod, Registry
from srlib.params.finetune import Features, Finetune
from srlib.params.image_sets import TEST_SCALES, OwnImages, TestSet, TrainSet
from srlib.params.loading import check_params, load_params
from srlib.params.recipe import Params
from srlib.params.training import LearningRate, Precision, Pretrain, StartFrom, Training

__all__ = [
    "TEST_SCALES",
    "Champion",
    "Download",
    "Evaluate",
    "FeatureFile",
    "Features",
    "Finetune",
    "LearningRate",
    "Lpips",
    "ModelName",
    "OtherMethod",
    "OwnImages",
    "Params",
    "Precision",
    "Prepare",
    "Pretrain",
    "Registry",
    "Scale",
    "StartFrom",
    "TestSet",
    "TrainSet",
    "Training",
    "check_params",
    "load_params",
]
