"""Blend two exported networks for `--fidelity`: one graph runs both and interpolates their images."""

from dataclasses import replace
from numbers import Real

import numpy as np

from srlib.errors import SrlibError, one_line
from srlib.inference.exported import ExportedModel
from srlib.inference.runtime import OPENVINO_ERRORS, import_openvino, serialized


def check_precision(fidelity: float | None, precision: str) -> None:
    """Check the share of a blend, and that it can be computed in a precision.

    Raises:
        SrlibError: `fidelity` is outside of [0, 1], or the precision is int8, which a blend has no form of.
    """
    if fidelity is None:
        return
    if not (isinstance(fidelity, Real) and 0 <= fidelity <= 1):
        raise SrlibError(f"fidelity: expected a number from 0 (GAN weights) to 1 (PSNR weights), got {fidelity!r}")
    if precision == "int8" and 0 < fidelity < 1:
        raise SrlibError("precision: expected auto, bfloat16 or float32 for a blend (fidelity), got int8")


def blend(psnr: ExportedModel, gan: ExportedModel, fidelity: float) -> ExportedModel:
    """Interpolate between the images of two networks: gan + fidelity · (psnr − gan).

    It takes the time of both. Interpolating the weights of two related networks (Wang et al. 2018, ESRGAN, section
    3.4) takes that of one, and measured worse: at the same PSNR, a higher LPIPS
    (docs/experiments/2026-11-29-free-gan.md).

    Args:
        psnr: The PSNR-oriented network, returned whole at fidelity 1.
        gan: A network from adversarial training, returned whole at fidelity 0.
        fidelity: 0 to 1.

    Returns:
        The blended network.

    Raises:
        SrlibError: The networks differ in scale, channels or format.
    """
    if fidelity in (0, 1):
        return psnr if fidelity else gan
    if not (psnr.weights and gan.weights):
        raise SrlibError("fidelity: expected two models in OpenVINO's format; other formats cannot be blended")
    if not psnr.config.arithmetic == gan.config.arithmetic == "float32":
        raise SrlibError("fidelity: expected two models in float32; int8 ones cannot be blended")
    for key in ("scale", "channels"):
        if (one := getattr(psnr.config, key)) != (another := getattr(gan.config, key)):
            raise SrlibError(f"fidelity: expected two models of one {key}, got {one} and {another}")
    openvino = import_openvino()
    from openvino import opset13

    try:
        core = openvino.Core()
        first, second = (core.read_model(model.graph, model.weights) for model in (psnr, gan))
        for target in second.input(0).get_target_inputs():
            target.replace_source_output(first.input(0))
        faithful, sharp = (graph.get_results()[0].input_value(0) for graph in (first, second))
        # Named, since OpenVINO numbers nodes by a count over the whole process: other bytes, and another fingerprint.
        share = opset13.constant(np.float32(fidelity), name="share")
        difference = opset13.subtract(faithful, sharp, name="difference")
        sr = opset13.add(sharp, opset13.multiply(difference, share, name="part"), name="sr")
        blend = openvino.Model([opset13.result(sr, name="result")], first.get_parameters(), "blend")
        content = serialized(blend)
    except OPENVINO_ERRORS as error:
        raise SrlibError(
            f"fidelity: {psnr.config.title} and {gan.config.title} cannot be blended ({one_line(error, 200)})"
        ) from None
    config = replace(
        psnr.config,
        receptive_field=max(psnr.config.receptive_field, gan.config.receptive_field),
        bytes_per_pixel=psnr.config.bytes_per_pixel + gan.config.bytes_per_pixel,
        bfloat16=_worse_loss(psnr, gan),
        int8=None,
    )
    return ExportedModel(config, *content)


def _worse_loss(*models: ExportedModel) -> float | None:
    losses = [model.config.bfloat16 for model in models]
    return None if None in losses else max(losses, key=lambda loss: abs(loss or 0.0))
