"""Look at each image of a run: take the model that fits it, and warn where the model was not trained for it."""

from dataclasses import dataclass

from srlib.imaging.image_file import ImageFile
from srlib.imaging.input_range import InputRange
from srlib.inference.choice import AutoModel
from srlib.inference.input_traces import UNKNOWN, InputTraces, traces_of
from srlib.inference.notes import Note
from srlib.inference.output_size import Target, factor_of
from srlib.inference.shipped import model_for_photographs
from srlib.inference.upscale import RgbModel, visible_colors
from srlib.inference.upscaler import Upscaler


@dataclass(frozen=True)
class Look:
    """What is known before an image is upscaled.

    Attributes:
        model: The model for it.
        traces: What it shows of its degradation.
        notes: Which model `auto` took and why, and a warning, for all images that they apply to.
    """

    model: RgbModel
    traces: InputTraces = UNKNOWN
    notes: tuple[Note | str, ...] = ()


def look_at(image: ImageFile, file: bytes, model: RgbModel, target: Target, *, estimate: bool) -> Look:
    """Look at an image before it is upscaled.

    Args:
        image: The image.
        file: The content of its file.
        model: The model of the run; `auto` is replaced by the model that fits.
        target: Factor or (height, width) of the result.
        estimate: Whether to estimate noise, blur and blocks; `auto` always does. Otherwise only a JPEG's header is
            read, which costs nothing.
    """
    is_auto = isinstance(model, AutoModel)
    traces = traces_of(visible_colors(image), file, estimate=estimate or is_auto)
    notes: tuple[Note | str, ...] = ()
    if isinstance(model, AutoModel):
        height, width = map(int, image.rgb.shape[:2])
        model = model.fitting(traces, factor_of(height, width, target))
        notes = (Note(*(f"{model.name} ({traces.in_words(exact=exact)})" for exact in (False, True))),)
    return Look(model, traces, (*notes, *range_notes(model.name, inputs_of(model), traces)))


def inputs_of(model: RgbModel) -> InputRange | None:
    """Return what a model was trained for, None where it is not known."""
    return model.inputs if isinstance(model, Upscaler) else None


def range_notes(model: str, inputs: InputRange | None, traces: InputTraces) -> tuple[str, ...]:
    """Return a warning for an image that lies outside of what a model was trained for, or nothing.

    The text holds no figures of the image, so that it is printed once for all images that it applies to.

    Args:
        model: Name of the model.
        inputs: What it was trained for; None where it is not known.
        traces: What the image shows.

    Example:
        >>> range_notes("my-model", InputRange(), InputTraces(jpeg_quality=40))
        ('JPEG quality below 94: my-model was not trained for such images; artifacts may remain or grow',)
    """
    if inputs is None:
        return ()
    words = {
        "noise": (f"noise below {inputs.noise[0]:g} levels", f"noise above {inputs.noise[1]:g} levels"),
        "blur": (f"blur below {inputs.blur[0]:g} pixels", f"blur above {inputs.blur[1]:g} pixels"),
        "jpeg_quality": (
            f"JPEG quality below {inputs.jpeg_quality[0]:g}",
            f"JPEG quality above {inputs.jpeg_quality[1]:g}",
        ),
    }
    values = {"noise": traces.noise, "blur": traces.blur, "jpeg_quality": traces.jpeg_quality}
    outside = [words[name][_is_above(values[name], getattr(inputs, name))] for name in traces.excess(inputs)]
    if not outside:
        return ()
    better = model_for_photographs(model.partition(" fidelity ")[0])
    advice = f"; try --model {better}" if better else "; artifacts may remain or grow"
    return (f"{', '.join(outside)}: {model} was not trained for such images{advice}",)


def _is_above(value: float | None, pair: tuple[float, float]) -> bool:
    return value is not None and value > pair[1]
