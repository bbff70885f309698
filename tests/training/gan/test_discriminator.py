"""The discriminator of the SRGAN."""

import numpy as np
from keras import ops

from srlib.training.gan.discriminator import discriminator


def test_the_discriminator_scores_patches() -> None:
    model = discriminator()
    widths = [model.get_layer(f"conv{i}").filters for i in range(1, 9)]
    strides = [model.get_layer(f"conv{i}").strides[0] for i in range(1, 9)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 512]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 2]
    assert not any(layer.name.startswith("flatten") for layer in model.layers)
    small = discriminator(4)
    for size in (96, 128, 100):
        logits = ops.convert_to_numpy(small(np.random.default_rng(0).random((1, size, size, 3), np.float32)))
        assert logits.shape == (1, -(-size // 16), -(-size // 16), 1)
    assert logits.min() < 0 or logits.max() > 1, "logits, not probabilities"
