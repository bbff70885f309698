"""Enlarging pictures with an exported network: any size, in bounded memory, without Keras or TensorFlow."""

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srlib.engine import available_cores
from srlib.errors import SrlibError
from srlib.imaging.arrays import Pixels
from srlib.imaging.color import network_input, rgb_from_output
from srlib.inference import runtime
from srlib.inference.tiles import Grid, free_memory, grid

SHIPPED = Path(__file__).parents[1] / "weights"
DEFAULT = "psnr-x4"

MEMORY = 1280 * 2**20
"""Bytes for the network's activations and the result, counted twice since it is encoded too. Larger tiles compute less
twice; with this much a picture of 3840×2160 stays below 2 GiB in all.
"""


def shipped() -> list[str]:
    """The names of the models that come with srlib."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{runtime.CONFIG}"))


def open_model(
    name_or_path: str = DEFAULT,
    *,
    fidelity: float | None = None,
    gan: str | None = None,
    precision: str = "auto",
    tile: int | None = None,
    ensemble: bool = False,
    threads: int | None = None,
) -> "Upscaler":
    """Makes a model ready.

    Args:
        name_or_path: The name of a shipped model (`psnr-x4`), a folder that `srlib export` wrote, or a model folder of
            the pipeline (that needs the extra `pipeline`; it is exported once and kept in the user's cache). The same
            from MLflow: `models:/NAME@champion`, `models:/NAME/VERSION` or `runs:/RUN/NAME`.
        fidelity: From 0 (GAN weights) to 1 (PSNR weights): blends `name_or_path` with its GAN counterpart. None takes
            the model as it is.
        gan: The counterpart, as `name_or_path`. Of a shipped model it is known.
        precision: `auto`, `float32` or `bfloat16`; see `runtime.choose_precision`.
        tile: Most pixels of the small picture that one tile contributes along either side; None chooses by the memory
            that is free.
        ensemble: Whether to average over the eight flips and turns: slower by eight, a little better.
        threads: Of the processor; None takes all that this process may use.

    Raises:
        SrlibError: No such model, damaged files, or an option out of its range.
    """
    if fidelity is None:
        model, name = _find(name_or_path), Path(name_or_path).name
    else:
        first, second = (name_or_path, gan) if gan else _pair(name_or_path)
        model = runtime.blend(_find(first), _find(second), fidelity)
        name = f"{Path(first).name} fidelity {fidelity:g}"
    return Upscaler(model, name=name, precision=precision, tile=tile, ensemble=ensemble, threads=threads)


def _find(name_or_path: str) -> runtime.Model:
    if name_or_path in shipped():
        return runtime.read(SHIPPED / name_or_path)
    if name_or_path.startswith(("models:/", "runs:/")):
        if find_spec("mlflow") is None:
            raise SrlibError(f"{name_or_path}: needs MLflow: pip install 'srlib[pipeline]'")
        from srlib.tracking.registry import fetched

        with fetched(name_or_path) as folder:
            return _find(str(folder))
    folder = Path(name_or_path)
    if not folder.is_dir():
        raise SrlibError(
            f"{name_or_path}: expected a model's folder or one of the models that come with srlib: "
            f"{', '.join(shipped()) or 'none in this installation'}"
        )
    if runtime.is_exported(folder):
        return runtime.read(folder)
    from srlib.inference.export import exported

    return runtime.read(exported(folder))


def _pair(name: str) -> tuple[str, str]:
    kind, _, scale = name.partition("-")
    pair = f"psnr-{scale}", f"gan-{scale}"
    if kind not in ("psnr", "gan") or not set(pair) <= set(shipped()):
        raise SrlibError(
            f"{name}: fidelity needs two models: name the one with GAN weights too, or take a shipped pair"
        )
    return pair


class Upscaler:
    """Enlarges pictures with one model; memory stays bounded whatever their size.

    Attributes:
        name: Of the model, as it was asked for.
        scale: The factor of enlargement.
        receptive_field: Pixels of the small picture to each side that an output pixel depends on.
        precision: What 8-bit pictures are computed in, `float32` or `bfloat16`. 16-bit pictures, whose lower byte
            bfloat16 could not tell apart, are computed in float32 unless bfloat16 was asked for.
    """

    def __init__(
        self, model: runtime.Model, *, name: str, precision: str, tile: int | None, ensemble: bool, threads: int | None
    ) -> None:
        config = model.config
        self.name, self.scale, self.receptive_field = name, config.scale, config.receptive_field
        self.precision = runtime.choose_precision(precision, config)
        self._fine: runtime.Precision = self.precision if precision == "bfloat16" else "float32"
        self._config, self._tile, self._ensemble = config, tile, ensemble
        if tile is not None and tile < 1:
            raise SrlibError(f"tile: expected a side from 1 pixel, got {tile}")
        self._network = functools.cache(
            lambda kind, levels: runtime.Network(model, precision=kind, threads=threads, levels=levels)
        )
        self._network(self.precision, self._in_levels(np.dtype(np.uint8)))
        self._threads = ThreadPoolExecutor(threads or available_cores(), "rounding")

    def _in_levels(self, kind: np.dtype) -> bool:
        """Whether the network itself rounds: to 8 bits, and where nothing is to be done to its values before."""
        return kind == np.uint8 and self._config.channels == "rgb" and not self._ensemble

    def tiles(self, height: int, width: int) -> int:
        """How many tiles a picture of this size takes."""
        return len(self._grid(height, width))

    def _grid(self, height: int, width: int, depth: int = 1) -> Grid:
        # A luma network leaves chroma to bicubic, which sees two pixels.
        overlap = max(self.receptive_field, 0 if self._config.channels == "rgb" else 2)
        result = 3 * depth * height * width * self.scale**2
        room = max(MEMORY - 2 * result, MEMORY // 4)
        if (free := free_memory()) is not None:
            room = min(room, max(0, free - result) // 2)
        precision = self.precision if depth == 1 else self._fine
        alive = self._config.bytes_per_pixel // (2 if precision == "bfloat16" else 1)
        return grid(height, width, overlap=overlap, largest=room // alive, side=self._tile)

    def __call__(self, rgb: Pixels, *, advance: Callable[[int], object] | None = None) -> Pixels:
        """uint8 or uint16 [h, w, 3] → the same kind [scale·h, scale·w, 3]; any size from 1×1.

        Args:
            rgb: The picture.
            advance: Is told the number of pixels of `rgb` that were done since the last time; together h·w.

        Raises:
            SrlibError: Another kind of array.
        """
        if not isinstance(rgb, np.ndarray) or rgb.dtype not in (np.uint8, np.uint16) or rgb.ndim != 3 or 0 in rgb.shape:
            got = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
            raise SrlibError(f"expected a picture, uint8 or uint16 [height, width, 3], got {got}")
        if rgb.shape[2] != 3:
            raise SrlibError(f"expected a picture of three channels, RGB, got {rgb.shape[2]}")
        levels = self._in_levels(rgb.dtype)
        network = self._network(self.precision if rgb.dtype == np.uint8 else self._fine, levels)
        scale, (height, width) = self.scale, rgb.shape[:2]
        cut = self._grid(height, width, rgb.itemsize)
        out = np.empty((height * scale, width * scale, 3), rgb.dtype)
        for row in cut.rows:
            for column in cut.columns:
                lr = rgb[row.start : row.stop, column.start : column.stop]
                sr = network(network_input(lr, "rgb")) if levels else self._enlarge(network, lr)
                kept = sr[
                    (row.keep_start - row.start) * scale : (row.keep_stop - row.start) * scale,
                    (column.keep_start - column.start) * scale : (column.keep_stop - column.start) * scale,
                ]
                target = out[
                    row.keep_start * scale : row.keep_stop * scale,
                    column.keep_start * scale : column.keep_stop * scale,
                ]
                if levels:
                    target[:] = kept
                else:
                    _round_into(target, kept, self._threads)
                if advance:
                    advance((row.keep_stop - row.keep_start) * (column.keep_stop - column.keep_start))
        return out

    def _enlarge(self, network: runtime.Network, lr: Pixels) -> npt.NDArray[np.floating]:
        """One tile in [0, 1], not clamped; with `ensemble` the network's mean over eight views of it."""
        values = network_input(lr, self._config.channels)
        if not self._ensemble:
            return rgb_from_output(network(values), lr, self._config.channels)
        total = np.zeros((lr.shape[0] * self.scale, lr.shape[1] * self.scale, values.shape[2]), np.float64)
        for turns in range(4):
            for flipped in (False, True):
                sr = np.rot90(network(np.rot90(values[:, ::-1] if flipped else values, turns)), -turns)
                total += sr[:, ::-1] if flipped else sr
        return rgb_from_output(total / 8, lr, self._config.channels)


def _round_into(target: Pixels, values: npt.NDArray[np.floating], threads: ThreadPoolExecutor) -> None:
    """[0, 1] → whole levels, clamped and rounded half up as the protocol does, a few rows at a time."""
    peak = np.iinfo(target.dtype).max
    step = max(1, 2**16 // math.prod(values.shape[1:]))

    def rounded(start: int) -> None:
        rows = values[start : start + step].astype(np.float64)
        np.clip(rows, 0, 1, out=rows)
        rows *= peak
        rows += 0.5
        target[start : start + step] = np.floor(rows, out=rows)

    for _ in threads.map(rounded, range(0, len(values), step)):
        pass
