"""What `mlflow.pyfunc.load_model` and `mlflow models serve` run: an image goes in, a larger one comes out.

The files that this module imports are recorded with each model. It computes with Keras, in tiles, without OpenVINO.
"""

import base64
import binascii
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.engine import pin_if_unused
from srlib.errors import SrlibError, one_line
from srlib.imaging.array_image import from_array, to_array
from srlib.imaging.image_file import encode_image_file, read_image_file
from srlib.inference.tiles import grid
from srlib.inference.upscale import OnPixels, upscale_image
from srlib.models import load_model, super_resolve

if TYPE_CHECKING:
    import keras

LARGEST_IMAGE = 2**26
"""Most pixels of an image that is given."""

_TILE_BYTES = 2**31
"""Bytes of a tile's largest activation, estimated at the resolution of the result: several times too much."""

_DEEPEST = np.iinfo(np.uint16).max
_DECIMALS = 6
"""Decimals of the floats in JSON: finer than 16-bit levels."""
_ROUNDING = 1e-3
"""By how much floats may lie outside [0, 1], as interpolation leaves them; they are clamped."""


def _load_pyfunc(path: str) -> "ServedModel":
    """Load a recorded model, as MLflow asks for it.

    Args:
        path: The model's folder.
    """
    pin_if_unused()
    network, _ = load_model(Path(path))
    return ServedModel(network)


class ServedModel:
    """A trained network with the interface that MLflow expects.

    Args:
        network: The network.
    """

    def __init__(self, network: "keras.Model") -> None:
        self._network = KerasUpscaler(network)

    def predict(self, data: object, params: Mapping[str, object] | None = None) -> object:
        """Upscale one image, or several.

        | given | returned |
        |---|---|
        | the bytes of a PNG, JPEG, TIFF or WebP file | the bytes of a PNG file |
        | such bytes in Base64, as JSON carries them | a PNG file in Base64 |
        | an array: uint8, uint16, or floats in [0, 1]; [h, w], [h, w, 3] or [h, w, 4] | an array of the same type |
        | an array of several images, [n, h, w, 3] | an array [n, scale·h, scale·w, 3] |
        | nested lists, as JSON carries an array: whole numbers from 0 to 255, or floats in [0, 1] | such lists |
        | a list of any of these, or a table with one column `image` | a list |

        Args:
            data: The image or images, of any size from 1×1. Bit depth, gray and transparency are kept.
            params: Not used.

        Raises:
            SrlibError: Something else; one line that names the image, what was expected and what came.
        """
        if isinstance(data, Mapping) and list(data) == ["image"]:
            data = data["image"]
        if hasattr(data, "columns") and hasattr(data, "to_dict"):  # a table of pandas, which is not imported for this
            data = _column(data.to_dict("list"))
        if isinstance(data, (list, tuple)) and not _is_nested_image(data):
            return [self._one(item, f"image {index}: ") for index, item in enumerate(data)]
        return self._one(data, "")

    def _one(self, item: object, place: str) -> object:
        try:
            return self._upscaled(item)
        except SrlibError as error:
            raise SrlibError(f"{place}{error}") from None

    def _upscaled(self, item: object) -> object:
        """Upscale one image, or an array of several."""
        if isinstance(item, str):
            return base64.b64encode(self._file(_decoded(item))).decode()
        if isinstance(item, (bytes, bytearray)):
            return self._file(bytes(item))
        if isinstance(item, list):
            upscaled = self._array(_from_lists(item))
            return (upscaled if upscaled.dtype == np.uint8 else upscaled.astype(np.float64).round(_DECIMALS)).tolist()
        if isinstance(item, np.ndarray) and item.ndim == 4:
            return np.stack([self._array(image) for image in item])
        if isinstance(item, np.ndarray):
            return self._array(item)
        raise SrlibError(
            f"expected the bytes of an image file or an array, got {type(item).__name__}; for a file, give "
            'open("photo.jpg", "rb").read()'
        )

    def _file(self, content: bytes) -> bytes:
        image = read_image_file(Path("image"), content)
        _check_size(*image.rgb.shape[:2])
        upscaled = upscale_image(image, self._network, Fraction(self._network.scale))
        return encode_image_file(upscaled, "png", name="image")[0]

    def _array(self, image: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        is_float = np.issubdtype(image.dtype, np.floating)
        if not is_float and image.dtype not in (np.uint8, np.uint16):
            raise SrlibError(
                f"expected uint8, uint16 or floats in [0, 1], got {image.dtype}; try image.astype('uint8')"
            )
        levels = from_array(_levels(image) if is_float else cast(Pixels, image))
        _check_size(*levels.rgb.shape[:2])
        upscaled = to_array(upscale_image(levels, self._network, Fraction(self._network.scale)))
        return (upscaled / np.float32(_DEEPEST)).astype(image.dtype) if is_float else upscaled


def _column(columns: Mapping[str, list[object]]) -> list[object]:
    if len(columns) != 1:
        raise SrlibError(f"expected a table with one column `image`, got {one_line(', '.join(map(str, columns)), 80)}")
    return next(iter(columns.values()))


def _is_nested_image(data: "list[object] | tuple[object, ...]") -> bool:
    """Return whether lists hold the rows of one image (gray, or of 3 or 4 channels), rather than several images."""
    shape, item = [], cast(object, data)
    while isinstance(item, list):
        shape.append(len(item))
        item = item[0] if item else None
    return isinstance(item, (int, float)) and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4)))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise SrlibError(
            "expected an image file in Base64, got a text that is not; for a path, give its bytes"
        ) from None


