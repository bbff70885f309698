"""Adversarial losses of generator and discriminator.

All functions take the discriminator's logits of HR (`real`) and of SR (`fake`), of any shape. A loss is a scalar: a
mean over the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

from keras import ops

from srlib.training.types import Tensor


def vanilla_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Return −log σ(fake) (Ledig et al. 2017, equation 6)."""
    return ops.mean(ops.softplus(-fake))


def vanilla_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return −log σ(real) − log(1 − σ(fake)) (Goodfellow et al. 2014)."""
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))


def vanilla_probabilities(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean probability of being real that the discriminator gives to HR and to SR."""
    return ops.mean(ops.sigmoid(real)), ops.mean(ops.sigmoid(fake))


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Return the generator's relativistic average loss (Jolicoeur-Martineau 2018; ESRGAN, Wang et al. 2018, eq. 2)."""
    return relativistic_discriminator(fake, real)


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return −log σ(real − mean fake) − log(1 − σ(fake − mean real)), with means over the batch (ESRGAN, eq. 1)."""
    return ops.mean(ops.softplus(ops.mean(fake) - real)) + ops.mean(ops.softplus(fake - ops.mean(real)))


def relativistic_probabilities(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean probability of being more real than the average of the other kind, for HR and for SR."""
    return ops.mean(ops.sigmoid(real - ops.mean(fake))), ops.mean(ops.sigmoid(fake - ops.mean(real)))


def paired_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Return −log σ(fake − real), with each logit of SR against that of HR at the same position.

    The relativistic pairing of Jolicoeur-Martineau 2018 (arXiv:1807.00734, RpGAN). HR and SR show the same scene there,
    so what the scene itself does to the logits cancels.
    """
    return paired_discriminator(fake, real)


def paired_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return −log σ(real − fake), position by position."""
    return ops.mean(ops.softplus(fake - real))


def paired_probabilities(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean probability of being the more real one of its pair, for HR and for SR."""
    return ops.mean(ops.sigmoid(real - fake)), ops.mean(ops.sigmoid(fake - real))


@dataclass(frozen=True)
class AdversarialLoss:
    """The two sides of a GAN's loss, as functions of (logits of HR, logits of SR).

    Attributes:
        generator: The generator's loss.
        discriminator: The discriminator's loss.
        probabilities: Mean probabilities that the discriminator gives to HR and SR; 0.5 if it cannot separate them.
    """

    generator: Callable[[Tensor, Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]
    probabilities: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


ADVERSARIAL_LOSSES = {
    "vanilla": AdversarialLoss(vanilla_generator, vanilla_discriminator, vanilla_probabilities),
    "relativistic": AdversarialLoss(relativistic_generator, relativistic_discriminator, relativistic_probabilities),
    "paired": AdversarialLoss(paired_generator, paired_discriminator, paired_probabilities),
}
"""`finetune.adversarial` → its functions."""
