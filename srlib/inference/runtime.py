"""Exported networks in OpenVINO: compile them for the CPU and run them. Nothing here needs Keras or TensorFlow."""

import contextlib
import functools
import sys
import tempfile
from collections.abc import Callable, Iterator
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError, one_line, pip_install
from srlib.inference.exported import BIN, LARGEST_WEIGHT, LITERT, XML, ExportConfig, ExportedModel
from srlib.inference.tiles import windows

if TYPE_CHECKING:
    import openvino

Precision = Literal["float32", "bfloat16", "int8"]
Values = npt.NDArray[np.float32]
Levels = npt.NDArray[np.uint8]
Ending = Callable[["openvino.Model", int], int]
"""Changes the end of a graph of a given scale, so that it returns levels [1, f·h, f·w, values] and a sum that is finite
where the network's output is. Returns f.
"""

LARGEST_LOSS = 0.01
"""Largest change of PSNR-Y in dB by bfloat16 at which `auto` still chooses it."""

LARGEST_INT8_LOSS = 0.05
"""Largest loss of PSNR-Y in dB by int8 at which `auto` still chooses it."""

_SUMS_OF_32_BITS = {"amx_int8", "avx512_vnni", "avx_vnni"}
"""What Linux calls the instructions that multiply 8-bit integers and add the products in 32 bits."""

_SUMS_OF_16_BITS = {"avx2"}
"""Those that add two products in 16 bits at first, where the sum of larger ones overflows."""

_MOVING = {"DepthToSpace", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Layers that move values and change none."""

_TRIAL_SIZE = 5, 7
"""Height and width at which a network's output size is checked."""

_TELEMETRY = "openvino_telemetry"
OPENVINO_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, OverflowError)
"""Exceptions that OpenVINO's Python binding raises for a graph or a shape that it cannot work with."""


@functools.cache
def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry and return the module.

    On import, OpenVINO writes an identifier to ~/intel and contacts an analytics server through the package
    `openvino_telemetry`. Where that package cannot be imported, OpenVINO uses its own stub, which does nothing.

    Raises:
        SrlibError: OpenVINO is not installed.
    """
    with without_telemetry():
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise SrlibError(f"upscaling needs OpenVINO ({error.name} is missing): {pip_install('openvino')}") from None
    return openvino  # type: ignore[no-any-return]


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Make `import openvino_telemetry` fail inside this context, so that what is imported there sends nothing."""
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # makes the import fail
    try:
        yield
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]


@functools.cache
def _core() -> "openvino.Core":
    return import_openvino().Core()


def has_bfloat16() -> bool:
    """Return whether this CPU computes in bfloat16."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """Return what Linux calls the instructions of this CPU; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(flags.split())


def has_int8(largest_weight: int = LARGEST_WEIGHT) -> bool:
    """Return whether this CPU computes int8 networks fast and exactly; False where Linux does not say so.

    Args:
        largest_weight: The largest absolute weight. Above `LARGEST_WEIGHT`, OpenVINO's sums of products overflow on
            processors with neither VNNI nor AMX.
    """
    usable = _SUMS_OF_32_BITS | (_SUMS_OF_16_BITS if largest_weight <= LARGEST_WEIGHT else set())
    return not usable.isdisjoint(_cpu_flags())


def choose_precision(precision: str, config: ExportConfig) -> Precision:
    """Resolve `auto` and check the precision.

    `auto` is int8 where the model has an int8 form that was measured to lose less than `LARGEST_INT8_LOSS` and that
    the CPU computes exactly; else bfloat16 where the CPU has it and export measured that it changes PSNR-Y by less than
    `LARGEST_LOSS`; else float32.

    Args:
        precision: `auto`, `float32`, `bfloat16` or `int8`.
        config: Configuration of the model.

    Returns:
        `float32`, `bfloat16` or `int8`.

    Raises:
        SrlibError: Another word, or one that this CPU or model does not support.
    """
    form = config.int8 if config.int8 and has_int8(config.int8.largest_weight) else None
    if precision == "auto":
        if form and form.loss < LARGEST_INT8_LOSS:
            return "int8"
        is_harmless = config.bfloat16 is not None and abs(config.bfloat16) < LARGEST_LOSS
        return "bfloat16" if is_harmless and has_bfloat16() else "float32"
    if precision not in get_args(Precision):
        raise SrlibError(f"precision: expected auto, float32, bfloat16 or int8, got {precision}")
    if precision == "int8" and config.int8 is None:
        raise SrlibError(
            f"precision: {config.title} has no int8 form; `srlib quantize` adds one to an exported model, "
            "or use auto or float32"
        )
    if (precision == "int8" and form is None) or (precision == "bfloat16" and not has_bfloat16()):
        raise SrlibError(f"precision: this processor does not support {precision}; use auto or float32")
    return cast(Precision, precision)


