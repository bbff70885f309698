"""Upscale RGB arrays of any size with an exported network, in bounded memory and without Keras or TensorFlow."""

import functools
import hashlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.engine import available_cores
from srlib.errors import SrlibError, one_line, pip_install
from srlib.imaging.array_image import as_pixels
from srlib.imaging.color import network_input, rgb_from_output
from srlib.imaging.ensemble import mean_over_views
from srlib.inference.blending import blend, check_precision
from srlib.inference.exported import ExportedModel, is_exported, read_exported
from srlib.inference.runtime import CompiledNetwork, Ending, Precision, append_rounding, choose_precision
from srlib.inference.shipped import AUTO, CLEAN_MODEL, SHIPPED, shipped_models, shipped_pair
from srlib.inference.tiles import Grid, grid
from srlib.memory import check_memory, free_memory

MEMORY_BUDGET = 1280 * 2**20
"""Bytes for the network's activations plus twice the result, which is encoded later. Larger tiles compute less twice;
with this budget an image of 3840×2160 stays below 2 GiB in all.
"""

_MOST_COMPILED = 4
"""Compiled forms of a network that are kept: for 8 and 16 bits, and for the sizes of films' tiles."""

_BICUBIC_REACH = 2
"""LR pixels to each side that bicubic interpolation, which upscales the chroma of a luma network, depends on."""


def open_model(
    model: str | Path = CLEAN_MODEL,
    *,
    fidelity: float | None = None,
    gan: str | Path | None = None,
    precision: str = "auto",
    tile: int | None = None,
    ensemble: bool = False,
    threads: int | None = None,
) -> "Upscaler":
    """Load a model and compile it for this machine.

    Args:
        model: Name of a shipped model such as `psnr-x4`; a folder written by `srlib export`; a file of another
            author (ONNX, OpenVINO's .xml, PyTorch's .pth or .safetensors), whose scale and range of values are found
            out by trials; a model folder of the pipeline such as `models/pretrained` (needs the extra `pipeline`;
            exported at its first use and cached); or from MLflow `models:/NAME@champion`, `models:/NAME/VERSION` or
            `runs:/RUN/NAME`.
        fidelity: Blend of PSNR-oriented and GAN weights from 0 (GAN, sharp) to 1 (PSNR, faithful). None uses `model`
            as it is.
        gan: GAN counterpart of `model` for `fidelity`, given like `model`. Known for shipped models.
        precision: `auto`, `float32`, `bfloat16` or `int8`. `auto` is int8 where the CPU has AVX2, VNNI or AMX and the
            model has an int8 form that is known to lose less than 0.05 dB PSNR-Y; else bfloat16 where the CPU has it
            and it is known to change PSNR-Y by less than 0.01 dB; else float32.
        tile: Most LR pixels per side that one tile contributes (default: chosen from the free memory).
        ensemble: Average over the eight flips and rotations (self-ensemble): eight times slower, slightly better.
        threads: CPU threads (default: all that this process may use).

    Returns:
        A callable that upscales RGB arrays by `Upscaler.scale`.

    Raises:
        SrlibError: No such model, damaged files, or an option outside its range.

    Example:
        >>> import numpy as np, srlib
        >>> upscaler = srlib.open_model("psnr-x4", threads=1)
        >>> upscaler.scale
        4
        >>> upscaler(np.zeros((8, 10, 3), np.uint8)).shape
        (32, 40, 3)
    """
    model = model_name(model)
    gan = None if gan is None else model_name(gan)
    if fidelity is None:
        if gan is not None:
            raise SrlibError(f"gan: {gan} is blended in by `fidelity` (--fidelity), which is missing; try 0.5")
        return Upscaler(
            _load(model), name=Path(model).name, precision=precision, tile=tile, ensemble=ensemble, threads=threads
        )
    check_precision(fidelity, precision)
    if gan is not None:
        psnr_model, gan_model = model, gan
    else:
        pair = shipped_pair(model)
        psnr_model, gan_model = pair.psnr, pair.gan
    blended = blend(_load(psnr_model), _load(gan_model), fidelity)
    name = Path(psnr_model if fidelity else gan_model).name
    if 0 < fidelity < 1:
        name += f" fidelity {fidelity:g}"
    return Upscaler(blended, name=name, precision=precision, tile=tile, ensemble=ensemble, threads=threads)


def model_name(model: object) -> str:
    """Return a model that is given by its name, folder or file as text.

    Raises:
        SrlibError: It is given otherwise.
    """
    if not isinstance(model, str | Path):
        raise SrlibError(f"model: expected a name, a folder or a file, got {one_line(repr(model), limit=80)}")
    return str(model)


