"""Types that the modules of `srlib.training` share."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tensor: TypeAlias = Any
"""A tensor of the Keras backend in use, or a NumPy array where Keras converts it. Keras has no static types."""

LogRecord: TypeAlias = dict[str, float]
"""Column → value: one line of loss.csv or validation.csv."""

ByteArray: TypeAlias = NDArray[np.uint8]
"""Images with values from 0 to 255."""

Weights: TypeAlias = list[NDArray[np.float32]]
"""The values of `network.variables`, in that order."""


class Sample(NamedTuple):
    """A few held-out patches: LR [N, h, w, 3], HR and SR [N, scale·h, scale·w, 3]."""

    lr: ByteArray
    hr: ByteArray
    sr: ByteArray
