"""Names for the arrays that hold images. RGB throughout, never BGR; rows first: [height, width, channels]."""

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""8-bit RGB [height, width, 3], levels 0 to 255: what training, scoring and reports work on."""

Pixels = npt.NDArray[np.uint8 | np.uint16]
"""Samples of 8 or 16 bits in the whole range of their type: what files hold."""
