"""Sections `evaluate` and `registry`: the benchmark, and the models' names in MLflow."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from srlib.imaging.color import Channels
from srlib.params.data import FeatureFile
from srlib.schema import NonNegative, PathText, Section, Sha256, text_of

ModelName = Literal["pretrained", "gan"]
_REGISTERED_NAME = re.compile(r"\w[\w .{}-]{0,199}")

_LONGEST_NAME = 100


def _row_name(name: str) -> str:
    """Return a name that a folder can have as well."""
    unfit = not name.isprintable() or name.startswith(".") or set(name) & set("/\\")
    if not name or unfit or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"expected a name of 1 to {_LONGEST_NAME} bytes without /, \\ and a leading dot (it also names a folder), "
            f"got {text_of(name)}"
        )
    return name


def _registered_name(name: str) -> str:
    """Return a name that MLflow accepts, also as a part of `models:/NAME@champion`."""
    if not _REGISTERED_NAME.fullmatch(name):
        raise ValueError(
            "expected 1 to 200 letters, digits, spaces and ._-{}, the first one a letter or digit, got " + text_of(name)
        )
    return name


RegisteredName = Annotated[str, AfterValidator(_registered_name)]


class OtherMethod(Section):
    """A row of the table from your own file or folder: a network, or finished images in one folder per set."""

    name: Annotated[str, AfterValidator(_row_name)] = Field(
        description="Name of the row, and of the folder with its images."
    )
    file: PathText = Field(
        description="A model's folder, a network (.pb, .onnx, .xml with .bin, .pth, .safetensors), or a folder of "
        "images."
    )
    sha256: Sha256 = Field(
        description="SHA-256 of the file; for a folder or a .xml, the hash that the error message names."
    )
    channels: Channels = Field(
        default="rgb",
        description="What a foreign network works on: RGB, luma in full range, or luma in studio range (16–235).",
    )
    value_range: Literal[1, 255] = Field(default=1, description="Value of white for a foreign network.")


class Lpips(Section):
    """Weights for LPIPS with SqueezeNet (Zhang et al. 2018)."""

    backbone: FeatureFile = Field(description="SqueezeNet's ImageNet weights without classifier in Keras' layout, .h5.")
    linear: FeatureFile = Field(description="LPIPS' linear weights, .npz.")


class Champion(Section):
    """When a new model becomes the champion in MLflow's registry."""

    set: str = Field(description="Test set that decides.")
    metric: Literal["psnr_y", "ssim_y", "psnr_rgb", "color_error", "lr_psnr", "lpips"] = Field(
        description="Metric that decides, as its mean over the set; `lpips` needs `evaluate.lpips`."
    )
    margin: NonNegative = Field(
        default=0.0, description="By how much the new model must be better, in the unit of the metric (PSNR: dB)."
    )


class Evaluate(Section):
    """The benchmark: test sets, methods beside the trained ones, and what is drawn."""

    images: PathText = Field(description="Folder with one folder per test set.")
    survey: PathText = Field(
        default="data/survey",
        description="Folder of an opinion survey's outcome, from `srlib survey score`; its mean opinion scores are "
        "in the tables. A folder without mos.json: no survey. DVC reads this key, too: write it out.",
    )
    interpolations: list[Literal["nearest", "bilinear", "bicubic"]] = Field(
        default=["nearest", "bilinear", "bicubic"], description="Interpolations in the table."
    )
    self_ensemble: bool = Field(
        default=False,
        description="Add the pre-trained network with self-ensemble: the mean over eight flips and rotations.",
    )
    methods: list[OtherMethod] = Field(default=[], description="Further rows of the table from your own files.")
    lpips: Lpips | None = Field(default=None, description="Weights for the metric LPIPS; `null`: it is left out.")
    strips: int = Field(default=8, ge=0, description="Number of image strips in the report.")
    strip_size: int = Field(
        default=96,
        ge=16,
        le=512,
        description="Side of the detail in an image strip, in HR pixels.",
    )
    champion: dict[ModelName, Champion] = Field(
        default={},
        description="For `pretrained` and `gan`: when a new model becomes the champion in MLflow's registry.",
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield metrics without their weights, and duplicate names of rows."""
        for model, rule in self.champion.items():
            if rule.metric == "lpips" and self.lpips is None:
                yield f"champion.{model}.metric", "lpips needs weights; set `evaluate.lpips`, or use another metric"
        rows = Counter([*self.interpolations, "original", *(method.name for method in self.methods)])
        for name, count in rows.items():
            if count > 1:
                key = "methods" if any(method.name == name for method in self.methods) else "interpolations"
                yield key, f"expected a different name for every row, got {name} {count} times"


class Registry(Section):
    """The trained models' names in MLflow's model registry. A change here runs no stage again."""

    pretrained: RegisteredName = Field(
        default="srlib-x{scale}", description="Name of the pre-trained model; `{scale}` becomes the scale."
    )
    gan: RegisteredName = Field(
        default="srlib-x{scale}-gan", description="Name of the fine-tuned model; `{scale}` becomes the scale."
    )

    def names(self, scale: int) -> dict[str, str]:
        """Return model → name, with the scale in the place of `{scale}`."""
        return {key: str(value).replace("{scale}", str(scale)) for key, value in self}

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield equal names."""
        if self.pretrained == self.gan:
            yield "gan", f"expected another name than `pretrained`, got {self.gan} for both"
