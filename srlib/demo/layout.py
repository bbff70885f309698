"""What lies on the page: on the left what a person chooses, on the right what comes out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, cast

from srlib.demo.choices import ModelChoice
from srlib.demo.work import Outcome, Settings
from srlib.formats.encoders import FORMATS
from srlib.formats.suffixes import FILM_SUFFIXES, READ_SUFFIXES
from srlib.inference.output_size import OutputSize, output_size

if TYPE_CHECKING:
    import gradio
    from gradio.components import Component

_AS_INPUT = "as the input"
_FIT = "fit into"
_PLAYABLE = (".mp4", ".m4v", ".webm")
_LARGEST_HEIGHT = 620


@dataclass(frozen=True)
class Controls:
    """The inputs of the page that decide a result; see `Settings`."""

    model: "gradio.Dropdown"
    fidelity: "gradio.Slider"
    size: "gradio.Radio"
    fit: "gradio.Textbox"
    consistent: "gradio.Checkbox"
    file_format: "gradio.Dropdown"
    quality: "gradio.Slider"
    seconds: "gradio.Number"

    def __iter__(self) -> "Iterator[Component]":
        return (getattr(self, field.name) for field in fields(self))

    def settings(self, choices: Sequence[ModelChoice], values: "Mapping[Component, object]") -> Settings:
        """Return what was chosen.

        Raises:
            SrlibError: The size is not one.
        """
        kind, seconds = values[self.file_format], cast(float | None, values[self.seconds])
        return Settings(
            next(choice for choice in choices if choice.label == values[self.model]),
            cast(float, values[self.fidelity]),
            _size(str(values[self.size]), str(values[self.fit])),
            None if kind == _AS_INPUT else str(kind),
            int(cast(float, values[self.quality])),
            bool(values[self.consistent]),
            seconds or None,
        )


def _size(factor: str, box: str) -> OutputSize:
    return output_size(fit=box) if factor == _FIT else output_size(scale=factor)


def make_upload() -> "gradio.File":
    """Return the field for the image or film."""
    import gradio as gr

    kinds = ["image", "video", *sorted(READ_SUFFIXES | FILM_SUFFIXES)]
    return gr.File(label="Image or film", file_types=kinds, height=140, elem_id="upload")


def make_controls(choices: Sequence[ModelChoice], longest: float | None) -> Controls:
    """Return the inputs, which react to each other.

    Args:
        choices: Models to choose from.
        longest: Most seconds of a film.
    """
    import gradio as gr

    labels = [choice.label for choice in choices]
    model = gr.Dropdown(labels, value=labels[0], label="Model", elem_id="model")
    fidelity = gr.Slider(
        0, 1, step=0.05, label="Fidelity", info="0: sharp, some detail invented. 1: faithful.", elem_id="fidelity",
        **_fidelity(choices[0]),
    )  # fmt: skip
    size = gr.Radio(["×2", "×3", "×4", _FIT], value="×4", label="Size", elem_id="size")
    fit = gr.Textbox(
        "3840x2160", label="Width × height in pixels", info="The proportions are kept.", visible=False, elem_id="fit"
    )
    with gr.Accordion("More", open=False, elem_id="more"):
        consistent = gr.Checkbox(label="Correct the result until it agrees with the input")
        file_format = gr.Dropdown([_AS_INPUT, *FORMATS], value=_AS_INPUT, label="Format of images")
        quality = gr.Slider(1, 100, value=95, step=1, label="Quality of JPEG, WebP and films")
        seconds = gr.Number(longest, label="Films: only the first seconds", minimum=0.1, maximum=longest)

    def adapt_fidelity(label: str) -> gr.Slider:
        return gr.Slider(**_fidelity(choices[labels.index(label)]))

    def adapt_fit(factor: str) -> gr.Textbox:
        return gr.Textbox(visible=factor == _FIT)

    at_once = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    model.change(adapt_fidelity, model, fidelity, **at_once)
    size.change(adapt_fit, size, fit, **at_once)
    return Controls(model, fidelity, size, fit, consistent, file_format, quality, seconds)


def _fidelity(choice: ModelChoice) -> dict[str, object]:
    """Return the state of the slider for a model; there is none without a counterpart."""
    has_counterpart = choice.fidelity is not None
    return {"value": choice.fidelity if has_counterpart else 1.0, "visible": has_counterpart}


def make_outputs() -> "list[Component]":
    """Return what shows a result: text, the comparison, the file, the middle at full size, the film and the maps."""
    import gradio as gr

    slider = {"type": "filepath", "interactive": False, "buttons": ["fullscreen"], "max_height": _LARGEST_HEIGHT}
    return [
        gr.Markdown("Drop an image or a film.", elem_id="status"),
        gr.ImageSlider(label="Before (bicubic) | after", elem_id="view", **slider),
        gr.DownloadButton("Download", interactive=False, elem_id="download"),
        gr.ImageSlider(label="The middle at full size", visible=False, elem_id="detail", **slider),
        gr.Video(label="Film", interactive=False, visible=False, elem_id="film"),
        gr.Image(
            label="Invented here (white)",
            type="filepath",
            interactive=False,
            visible=False,
            elem_id="map",
            buttons=["fullscreen"],
        ),
        gr.Image(
            label="How far the original may be (black: sure)",
            type="filepath",
            interactive=False,
            visible=False,
            elem_id="sure",
            buttons=["fullscreen"],
        ),
    ]


def filled(outcome: Outcome) -> list[object]:
    """Return the values of the outputs for a result."""
    import gradio as gr

    is_playable = outcome.is_film and outcome.file.suffix.lower() in _PLAYABLE
    return [
        outcome.text,
        tuple(map(str, outcome.view)),
        gr.DownloadButton(f"Download {outcome.file.name}", value=str(outcome.file), interactive=True),
        gr.ImageSlider(tuple(map(str, outcome.detail)) if outcome.detail else None, visible=bool(outcome.detail)),
        gr.Video(str(outcome.file) if is_playable else None, visible=is_playable),
        gr.Image(str(outcome.map) if outcome.map else None, visible=bool(outcome.map)),
        gr.Image(str(outcome.sure) if outcome.sure else None, visible=bool(outcome.sure)),
    ]


def empty(text: str) -> list[object]:
    """Return the values of the outputs without a result.

    Args:
        text: What to say instead.
    """
    import gradio as gr

    return [
        text,
        None,
        gr.DownloadButton("Download", value=None, interactive=False),
        gr.ImageSlider(None, visible=False),
        gr.Video(None, visible=False),
        gr.Image(None, visible=False),
        gr.Image(None, visible=False),
    ]
