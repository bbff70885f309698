"""A survey on disk, for the tests of its page, server and scores."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from srlib.imaging.resize import crop_to_multiple, downscale, resize
from srlib.imaging.write import write_png
from srlib.survey.answers import Answers, Survey, read_key, read_page
from srlib.survey.page import make

OPINION = {"bicubic": 2, "EDSR": 3, "SRGAN": 4, "original": 5}
"""What the raters of these tests think of each method."""


def photographs() -> dict[str, np.ndarray]:
    """Photographs that come with scikit-image, uint8 RGB, small cuts of different sizes."""
    import skimage.data

    whole = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket", "camera")}
    whole["camera"] = np.repeat(whole["camera"][:, :, None], 3, axis=2)
    return {name: image[20 : 132 + 4 * i, 100 : 260 - 8 * i] for i, (name, image) in enumerate(whole.items())}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the evaluation leaves for a survey, `<Set>/<method>/<name>.png`: two sets, five pictures, four versions.

    The versions of the trained methods are stand-ins: enlargements of less reduced pictures.
    """
    folder = tmp_path_factory.mktemp("pictures")
    for index, (name, image) in enumerate(photographs().items()):
        hr = crop_to_multiple(image, 4)
        versions = {
            "bicubic": resize(downscale(hr, 4), hr.shape[:2]),
            "EDSR": resize(downscale(hr, 2), hr.shape[:2]),
            "SRGAN": resize(resize(hr, 0.75), hr.shape[:2]),
            "original": hr,
        }
        for method, version in versions.items():
            write_png(folder / ("Set5" if index % 2 else "Set14") / method / f"{name}.png", version)
    return folder


@dataclass(frozen=True)
class Made:
    """A survey on disk: three pictures are rated, two are examples."""

    page: Path
    key: Path

    @property
    def survey(self) -> Survey:
        return read_page(self.page)

    @property
    def items(self) -> dict[str, dict[str, str]]:
        """Id → set, picture, method, as only the maker knows."""
        return read_key(self.key)[1]["items"]

    def answers(self, rater: str, votes: int | None = None, revision: int = 1, **opinion: int) -> bytes:
        """What an honest page would send for a rater who thinks `OPINION`, or `opinion`."""
        think = OPINION | opinion
        order = self.survey.presentation(rater)[:votes]
        given = {
            "format": "srlib survey answers 1",
            "survey": self.survey.survey,
            "rater": rater,
            "revision": revision,
            "language": "en",
            "votes": [[item, think[self.items[item]["method"]]] for item in order],
            "seal": "0" * 64,
        }
        seal = self.survey.seal_of(Answers.model_validate_json(json.dumps(given)))
        return json.dumps(given | {"seal": seal}).encode()


@pytest.fixture(scope="session")
def made(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("survey")
    make(pictures, folder / "survey.html", folder / "key.json", seed=3)
    return Made(folder / "survey.html", folder / "key.json")
