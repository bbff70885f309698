"""Post-training quantization of OpenVINO networks to 8-bit integers, calibrated on images."""

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from srlib.inference import convert
from srlib.inference.exported import XML
from srlib.inference.runtime import Values, import_openvino, without_telemetry

_SIDE = 192
"""Most LR pixels per side of what is calibrated on: the middle of an image."""

_MOST_IMAGES = 64


def quantize(folder: Path, images: Sequence[Values]) -> None:
    """Replace the OpenVINO files in a folder by those of the network with convolutions in int8.

    Weights are quantized symmetrically for each output channel, activations asymmetrically for each layer, with ranges
    measured on the images, and biases are corrected (NNCF's post-training quantization with its preset `mixed`).

    Args:
        folder: Holds `model.xml` and `model.bin`.
        images: LR images to calibrate on, values [h, w, C] in [0, 1]. Of the first 64 the middle is used.
    """
    openvino = import_openvino()
    with without_telemetry():
        import nncf
    nncf.set_log_level(logging.ERROR)
    samples = [_middle(image)[np.newaxis] for image in images[:_MOST_IMAGES]]
    graph = openvino.Core().read_model(folder / XML)
    with contextlib.redirect_stdout(sys.stderr):  # NNCF's progress
        quantized = nncf.quantize(
            graph, nncf.Dataset(samples), preset=nncf.QuantizationPreset.MIXED, subset_size=len(samples)
        )
    convert.save_openvino(quantized, folder)


def _middle(image: Values) -> Values:
    top, left = (max(0, length - _SIDE) // 2 for length in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE]
