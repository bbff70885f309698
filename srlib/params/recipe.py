"""The whole recipe, and what must fit together across its sections."""

import math
from collections.abc import Iterator

from pydantic import Field

from srlib.errors import SrlibError
from srlib.models.base import Scale
from srlib.models.checkpoint import GAN_TITLE
from srlib.models.features import LAYERS, least_side
from srlib.models.registry import MODELS
from srlib.params.data import Download, Prepare
from srlib.params.evaluation import Evaluate, Registry
from srlib.params.finetune import Finetune
from srlib.params.training import REACH, Pretrain, Training
from srlib.schema import Section


class Params(Section):
    """The whole recipe: two keys, and one section per stage."""

    scale: Scale = Field(description="Upscaling factor.")
    seed: int = Field(ge=0, lt=2**31, description="Seed for the split, the weights, sampling order and augmentation.")
    download: Download = Field(description="What is fetched.")
    prepare: Prepare = Field(description="How images become patches.")
    pretrain: Pretrain = Field(description="Pre-training.")
    finetune: Finetune | None = Field(description="SRGAN fine-tuning; `null`: only `dvc repro pretrain` will be run.")
    evaluate: Evaluate = Field(description="The benchmark.")
    registry: Registry = Field(default=Registry(), description="Names in MLflow's model registry.")

    @property
    def trainings(self) -> dict[str, Training]:
        """The sections of the trainings by their names, without a `finetune` that is null."""
        return {"pretrain": self.pretrain} | ({"finetune": self.finetune} if self.finetune else {})

    def finetune_section(self) -> Finetune:
        """Return `finetune`.

        Raises:
            SrlibError: The section is null.
        """
        if self.finetune is None:
            raise SrlibError(
                "finetune: expected the parameters of an SRGAN, got null; copy them from a recipe, or "
                "run `dvc repro pretrain`"
            )
        return self.finetune

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield what does not fit together across sections."""
        yield from ((f"download.{key}", text) for key, text in self.download.scale_mistakes(self.scale))
        if self.prepare.lr == "given" and (names := self.download.without_lr):
            yield (
                "prepare.lr",
                f"expected make, got given: {', '.join(names)} of download.train has no LR images; give it `lr`, or "
                "set prepare.lr to make",
            )
        for name, section in self.trainings.items():
            yield from ((f"{name}.{key}", text) for key, text in self._patch_mistakes(section))
        if self.finetune is not None:
            yield from self._finetune_mistakes(self.finetune)
        yield from self._name_mistakes()

    def _patch_mistakes(self, section: Training) -> Iterator[tuple[str, str]]:
        """Yield training patches that the stored ones cannot give."""
        prepare, anew = self.prepare, section.positions == "hr_pixels"
        border = 2 * REACH if anew else 0
        if section.lr_patch > prepare.patch - border:
            less = f" − {border} with `positions: hr_pixels`" if anew else ""
            yield "lr_patch", f"expected at most prepare.patch ({prepare.patch}){less}, got {section.lr_patch}"
        if anew and (prepare.lr == "given" or prepare.noise or prepare.jpeg):
            yield (
                "positions",
                "expected lr_pixels, since LR cannot be made anew with `lr: given`, `noise` or `jpeg` in prepare, got "
                "hr_pixels; write lr_pixels, or use prepare.degradation for noise and compression",
            )

    def _name_mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield names of rows that the trained networks have, and registered names that are equal at this scale."""
        title = self.pretrain.model.title
        trained = {title, GAN_TITLE, *([f"{title}+"] if self.evaluate.self_ensemble else [])}
        for index, method in enumerate(self.evaluate.methods):
            if method.name in trained:
                yield (
                    f"evaluate.methods[{index}].name",
                    f"expected another name than those of the trained networks ({', '.join(sorted(trained))}), got "
                    f"{method.name}",
                )
        names = self.registry.names(self.scale)
        if self.registry.pretrained != self.registry.gan and names["pretrained"] == names["gan"]:
            yield "registry.gan", f"expected another name than `pretrained` at scale {self.scale}, got {names['gan']}"

    def _finetune_mistakes(self, finetune: Finetune) -> Iterator[tuple[str, str]]:
        network, features = self.pretrain.model, finetune.features
        if network.channels != "rgb":
            able = ", ".join(name for name, other in MODELS.items() if other.channels == "rgb")
            yield (
                "finetune",
                f"expected null with {network.name}, which works on luma: an SRGAN needs RGB; write `finetune: null` "
                f"and run `dvc repro pretrain`, or set pretrain.model to one of {able}",
            )
        fetched = self.download.features
        if features.weights == "file" and fetched == "none":
            yield (
                "finetune.features.weights",
                "expected random with `download.features: none`, got file; set download.features to "
                f"{features.network} or to a file of your own, or use random weights",
            )
        pixels = 5 if finetune.discriminator == "features" else 1  # two convolutions of 3×3 without padding
        side = finetune.lr_patch * self.scale - self.scale + 1
        least = least_side(features.network, features.deepest, pixels=pixels)
        if side < least:
            yield (
                "finetune.lr_patch",
                f"expected at least {math.ceil((least - 1) / self.scale) + 1}, since {features.network}'s "
                f"{features.deepest} needs HR patches of {least} pixels (the SRGAN shifts its crops by up to "
                f"{self.scale - 1}), got {finetune.lr_patch}; raise it, or choose an earlier layer",
            )
        if features.weights == "file" and fetched in LAYERS and fetched != features.network:
            yield (
                "finetune.features.network",
                f"expected {fetched} with `download.features: {fetched}`, got {features.network}; "
                f"set download.features to {features.network}",
            )
