"""The formats that `srlib export` writes: how each is made, how it is run, and how close it must be to Keras."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from srlib.inference import convert, runtime
from srlib.inference.exported import BIN, LITERT, ONNX, XML, Arithmetic, ExportConfig, ExportedModel
from srlib.inference.quantization import quantize
from srlib.inference.runtime import Values

if TYPE_CHECKING:
    import tensorflow

Runner = Callable[[Values], Values]
"""Runs a network on values [h, w, C] in [0, 1]."""

Writer = Callable[[Path, Path, Sequence[Values]], None]
"""Writes a model folder of the pipeline into a folder that holds it as ONNX and OpenVINO files; the values [h, w, C]
are LR images to calibrate on."""


@dataclass(frozen=True)
class ExportFormat:
    """One format of `srlib export`.

    Attributes:
        files: Names of the files that it consists of.
        run: Loads these files into their own runtime.
        write: Makes them from the float32 ONNX and OpenVINO files; None where they are among those.
        tolerance: Largest difference of any value from Keras, in [0, 1].
        largest_loss: Largest loss of PSNR-Y against Keras in dB, or None where `tolerance` is enough. A format with
            a bound is calibrated and measured on images.
        arithmetic: Number format of the convolutions.
        modules: Python modules that it needs besides those of ONNX and OpenVINO.
    """

    files: tuple[str, ...]
    run: Callable[[Path, ExportConfig], Runner]
    write: Writer | None = None
    tolerance: float = 1e-4
    largest_loss: float | None = None
    arithmetic: Arithmetic = "float32"
    modules: tuple[str, ...] = ()


def run_openvino(folder: Path, config: ExportConfig, precision: runtime.Precision = "float32") -> Runner:
    """Load OpenVINO files in the given precision."""
    model = ExportedModel(config, (folder / XML).read_bytes(), (folder / BIN).read_bytes())
    return cast(Runner, runtime.CompiledNetwork(model, precision=precision))


def _run_onnx(folder: Path, config: ExportConfig) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    return lambda lr: cast(Values, session.run(None, {"lr": lr[np.newaxis]})[0][0])


def _run_litert(folder: Path, config: ExportConfig) -> Runner:
    interpreter = _litert_interpreter(folder / LITERT)
    lr_index, sr_index = (
        side[0]["index"] for side in (interpreter.get_input_details(), interpreter.get_output_details())
    )

    def run(lr: Values) -> Values:
        interpreter.resize_tensor_input(lr_index, (1, *lr.shape))
        interpreter.allocate_tensors()
        interpreter.set_tensor(lr_index, lr[np.newaxis])
        interpreter.invoke()
        return cast(Values, interpreter.get_tensor(sr_index)[0])

    return run


def _litert_interpreter(path: Path) -> "tensorflow.lite.Interpreter":
    """Open a LiteRT file by the package `ai_edge_litert`, or by the copy of it that TensorFlow still contains."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError:
        from tensorflow.lite.python.interpreter import Interpreter  # tensorflow.lite itself is filled on demand
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's copy announces its end
        return Interpreter(str(path))


def _write_float16(model: Path, out: Path, images: Sequence[Values]) -> None:
    convert.to_float16(out / ONNX)


def _write_litert(model: Path, out: Path, images: Sequence[Values]) -> None:
    convert.from_keras(model, out / LITERT)


def _write_int8(model: Path, out: Path, images: Sequence[Values]) -> None:
    graph = runtime.import_openvino().Core().read_model(out / XML)
    quantize(graph, images)
    convert.save_openvino(graph, out / XML)


FORMATS: dict[str, ExportFormat] = {
    "openvino": ExportFormat((XML, BIN), run_openvino),
    "onnx": ExportFormat((ONNX,), _run_onnx, modules=("onnxruntime",)),
    "onnx-fp16": ExportFormat(
        (ONNX,), _run_onnx, _write_float16, tolerance=0.01, arithmetic="float16", modules=("onnxruntime",)
    ),
    "litert": ExportFormat((LITERT,), _run_litert, _write_litert),
    "openvino-int8": ExportFormat(
        (XML, BIN),
        run_openvino,
        _write_int8,
        tolerance=math.inf,
        largest_loss=0.1,
        arithmetic="int8",
    ),
}
"""Format → how it is made and verified."""
