"""The models that come with srlib; light to import."""

from dataclasses import dataclass
from pathlib import Path

from srlib.errors import SrlibError

SHIPPED = Path(__file__).parents[1] / "weights"
AUTO = "auto"
"""Name that stands for the model that fits each image; the default for images and films."""


@dataclass(frozen=True)
class ModelPair:
    """PSNR-oriented weights, and those that adversarial training made of them.

    Attributes:
        psnr: Name of the PSNR-oriented model.
        gan: Name of its GAN counterpart, with which `fidelity` blends it.
    """

    psnr: str
    gan: str


CLEAN_MODEL, PHOTO_MODEL = "free-x4", "photo-x4"
"""The default models for clean images, and for photographs with noise, blur or JPEG artifacts.

Both were trained on freely licensed photographs alone. psnr-x4 is .1 to .2 dB better on the test sets, and was trained
on images that were published for research: docs/experiments/2026-11-30-free-default.md.
"""

CLEAN_MODELS = {2: "psnr-x2", 3: "psnr-x3", 4: CLEAN_MODEL}
"""The models for clean images that `auto` takes, by their factors."""

FAST_MODEL = "fast-x4"
"""A small network for films of clean images; it has no GAN counterpart."""

PHOTO_PAIR = ModelPair(PHOTO_MODEL, "photo-gan-x4")
"""The models for photographs with noise, blur or JPEG artifacts."""

PAIRS = (
    ModelPair(CLEAN_MODEL, "gan-x4"),
    PHOTO_PAIR,
    ModelPair("psnr-x4", "gan-x4"),
)
"""All pairs; a model is there once its folder is. A model belongs to the first pair that names it."""


def shipped_models() -> list[str]:
    """Return the names of the models that come with srlib.

    Returns:
        Names that `open_model` accepts, sorted.

    Example:
        >>> import srlib
        >>> "psnr-x4" in srlib.shipped_models()
        True
    """
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def shipped_pair(model: str) -> ModelPair:
    """Return the pair that a shipped model belongs to.

    Raises:
        SrlibError: The model is not part of a pair of which both models are there.
    """
    for pair in PAIRS:
        if model in (pair.psnr, pair.gan) and {pair.psnr, pair.gan} <= set(shipped_models()):
            return pair
    raise SrlibError(
        f"{model}: fidelity needs two models: name the one with GAN weights too (--gan), or use a shipped pair"
    )


def auto_can_blend() -> bool:
    """Return whether both models of `auto` have their GAN counterparts here."""
    pairs = [pair for pair in PAIRS if pair.psnr in (CLEAN_MODEL, PHOTO_MODEL)]
    return {name for pair in pairs for name in (pair.psnr, pair.gan)} <= set(shipped_models())


def model_for_photographs(model: str) -> str | None:
    """Return the shipped model to take instead of a shipped one for clean images where an image is not clean.

    Returns:
        A model that is as faithful or as sharp as `model`; None for models for photographs, and for other models.

    Example:
        >>> model_for_photographs("fast-x4"), model_for_photographs("photo-x4")
        ('photo-x4', None)
    """
    photographs = (PHOTO_PAIR.psnr, PHOTO_PAIR.gan)
    if model in photographs or model not in shipped_models():
        return None
    better = PHOTO_PAIR.gan if model in {pair.gan for pair in PAIRS} else PHOTO_PAIR.psnr
    return better if better in shipped_models() else None
