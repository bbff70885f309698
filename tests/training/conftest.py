from pathlib import Path

import numpy as np
import pytest
import skimage.data

from srlib.data.resize import downscale


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `prepare` makes it: 12 training and 4 validation patches of 24 LR pixels, ×4, of a photograph."""
    folder = tmp_path_factory.mktemp("patches")
    hr = skimage.data.coffee()[:384, :384]
    lr = downscale(hr, 4)
    corners = [(y, x) for y in range(0, 96, 24) for x in range(0, 96, 24)]
    for split, chosen in (("train", corners[:12]), ("validation", corners[12:])):
        np.save(folder / f"{split}_lr.npy", np.stack([lr[y : y + 24, x : x + 24] for y, x in chosen]))
        np.save(folder / f"{split}_hr.npy", np.stack([hr[4 * y : 4 * y + 96, 4 * x : 4 * x + 96] for y, x in chosen]))
    return folder
