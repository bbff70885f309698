"""`auto`: the shipped model that fits each image."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

from srlib.arrays import Pixels
from srlib.errors import SrlibError
from srlib.inference.blending import check_precision
from srlib.inference.exported import CONFIG, read_export_config
from srlib.inference.input_traces import InputTraces, traces_of
from srlib.inference.runtime import choose_precision
from srlib.inference.shipped import (
    AUTO,
    CLEAN_MODEL,
    CLEAN_MODELS,
    PHOTO_MODEL,
    SHIPPED,
    auto_can_blend,
    shipped_models,
)
from srlib.inference.upscaler import Upscaler, model_name, open_model


class AutoModel:
    """The shipped models behind `auto`: those for clean images, one per factor, and the one for photographs.

    Calling it upscales an array by the model that fits it at its full scale.

    Attributes:
        name: `auto`.
        scale: Upscaling factor where no other was asked for.
        fingerprint: SHA-256 of what decides the pixels: the shipped models and how they are opened.

    Args:
        open_model: Function that opens a shipped model by its name; called once per model, when it is needed.
        options: How the models are opened, as text; with the precision that `auto` means on this processor.
        clean: Factor → model for clean images; one has the full scale.

    Raises:
        SrlibError: One of the models is not in this installation.
    """

    name = AUTO
    scale = 4

    def __init__(
        self, open_model: Callable[[str], Upscaler], options: str = "", clean: Mapping[int, str] = CLEAN_MODELS
    ) -> None:
        if missing := {CLEAN_MODEL, PHOTO_MODEL} - set(shipped_models()):
            raise SrlibError(f"{AUTO}: needs {min(missing)}, which is not in this installation; name a model")
        self._opened = functools.cache(open_model)
        self._clean = clean
        configs = [(SHIPPED / name / CONFIG).read_bytes() for name in shipped_models()]
        self.fingerprint = hashlib.sha256(b"".join([*configs, options.encode()])).hexdigest()

    def fitting(self, traces: InputTraces, factor: Fraction = Fraction(scale)) -> Upscaler:
        """Return the model for an image.

        Args:
            traces: What the image shows.
            factor: How much larger it becomes. The model for clean images is that of the next larger factor.
        """
        if not traces.is_clean:
            return self._opened(PHOTO_MODEL)
        large_enough = [scale for scale in self._clean if scale >= factor]
        return self._opened(self._clean[min(large_enough, default=self.scale)])

    def __call__(self, rgb: Pixels, *, on_pixels: Callable[[int], object] | None = None) -> Pixels:
        """Upscale uint8 or uint16 [h, w, 3]; see `Upscaler`."""
        return self.fitting(traces_of(rgb))(rgb, on_pixels=on_pixels)


def open_any(
    model: "str | Path | Upscaler | AutoModel" = CLEAN_MODEL,
    *,
    fidelity: float | None = None,
    gan: str | Path | None = None,
    precision: str = "auto",
    tile: int | None = None,
    ensemble: bool = False,
    threads: int | None = None,
) -> Upscaler | AutoModel:
    """Open a model as `open_model` does, or the models behind `auto`; an opened one is returned as it is.

    Raises:
        SrlibError: As `open_model`; or `gan` with `auto`, whose models have their own counterparts; or `fidelity` with
            `auto`, where a counterpart is missing.
    """
    if not isinstance(model, str | Path) and callable(model):
        return model
    model = model_name(model)
    check_precision(fidelity, precision)
    options = functools.partial(
        open_model, fidelity=fidelity, gan=gan, precision=precision, tile=tile, ensemble=ensemble, threads=threads
    )
    if model != AUTO:
        return options(model)
    if gan is not None:
        raise SrlibError(f"gan: {AUTO} has GAN counterparts of its own; leave it out, or name a model")
    if fidelity is not None and not auto_can_blend():
        raise SrlibError(f"fidelity: not all models behind {AUTO} have a GAN counterpart; name a model such as psnr-x4")
    # Only the full scale has a GAN counterpart.
    clean = {
        scale: name
        for scale, name in CLEAN_MODELS.items()
        if name in shipped_models() and (fidelity is None or name == CLEAN_MODEL)
    }
    models = {*clean.values(), PHOTO_MODEL} & set(shipped_models())
    precisions = [choose_precision(precision, read_export_config(SHIPPED / name)) for name in sorted(models)]
    return AutoModel(options, repr((options.keywords, precisions)), clean)
