"""The common form of networks from files of other tools."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from srlib.evaluation.benchmark import Cost

Floats = npt.NDArray[np.float32]

MAX_BYTES = 2**31 - 1
"""Largest file of a network: protobuf's own limit."""

GRAPH_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)
"""What TensorFlow, OpenVINO and protobuf raise, beside errors of their own, for a graph that they cannot work with."""


@dataclass(frozen=True)
class Graph:
    """A network from a file.

    Attributes:
        run: Function float32 [1, h, w, C] → float32 [1, scale·h, scale·w, C].
        cost: Parameters and multiply-adds.
    """

    run: Callable[[Floats], Floats]
    cost: Cost