def _from_lists(rows: list[object]) -> npt.NDArray[np.generic]:
    """Return rows of whole numbers as uint8, and rows with at least one fraction or `1.0` as float64."""
    try:
        values = np.asarray(rows)
    except ValueError:
        raise SrlibError("expected lists of one length for the rows of an image, got different lengths") from None
    if np.issubdtype(values.dtype, np.floating):
        return values
    expected = "expected whole numbers from 0 to 255, or floats in [0, 1], in the rows of an image"
    if not np.issubdtype(values.dtype, np.integer):
        raise SrlibError(f"{expected}, got {one_line(repr(rows), 40)}")
    if values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise SrlibError(f"{expected}, got {values.min()} to {values.max()}")
    return values.astype(np.uint8)


def _levels(image: npt.NDArray[np.generic]) -> Pixels:
    """Return floats in [0, 1] as 16-bit levels."""
    values = image.astype(np.float64)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SrlibError("expected floats in [0, 1], got values that are not finite")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise SrlibError(f"expected floats in [0, 1], got {low:.4g} to {high:.4g}; divide by 255, or give uint8")
    return (np.clip(values, 0, 1) * _DEEPEST + 0.5).astype(np.uint16)


def _check_size(height: int, width: int) -> None:
    if height * width > LARGEST_IMAGE:
        raise SrlibError(f"expected at most {LARGEST_IMAGE / 1e6:.0f} megapixels, got {width}×{height} pixels")


class KerasUpscaler:
    """Upscales RGB arrays of any size with a network in Keras, tile by tile.

    Args:
        network: A network as `srlib.models.load_model` returns it.

    Attributes:
        name: Name of the network.
        scale: Upscaling factor.
    """

    def __init__(self, network: "keras.Model") -> None:
        self._network = network
        self.name = str(network.name)
        self.scale = super_resolve(network, np.zeros((1, 8, 8, 3), np.uint8)).shape[1] // 8
        self._overlap = _overlap(network)
        widest = max(int(layer.output.shape[-1] or 1) for layer in network.layers)
        self._largest = max(1, _TILE_BYTES // (4 * widest * self.scale**2))

    def __call__(self, rgb: Pixels, *, on_pixels: OnPixels | None = None) -> Pixels:
        """Upscale uint8 or uint16 [h, w, 3] to the same dtype, [scale·h, scale·w, 3], clamped and rounded half up."""
        out = np.empty((rgb.shape[0] * self.scale, rgb.shape[1] * self.scale, 3), rgb.dtype)
        cut = grid(*rgb.shape[:2], overlap=self._overlap, largest=self._largest)
        for tile, inner, target in cut.tiles(self.scale):
            sr = super_resolve(self._network, rgb[tile][None])[0][inner]
            if not np.isfinite(sr).all():
                raise SrlibError("the network's output is not finite: its training has diverged")
            out[target] = np.floor(np.clip(sr, 0, 1).astype(np.float64) * np.iinfo(rgb.dtype).max + 0.5)
        if on_pixels:
            on_pixels(rgb.shape[0] * rgb.shape[1])
        return out


def _overlap(network: "keras.Model") -> int:
    """Return at least the LR pixels to each side that an output depends on: the reach of all convolutions together."""
    kernels = (getattr(layer, "kernel_size", (1, 1)) for layer in network.layers)
    return 2 + sum(max(size) // 2 for size in kernels)