class CompiledNetwork:
    """A network compiled for images of any size. Not thread-safe.

    Attributes:
        factor: Rows of the output for each row of the input: the scale, unless `ending` changes it.

    Args:
        model: The exported network.
        precision: Precision of the convolutions; for int8 the model needs its int8 form.
        threads: CPU threads (default: all that this process may use).
        ending: Change of the graph that makes it return uint8 levels instead of float32.
        size: (height, width) of all images, which makes a graph faster that would take any.

    Raises:
        SrlibError: `threads` is not positive, or OpenVINO cannot load the network.
    """

    def __init__(
        self,
        model: ExportedModel,
        *,
        precision: Precision,
        threads: int | None = None,
        ending: Ending | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if LITERT in model.config.files:
            raise SrlibError(
                f"{model.config.title}: a LiteRT file, which srlib itself does not run; export it as openvino or onnx"
            )
        options: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": not size,  # a film's encoder works on the same cores
        }
        if threads is not None:
            if not isinstance(threads, Integral) or threads < 1:
                raise SrlibError(f"threads: expected a number from 1, got {threads!r}")
            options["INFERENCE_NUM_THREADS"] = int(threads)
        self._overlap = model.config.receptive_field
        self._openvino = import_openvino()
        try:
            content = model.int8 if precision == "int8" and model.int8 else (model.graph, model.weights)
            graph = _core().read_model(*content)
            _check_interface(graph, model.config)
            _check_weights(graph, model.config)
            self._window = window(graph)
            if precision == "int8":
                _repeat_by_convolution(graph)
            scale = model.config.scale
            self.factor = ending(graph, scale) if ending else scale
            if size and not self._window:
                graph.reshape([1, *size, graph.input(0).partial_shape[3].get_length()])
            self._request = _core().compile_model(graph, "CPU", options).create_infer_request()
        except OPENVINO_ERRORS as error:
            raise SrlibError(f"{model.config.title}: OpenVINO cannot load the model ({one_line(error, 200)})") from None

    def __call__(self, lr: Values) -> Values | Levels:
        """Run the network.

        Args:
            lr: Values of shape [h, w, C] in [0, 1].

        Returns:
            [factor·h, factor·w, C]: float32 not clamped, or uint8 in a buffer that the next call overwrites.

        Raises:
            SrlibError: The output holds values that are not finite, or does not have the expected size.
        """
        return self._run(lr) if self._window is None else self._run_windows(lr, self._window)

    def _run(self, lr: Values) -> Values | Levels:
        tensor = self._openvino.Tensor(np.ascontiguousarray(lr[np.newaxis], np.float32))
        try:
            self._request.set_input_tensor(tensor)
            self._request.infer()
        except OPENVINO_ERRORS as error:
            raise SrlibError(f"OpenVINO cannot run the model ({one_line(error, 200)})") from None
        sr, *total = (output.data for output in self._request.output_tensors)
        expected = (1, self.factor * lr.shape[0], self.factor * lr.shape[1])
        if sr.shape[:3] != expected:
            raise SrlibError(f"the network gave {sr.shape} where its config.json says {expected}; export it again")
        if not np.isfinite(np.sum(total or sr)):
            raise SrlibError("the network's output is not finite: its training has diverged")
        return sr[0].copy() if sr.dtype == np.float32 else np.asarray(sr[0])

    def _run_windows(self, lr: Values, window: tuple[int, int]) -> Values | Levels:
        """Run a network that takes one size only, window by window; a smaller image is padded by its border."""
        height, width = lr.shape[:2]
        missing = [(0, max(0, side - length)) for side, length in zip(window, (height, width), strict=True)]
        lr = np.pad(lr, (*missing, (0, 0)), "edge")
        out: Values | Levels | None = None
        for tile, inner, target in windows(*lr.shape[:2], overlap=self._overlap, size=window).tiles(self.factor):
            sr = self._run(lr[tile])
            if out is None:
                out = np.empty((self.factor * lr.shape[0], self.factor * lr.shape[1], sr.shape[2]), sr.dtype)
            out[target] = sr[inner]
        assert out is not None
        return out[: self.factor * height, : self.factor * width]


def window(graph: "openvino.Model") -> tuple[int, int] | None:
    """Return the (height, width) that a network takes, None where it takes any."""
    height, width = (graph.input(0).partial_shape[axis] for axis in (1, 2))
    return (height.get_length(), width.get_length()) if height.is_static and width.is_static else None


