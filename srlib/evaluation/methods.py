"""Rows of the table that come from networks."""

from pathlib import Path

from srlib.evaluation.benchmark import Cost, Method
from srlib.inference.upscale import upscaler
from srlib.models import load_model, multiply_adds


def trained(folder: Path, scale: int) -> Method:
    """The model in `folder` as a method, named by its architecture and training (EDSR, SRGAN).

    Raises:
        SrlibError: No usable model there, or one for another scale.
    """
    model, config = load_model(folder, scale=scale)
    cost = Cost(model.count_params(), lambda height, width: multiply_adds(model, height, width))
    upscale = upscaler(model)
    return Method(config.title, lambda lr, scale: upscale(lr), cost=cost)
