"""The whole recipe, and what must fit together across its sections."""

from collections.abc import Iterator

from pydantic import Field

from srlib.errors import SrlibError
from srlib.models.base import Scale
from srlib.models.registry import MODELS
from srlib.params.data import Download, Prepare
from srlib.params.evaluation import Evaluate, Registry
from srlib.params.training import Finetune, Pretrain
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
        for name, section in (("pretrain", self.pretrain), ("finetune", self.finetune)):
            if section is not None and section.lr_patch > self.prepare.patch:
                yield (
                    f"{name}.lr_patch",
                    f"expected at most prepare.patch ({self.prepare.patch}), got {section.lr_patch}",
                )
        if self.finetune is not None:
            yield from self._finetune_mistakes(self.finetune)

    def _finetune_mistakes(self, finetune: Finetune) -> Iterator[tuple[str, str]]:
        network, features = self.pretrain.model, finetune.features
        if network.channels != "rgb":
            able = ", ".join(name for name, other in MODELS.items() if other.channels == "rgb")
            yield (
                "finetune",
                f"expected null with {network.name}, which works on luma: an SRGAN needs RGB; write `finetune: null` "
                f"and run `dvc repro pretrain`, or set pretrain.model to one of {able}",
            )
        if features.weights == "file" and self.download.features == "none":
            yield (
                "finetune.features.weights",
                "expected random with `download.features: none`, got file; set download.features to vgg19 or to a file "
                "of your own, or use random weights",
            )
        if features.network == "squeezenet" and self.download.features == "vgg19":
            yield (
                "finetune.features.network",
                "expected vgg19 with `download.features: vgg19`, got squeezenet; set download.features to a file of "
                "SqueezeNet's weights",
            )