def serialized(graph: "openvino.Model") -> tuple[bytes, bytes]:
    """Return the content of the files `model.xml` and `model.bin`."""
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder, XML), Path(folder, BIN)
        import_openvino().serialize(graph, xml, weights)
        return xml.read_bytes(), weights.read_bytes()


def _check_interface(graph: "openvino.Model", config: ExportConfig) -> None:
    """Refuse a graph that does not map one image of the configured channels to one image of the configured scale.

    OpenVINO crashed after it ran a graph whose images shrink to nothing, so the size is inferred instead of tried.
    """
    channels = 3 if config.channels == "rgb" else 1
    shapes = [port.partial_shape for port in (*graph.inputs, *graph.outputs)]
    sizes = {shape[3].get_length() if len(shape) == 4 and shape[3].is_static else None for shape in shapes}
    if len(shapes) != 2 or sizes != {channels}:
        got = " and ".join(str(shape) for shape in shapes)
        raise SrlibError(f"{config.title}: expected one input and one output of {channels} channels, got {got[:200]}")
    height, width = window(graph) or _TRIAL_SIZE
    trial = graph.clone()
    trial.reshape([1, height, width, channels])
    shape = trial.output(0).partial_shape
    expected = [1, config.scale * height, config.scale * width, channels]
    if not shape.is_static or list(shape.to_shape()) != expected:
        raise SrlibError(
            f"{config.title}: for an image of {width}×{height} pixels the network gives the shape {shape}, expected "
            f"{expected} for scale {config.scale}; export the model again"
        )


def _check_weights(graph: "openvino.Model", config: ExportConfig) -> None:
    """Refuse int8 kernels whose sums of products would overflow on this CPU: the image would be wrong."""
    constants = [op for op in graph.get_ops() if op.get_type_name() == "Constant"]
    kernels = [op for op in constants if op.get_element_type().get_type_name() == "i8" and len(op.shape) >= 4]
    largest = max((int(np.abs(op.data.astype(np.int16)).max()) for op in kernels), default=0)
    if has_int8() and not has_int8(largest):
        raise SrlibError(
            f"{config.title}: weights of int8 up to {largest} need a processor with VNNI or AMX; export the model "
            f"again, which makes weights up to {LARGEST_WEIGHT}"
        )


def _repeat_by_convolution(graph: "openvino.Model") -> None:
    """Repeat the input's channels by a 1×1 convolution with ones and zeros instead of a concatenation of copies.

    The values are the same. OpenVINO concatenates by unoptimized code, 15 % of fast-x4's time in int8, and fuses the
    convolution with the addition that follows.
    """
    from openvino import opset13

    source = graph.get_parameters()[0]
    channels = source.partial_shape[3].get_length()
    for node in graph.get_ordered_ops():
        is_repetition = node.get_type_name() == "Concat" and all(
            value.get_node().get_friendly_name() == source.get_friendly_name() for value in node.input_values()
        )
        copies = node.get_input_size()
        if not is_repetition or node.get_output_partial_shape(0)[3] != channels * copies:
            continue
        kernel = np.tile(np.eye(channels, dtype=np.float32), (copies, 1))
        lr = opset13.transpose(source, np.array([0, 3, 1, 2]))
        repeated = opset13.convolution(lr, kernel[:, :, np.newaxis, np.newaxis], [1, 1], [0, 0], [0, 0], [1, 1])
        node.output(0).replace(opset13.transpose(repeated, np.array([0, 2, 3, 1])).output(0))
    graph.validate_nodes_and_infer_types()


def append_rounding(graph: "openvino.Model", scale: int) -> int:
    """Make the graph return levels 0 to 255, clamped and rounded half up as in the protocol.

    It rounds before it moves the sub-pixels to their places: a quarter of the bytes to move, and none to copy. OpenVINO
    computes what follows the last convolution in float32, even where that convolution is in bfloat16.
    """
    from openvino import opset13

    result = graph.get_results()[0]
    user, values = result, result.input_value(0)
    while values.get_node().get_type_name() in _MOVING:
        user = values.get_node()
        values = user.input_value(0)
    levels = opset13.multiply(opset13.clamp(values, 0.0, 1.0), np.float32(255))
    levels = opset13.convert(opset13.floor(opset13.add(levels, np.float32(0.5))), "u8")
    user.input(0).replace_source_output(levels.output(0))
    append_sum(graph, values)
    return scale


def append_sum(graph: "openvino.Model", values: "openvino.Output") -> None:
    """Make the graph also return the sum of some values, which is not finite where one of them is not."""
    from openvino import opset13

    axes = np.arange(len(values.partial_shape), dtype=np.int64)
    graph.add_results([opset13.result(opset13.reduce_sum(values, axes))])
    graph.validate_nodes_and_infer_types()