def _load(model: str) -> ExportedModel:
    """Find a model by name, folder or MLflow address, and read it."""
    if model in shipped_models():
        return read_exported(SHIPPED / model)
    if model == AUTO:
        raise SrlibError(
            f"{AUTO}: `srlib upscale` and srlib.upscale choose a model for each image; "
            f"here, name one such as {CLEAN_MODEL}"
        )
    if model.startswith(("models:/", "runs:/")):
        if find_spec("mlflow") is None:
            raise SrlibError(f"{model}: needs MLflow: {pip_install('srlib[pipeline]')}")
        from srlib.tracking.registry import fetched

        with fetched(model) as folder:
            return _load(str(folder))
    folder = Path(model)
    if folder.is_file():
        from srlib.inference.model_file import read_model_file

        return read_model_file(folder)
    if not folder.is_dir():
        raise SrlibError(
            f"{model}: expected a model's folder, an ONNX file, or one of the models that come with srlib: "
            f"{', '.join(shipped_models()) or 'none in this installation'}"
        )
    if is_exported(folder):
        return read_exported(folder)
    from srlib.inference.cache import read_through_cache

    return read_through_cache(folder)


class Upscaler:
    """A compiled model that upscales RGB arrays. Memory stays bounded whatever their size.

    Made by `open_model`. It works on one image at a time, with all its CPU threads: calls from several threads wait for
    each other.

    Attributes:
        name: Name of the model, as it was requested.
        scale: Upscaling factor.
        receptive_field: LR pixels to each side that an output pixel depends on.
        inputs: Degradation of the images that it was trained for; None where it is not known.
        fingerprint: SHA-256 of everything that decides the pixels: network, precision, tiles, ensemble.
        precision: Precision for 8-bit images: `float32`, `bfloat16` or `int8`. 16-bit images, whose lower byte the
            others would lose, are computed in float32 unless another was requested.

    Args:
        model: An exported network.
        name: Name of the model.
        precision: See `open_model`.
        tile: See `open_model`.
        ensemble: See `open_model`.
        threads: See `open_model`.

    Raises:
        SrlibError: An option is outside its range, or OpenVINO cannot load the network.

    Example:
        >>> import numpy as np, srlib
        >>> upscaler = srlib.open_model("psnr-x4", precision="float32", threads=1)
        >>> lr = np.full((6, 7, 3), 40000, np.uint16)
        >>> sr = upscaler(lr)
        >>> sr.dtype, sr.shape
        (dtype('uint16'), (24, 28, 3))
    """

    def __init__(
        self, model: ExportedModel, *, name: str, precision: str, tile: int | None, ensemble: bool, threads: int | None
    ) -> None:
        if tile is not None and not (isinstance(tile, Integral) and tile >= 1):
            raise SrlibError(f"tile: expected a side from 1 pixel, got {tile!r}")
        self.name = name
        self.scale = model.config.scale
        self.receptive_field = model.config.receptive_field
        self.inputs = model.config.inputs
        self.precision = choose_precision(precision, model.config)
        self._precision_16_bit: Precision = "float32" if precision == "auto" else self.precision
        self._config = model.config
        self._tile = tile = None if tile is None else int(tile)
        self._lock = threading.RLock()  # the network's output lies in a buffer that its next run overwrites
        self._ensemble = ensemble = bool(ensemble)  # its text is part of the fingerprint, as that of the tile
        content = model.graph, model.weights, repr((model.config, self.precision, precision, tile, ensemble)).encode()
        self.fingerprint = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in content)).hexdigest()
        self._compiled = functools.lru_cache(_MOST_COMPILED)(
            lambda kind, ending, size=None: CompiledNetwork(
                model, precision=kind, threads=threads, ending=ending, size=size
            )
        )
        self._compiled(self.precision, append_rounding if self._network_rounds(np.dtype(np.uint8)) else None)
        self._rounding_threads = ThreadPoolExecutor(threads or available_cores(), "rounding")

    def _network_rounds(self, dtype: np.dtype) -> bool:
        """Return whether the graph itself rounds: to 8 bits, where its output needs no further computation."""
        return dtype == np.uint8 and self._config.channels == "rgb" and not self._ensemble

    def tiles(self, height: int, width: int) -> int:
        """Return the number of tiles that an 8-bit LR image of this size takes."""
        return len(self._grid(height, width))

    def _grid(self, height: int, width: int, bytes_per_value: int = 1, reach: int = 0) -> Grid:
        overlap = max(self.receptive_field + reach, 0 if self._config.channels == "rgb" else _BICUBIC_REACH)
        result = 3 * bytes_per_value * height * width * self.scale**2
        budget = max(MEMORY_BUDGET - 2 * result, MEMORY_BUDGET // 4)
        if (free := free_memory()) is not None:
            budget = min(budget, max(0, free - result) // 2)
        precision = self.precision if bytes_per_value == 1 else self._precision_16_bit
        activations = self._config.bytes_per_pixel // (2 if precision == "bfloat16" else 1)
        return grid(height, width, overlap=overlap, largest=budget // max(activations, 1), side=self._tile)

    def __call__(self, rgb: Pixels, *, on_pixels: Callable[[int], object] | None = None) -> Pixels:
        """Upscale an RGB array of any size from 1×1.

        Args:
            rgb: uint8 or uint16 of shape [h, w, 3].
            on_pixels: Callback that receives the number of LR pixels done after each tile; h·w in total.

        Returns:
            The same dtype, [scale·h, scale·w, 3].

        Raises:
            SrlibError: `rgb` is another kind of array, or the network's output is not finite.
        """
        rgb = as_pixels(rgb)
        if rgb.ndim != 3 or rgb.shape[2] != 3:
            raise SrlibError(f"expected an image of three channels, RGB [height, width, 3], got {rgb.shape}")
        with self._lock:
            return self._upscaled(rgb, on_pixels)

    def _upscaled(self, rgb: Pixels, on_pixels: Callable[[int], object] | None) -> Pixels:
        as_levels = self._network_rounds(rgb.dtype)
        precision = self.precision if rgb.dtype == np.uint8 else self._precision_16_bit
        network = self._compiled(precision, append_rounding if as_levels else None)
        height, width = rgb.shape[:2]
        size = height * self.scale, width * self.scale
        check_memory(f"{width}×{height} to {size[1]}×{size[0]} pixels", 3 * rgb.itemsize * math.prod(size))
        out = np.empty((*size, 3), rgb.dtype)
        for tile, inner, target in self._grid(height, width, rgb.itemsize).tiles(self.scale):
            if as_levels:
                out[target] = network(network_input(rgb[tile], "rgb"))[inner]
            else:
                _round_into(out[target], self._float_tile(network, rgb[tile])[inner], self._rounding_threads)
            if on_pixels:
                on_pixels(out[target].size // (3 * self.scale**2))
        return out

    def with_ending(
        self, rgb: Pixels, ending: Ending, *, on_pixels: Callable[[int], object] | None = None
    ) -> Pixels | None:
        """Run the network with another end on images of one size.

        Args:
            rgb: uint8 [h, w, 3].
            ending: Change of the graph, hashable; its values may depend on the LR pixels beside their own too.
            on_pixels: See `__call__`.

        Returns:
            uint8 [f·h, f·w, values], or None where the network's output needs further computation or bfloat16, whose
            steps are larger than a level, would compute the end.
        """
        if not self._network_rounds(rgb.dtype) or self.precision == "bfloat16":
            return None
        with self._lock:
            return self._with_ending(rgb, ending, on_pixels)

    def _with_ending(self, rgb: Pixels, ending: Ending, on_pixels: Callable[[int], object] | None) -> Pixels | None:
        out = None
        height, width = rgb.shape[:2]
        cut = self._grid(height, width, reach=1)
        network = self._compiled(self.precision, ending, cut.shape)
        for tile, inner, target in cut.tiles(network.factor):
            values = network(network_input(rgb[tile], "rgb"))
            if out is None:
                out = np.empty((height * network.factor, width * network.factor, values.shape[2]), np.uint8)
            out[target] = values[inner]
            if on_pixels:
                on_pixels(math.prod(out[target].shape[:2]) // network.factor**2)
        return out

    def _float_tile(self, network: CompiledNetwork, lr: Pixels) -> npt.NDArray[np.floating]:
        """Upscale one tile to floats in about [0, 1], not clamped; with `ensemble` the mean over eight views."""
        values = network_input(lr, self._config.channels)
        if not self._ensemble:
            return rgb_from_output(network(values), lr, self._config.channels)
        mean = mean_over_views(values, network, self.scale)
        return rgb_from_output(mean, lr, self._config.channels)


def _round_into(target: Pixels, values: npt.NDArray[np.floating], threads: ThreadPoolExecutor) -> None:
    """Write [0, 1] as whole levels, clamped and rounded half up as in the protocol, a few rows at a time."""
    peak = np.iinfo(target.dtype).max
    step = max(1, 2**16 // math.prod(values.shape[1:]))

    def round_rows(start: int) -> None:
        rows = values[start : start + step].astype(np.float64)
        np.clip(rows, 0, 1, out=rows)
        rows *= peak
        rows += 0.5
        target[start : start + step] = np.floor(rows, out=rows)

    for _ in threads.map(round_rows, range(0, len(values), step)):
        pass
