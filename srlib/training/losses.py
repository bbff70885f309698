"""Losses. Pictures are float32 NHWC in [0, 1], discriminator scores are logits; every loss is a scalar mean."""

from collections.abc import Callable
from typing import Any

from keras import ops

Loss = Callable[[Any, Any], Any]


def mae(hr: Any, sr: Any) -> Any:
    """Mean absolute error, the loss of EDSR."""
    return ops.mean(ops.abs(hr - sr))


def mse(hr: Any, sr: Any) -> Any:
    """Mean squared error, the loss of SRResNet: it maximises PSNR."""
    return ops.mean(ops.square(hr - sr))


def charbonnier(hr: Any, sr: Any, *, epsilon: float = 1e-3) -> Any:
    """Mean of √((hr − sr)² + ε²), a smooth absolute error (Charbonnier et al. 1994; Lai et al. 2017)."""
    return ops.mean(ops.sqrt(ops.square(hr - sr) + epsilon**2))


def psnr(hr: Any, sr: Any, *, floor: float = 0.01) -> Any:
    """Mean over the batch of `floor` · log(1 + MSE / floor²), each MSE of one picture: what the mean PSNR rewards.

    PSNR takes the logarithm of each picture's error before it is averaged, so a decibel is worth the same in a smooth
    picture as in a busy one (Chen et al. 2021, HINet; there without a floor). Below `floor`, 40 dB, it ends in MSE:
    flat patches without error would pull without bound.
    """
    errors = ops.mean(ops.square(hr - sr), axis=(1, 2, 3))
    return floor * ops.mean(ops.log1p(errors / floor**2))


PIXEL_LOSSES: dict[str, Loss] = {"mae": mae, "mse": mse, "charbonnier": charbonnier, "psnr": psnr}


def repeated(hr: Any, sr: Any, scale: int, *, side: int = 8) -> Any:
    """Mean absolute value of what repeats of the error from LR pixel to LR pixel: a checkerboard, and a color cast.

    Each of the scale² places within an LR pixel is averaged over `side` × `side` neighbors (overlapping by half).
    Detail that is right or wrong by chance cancels there; what the network does in every LR pixel alike does not.
    """
    height, width = (size // scale for size in (hr.shape[1], hr.shape[2]))
    error = (sr - hr)[:, : height * scale, : width * scale]
    places = ops.reshape(error, (-1, height, scale, width, scale * hr.shape[3]))
    places = ops.reshape(ops.transpose(places, (0, 1, 3, 2, 4)), (-1, height, width, scale**2 * hr.shape[3]))
    return ops.mean(ops.abs(ops.average_pool(places, min(side, height, width), strides=max(side // 2, 1))))


def content(hr_features: Any, sr_features: Any, *, scale: float, loss: str = "mse") -> Any:
    """`scale` · mean difference of features: squared (Ledig et al. 2017, equation 5; scale 1 / 12.75²) or absolute
    (`mae`, as ESRGAN's code does).
    """
    return scale * PIXEL_LOSSES[loss](hr_features, sr_features)


def vanilla_generator(real: Any, fake: Any) -> Any:
    """−log σ(fake): low where the discriminator takes the generated patch for real (Ledig et al. 2017, equation 6)."""
    return ops.mean(ops.softplus(-fake))


def vanilla_discriminator(real: Any, fake: Any) -> Any:
    """−log σ(real) − log(1 − σ(fake)) (Goodfellow et al. 2014)."""
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))


def relativistic_generator(real: Any, fake: Any) -> Any:
    """Relativistic average loss of the generator (Jolicoeur-Martineau 2018; ESRGAN, Wang et al. 2018, equation 2)."""
    return relativistic_discriminator(fake, real)


def relativistic_discriminator(real: Any, fake: Any) -> Any:
    """−log σ(real − mean fake) − log(1 − σ(fake − mean real)), each mean over the batch (ESRGAN, equation 1)."""
    return ops.mean(ops.softplus(ops.mean(fake) - real)) + ops.mean(ops.softplus(fake - ops.mean(real)))


def vanilla_scores(real: Any, fake: Any) -> tuple[Any, Any]:
    """Mean probability of being real that the discriminator gives to (HR, SR)."""
    return ops.mean(ops.sigmoid(real)), ops.mean(ops.sigmoid(fake))


def relativistic_scores(real: Any, fake: Any) -> tuple[Any, Any]:
    """Mean probability of being more real than the average of the other kind, of (HR, SR)."""
    return ops.mean(ops.sigmoid(real - ops.mean(fake))), ops.mean(ops.sigmoid(fake - ops.mean(real)))


ADVERSARIAL_LOSSES: dict[str, tuple[Loss, Loss]] = {
    "vanilla": (vanilla_generator, vanilla_discriminator),
    "relativistic": (relativistic_generator, relativistic_discriminator),
}
"""Name → (generator's loss, discriminator's loss), both of (logits of HR, logits of SR)."""

SCORES: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "vanilla": vanilla_scores,
    "relativistic": relativistic_scores,
}
"""Name → what the discriminator thinks of (HR, SR): 0.5 each where it cannot tell them apart."""
