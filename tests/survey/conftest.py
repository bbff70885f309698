"""A survey on disk, for the tests of its page, server and scores."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from srlib.imaging.resize import crop_to_multiple, downscale, resize
from srlib.imaging.write import write_png
from srlib.survey.answers import Answers, Survey, read_key, read_page
from srlib.survey.page import SurveyOptions, make_page

OPINION = {"bicubic": 2, "EDSR": 3, "SRGAN": 4, "original": 5}
"""What the raters of these tests think of each method."""


def photographs() -> dict[str, np.ndarray]:
    """Photographs that come with scikit-image, uint8 RGB, small cuts of different sizes."""
    import skimage.data

    whole = {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket", "camera")}
    whole["camera"] = np.repeat(whole["camera"][:, :, None], 3, axis=2)
    return {name: image[20 : 132 + 4 * i, 100 : 260 - 8 * i] for i, (name, image) in enumerate(whole.items())}


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images as the evaluation writes them, `<Set>/<method>/<name>.png`: two sets, five images, four versions.

    The versions of the trained methods are stand-ins: upscaled from images that were downscaled less.
    """
    folder = tmp_path_factory.mktemp("images")
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
    """A survey on disk: three images are rated, two are examples."""

    page: Path
    key: Path

    @property
    def survey(self) -> Survey:
        return read_page(self.page)

    @property
    def items(self) -> dict[str, dict[str, str]]:
        """Id → set, image, method, as only the maker knows."""
        return {name: item.model_dump(by_alias=True) for name, item in read_key(self.key).items.items()}

    def answers(
        self, rater: str, votes: int | None = None, revision: int = 1, device: str | None = None, **opinion: int
    ) -> bytes:
        """What an honest page would send for a rater who thinks `OPINION`, or `opinion`."""
        think = OPINION | opinion
        order = self.survey.presentation(rater)[:votes]
        content = {
            "format": "srlib survey answers 1",
            "survey": self.survey.survey,
            "rater": rater,
            "revision": revision,
            "language": "en",
            **({"device": device} if device else {}),
            "votes": [[item, think[self.items[item]["method"]]] for item in order],
            "seal": "0" * 64,
        }
        seal = self.survey.seal_of(Answers.model_validate_json(json.dumps(content)))
        return json.dumps(content | {"seal": seal}).encode()


@pytest.fixture(scope="session")
def made(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("survey")
    make_page(images, folder / "survey.html", folder / "key.json", SurveyOptions(seed=3))
    return Made(folder / "survey.html", folder / "key.json")
