"""The section `prepare.degradation`: random blur, resizing, noise and compression of the LR patches."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from srlib.schema import Fraction, Section, text_of


def _ascending(pair: list[float]) -> list[float]:
    if pair[0] > pair[1]:
        raise ValueError(f"expected the lower value first, got {text_of(pair)}")
    return pair


Above0 = Annotated[float, Field(gt=0)]
Range = Annotated[list[Annotated[Above0, Field(le=20)]], Field(min_length=2, max_length=2), AfterValidator(_ascending)]
SigmaRange = Annotated[
    list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=2, max_length=2), AfterValidator(_ascending)
]
QualityRange = Annotated[
    list[Annotated[int, Field(ge=1, le=100)]], Field(min_length=2, max_length=2), AfterValidator(_ascending)
]
Method = Literal["area", "bilinear", "bicubic", "antialiased"]


class Blur(Section):
    """A Gaussian blur with random width, ellipse and tails."""

    probability: Fraction = Field(default=1.0, description="Share of patches that are blurred in this pass.")
    sigma: Range = Field(default=[0.2, 3.0], description="Standard deviation in pixels: lowest and highest.")
    anisotropic: Fraction = Field(default=0.5, description="Share of blurs with an elliptic kernel at a random angle.")
    generalized: Fraction = Field(default=0.2, description="Share of blurs whose tails differ from a Gaussian's.")
    shape: Range = Field(
        default=[0.5, 4.0], description="Exponent of the generalized Gaussian; below 1 heavier tails, above 1 flatter."
    )


class Resizing(Section):
    """A resize step as common software does it. The last pass always resizes to the LR size."""

    factor: Range = Field(
        default=[0.3, 1.5], description="Factor of the size, drawn uniformly in its logarithm; unused in the last pass."
    )
    methods: Annotated[list[Method], Field(min_length=1)] = Field(
        default=["area", "bilinear", "bicubic", "antialiased"],
        description="Methods, each with the same probability; `antialiased` is MATLAB's bicubic. A method listed twice "
        "is twice as likely.",
    )


class Noise(Section):
    """Gaussian or shot noise."""

    probability: Fraction = Field(default=1.0, description="Share of patches that receive noise in this pass.")
    sigma: SigmaRange = Field(default=[1.0, 30.0], description="Standard deviation of Gaussian noise, levels of 255.")
    poisson: Fraction = Field(default=0.5, description="Share of noisy patches with shot noise instead of Gaussian.")
    scale: Range = Field(
        default=[0.05, 3.0], description="Strength of shot noise; 1 is 255 photons at full brightness."
    )
    gray: Fraction = Field(default=0.4, description="Share of noisy patches with equal noise in all channels.")


class Compression(Section):
    """JPEG or WebP by the real encoder."""

    probability: Fraction = Field(default=1.0, description="Share of patches that are compressed in this pass.")
    quality: QualityRange = Field(default=[30, 95], description="Quality of the encoder: lowest and highest.")
    webp: Fraction = Field(default=0.1, description="Share of compressed patches with WebP instead of JPEG.")
    full_chroma: Fraction = Field(default=0.3, description="Share of JPEGs without chroma subsampling (4:4:4).")


class DegradationPass(Section):
    """One pass: blur, resizing, noise, compression, in this order. A step that is left out does not happen."""

    probability: Fraction = Field(
        default=1.0, description="Share of patches that go through this pass; always 1 for the last one."
    )
    blur: Blur | None = Field(default=None, description="Blur of this pass.")
    resize: Resizing = Field(default=Resizing(), description="Resizing of this pass.")
    noise: Noise | None = Field(default=None, description="Noise of this pass.")
    compression: Compression | None = Field(default=None, description="Compression of this pass.")


class Degradation(Section):
    """Random degradation of LR patches; two passes are Real-ESRGAN's second-order degradation (Wang et al. 2021)."""

    clean: Fraction = Field(default=0.1, description="Share of patches that are only downscaled by MATLAB's bicubic.")
    passes: Annotated[list[DegradationPass], Field(min_length=1, max_length=2)] = Field(
        description="One or two passes; the last one resizes to the LR size."
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield keys that the last pass would ignore: it always happens, and always resizes to the LR size."""
        last, place = self.passes[-1], f"passes[{len(self.passes) - 1}]"
        if last.probability != 1:
            yield f"{place}.probability", "the last pass makes the LR image and always happens; remove it"
        if last.resize.factor != Resizing().factor:
            yield f"{place}.resize.factor", "has no effect in the last pass; remove it"
