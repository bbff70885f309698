"""Sections `download` and `prepare`: what is fetched, and how images become patches."""

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field

from srlib.params.degradation import Degradation
from srlib.params.image_sets import TEST_SCALES, OwnImages, TestSet, TrainSet, list_mistakes
from srlib.schema import PathText, Positive, Section, Sha256


class FeatureFile(Section):
    """A file of network weights, checked against its SHA-256."""

    file: PathText = Field(description="Path of the file.")
    sha256: Sha256 = Field(description="SHA-256 of the file: `sha256sum FILE`.")


class Download(Section):
    """What is fetched before any work."""

    train: TrainSet | Literal["none"] | OwnImages | Annotated[list[TrainSet | OwnImages], Field(min_length=1)] = Field(
        description="Training images: `sample` (six photographs from scikit-image), `free-photos` (522 freely licensed "
        "images, which the shipped weights were trained on), DIV2K with one of its two kinds of LR images, any "
        "other archive or folder, a list of several sets (each gets a folder of its own below HR and "
        "LR), or `none` where `prepare.images` is a folder of your own."
    )
    test: Annotated[list[TestSet | OwnImages], Field(min_length=1)] = Field(
        description="Test sets, published ones by name and any others. BSD100 and Urban100 exist at scale 4 only. LR "
        "images are computed, except for other sets with `lr`."
    )
    features: Literal["none", "vgg19", "squeezenet"] | FeatureFile = Field(
        description="ImageNet weights of the feature network for the perceptual loss: VGG19's from Keras (80 MB), "
        "SqueezeNet's from GitHub (3 MB), a Keras file (.h5) of your own, or `none` with "
        "`finetune.features.weights: random`."
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield lists of sets that do not fit together, and weights in another format."""
        if isinstance(self.train, list):
            yield from list_mistakes("train", self.train, get_args(TrainSet))
        yield from list_mistakes("test", self.test, get_args(TestSet))
        if isinstance(self.train, OwnImages) and "HR" not in self.train.patterns:
            yield "train.hr", "expected a pattern of the HR images, got none; a list may hold their archive too"
        if isinstance(self.features, FeatureFile) and not self.features.file.endswith(".h5"):
            yield "features.file", f"expected a file of Keras weights, .h5, got {self.features.file}"

    @property
    def test_sets(self) -> list[str]:
        """Return the names of the test sets, each once."""
        return list(dict.fromkeys(entry if isinstance(entry, str) else str(entry.name) for entry in self.test))

    @property
    def own_images(self) -> dict[str, OwnImages]:
        """Return the archives and folders that are not published sets, by their key in this section."""
        entries: dict[str, object] = {f"test[{index}]": entry for index, entry in enumerate(self.test)}
        if isinstance(self.train, list):
            entries |= {f"train[{index}]": entry for index, entry in enumerate(self.train)}
        else:
            entries["train"] = self.train
        return {key: entry for key, entry in sorted(entries.items()) if isinstance(entry, OwnImages)}

    @property
    def without_lr(self) -> list[str]:
        """Return the sets of a training list, or the set of your own (`train`), that come without LR images."""
        if isinstance(self.train, str):
            return []
        folders: dict[str, set[str]] = {}
        for entry in [self.train] if isinstance(self.train, OwnImages) else self.train:
            if isinstance(entry, OwnImages):
                folders.setdefault(entry.name or "train", set()).update(entry.patterns)
            elif entry in ("sample", "free-photos"):
                folders[entry] = {"HR"}
        return [name for name, kinds in folders.items() if "LR" not in kinds]

    def check(self, scale: int) -> None:
        """Check that every test set exists at this scale.

        Raises:
            ValueError: One line about the first that does not.
        """
        for key, message in self.scale_mistakes(scale):
            raise ValueError(f"download.{key}: {message}")

    def scale_mistakes(self, scale: int) -> Iterator[tuple[str, str]]:
        """Yield the test sets that do not exist at this scale."""
        for name in self.test:
            if isinstance(name, OwnImages):
                continue
            if scale not in (scales := TEST_SCALES.get(name, (scale,))):
                valid = ", ".join(map(str, scales))
                yield "test", f"{name} exists at scale {valid} only, and `scale` is {scale}; remove {name}"


class Prepare(Section):
    """How images become aligned LR/HR patches. Sizes are in LR pixels; HR is that times `scale`."""

    images: PathText = Field(description="Folder of training images; inner folders are read too.")
    lr: Literal["make", "given"] = Field(
        default="make",
        description="`make` downscales the HR images; `given` takes LR images that come with them (folders HR and LR).",
    )
    edges: Literal["clamp", "mirror"] = Field(
        default="mirror", description="What MATLAB's bicubic downscaling assumes beyond an image's edges."
    )
    noise: float = Field(
        default=0.0, ge=0, le=100, description="Standard deviation of Gaussian noise added to LR, in levels of 0–255."
    )
    jpeg: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="JPEG quality that LR is compressed with after the noise; `null`: no compression."
    )
    degradation: Degradation | None = Field(
        default=None,
        description="Random degradation of LR patches, drawn anew in every training step; `null`: plain downscaling.",
    )
    patch: int = Field(default=64, ge=8, le=1024, description="Side of a stored patch, in LR pixels.")
    stride: Positive = Field(default=64, description="Distance between the corners of patches, in LR pixels.")
    sizes: Annotated[list[Annotated[float, Field(ge=0.1, le=1)]], Field(min_length=1, max_length=16)] = Field(
        default=[1.0],
        description="Factors by which each image is downscaled before patches are cut: more patches, finer detail.",
    )
    flat: float = Field(
        default=0.0,
        ge=0,
        le=127.5,
        description="Patches whose HR luma has a standard deviation below this, in levels of 0–255, are dropped.",
    )
    detail: float = Field(
        default=0.0,
        ge=0,
        le=255,
        description="Patches that bicubic upscaling restores with a smaller root mean square error than this, in "
        "levels of 0–255, are dropped.",
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the images that are held out for validation, at least one."
    )
    unusable: Literal["stop", "skip"] = Field(
        default="stop",
        description="What happens if images are damaged or too small: an error, or they are listed and left out.",
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield duplicate sizes, degradations of LR images that are given, and two kinds of degradation at once."""
        if len(set(self.sizes)) < len(self.sizes):
            yield "sizes", f"expected each size once, got {self.sizes}"
        if self.degradation and (self.noise or self.jpeg):
            yield "degradation", "expected either `degradation` or `noise` and `jpeg`, got both; remove one of them"
        if self.lr == "given":
            for key, value, valid in (
                ("noise", self.noise, 0.0),
                ("jpeg", self.jpeg, None),
                ("degradation", self.degradation, None),
                ("sizes", self.sizes, [1.0]),
            ):
                if value != valid:
                    yield key, f"expected no value with `lr: given`, got {value}; remove it, or set `lr: make`"
