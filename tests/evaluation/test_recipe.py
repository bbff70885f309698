"""The evaluate section of params.yaml: what may stand in it, and what is said of a mistake."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from srlib.errors import SrlibError
from srlib.params import Evaluate, load_params

RECIPE = Path(__file__).parents[2] / "recipes/quickstart.yaml"
DIGEST = "0" * 64


def load(folder: Path, **evaluate: Any) -> Evaluate:
    content = yaml.safe_load(RECIPE.read_text())
    content["evaluate"] |= evaluate
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return load_params(folder / "params.yaml").evaluate


def test_all_of_it(tmp_path: Path) -> None:
    file = {"file": "x.npz", "sha256": DIGEST}
    section = load(
        tmp_path,
        self_ensemble=True,
        methods=[{"name": "ESPCN", "file": "ESPCN_x4.pb", "sha256": DIGEST, "channels": "luma", "value_range": 255}],
        lpips={"backbone": file, "linear": file},
    )
    assert section.methods[0].channels == "luma" and section.lpips is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"methods": [{"name": "a", "file": "x.pb"}]}, "sha256: expected, but missing"),
        ({"methods": [{"name": "a", "file": "x.pb", "sha256": "12"}]}, "evaluate.methods[0].sha256: expected"),
        (
            {"methods": [{"name": "a/b", "file": "x.pb", "sha256": DIGEST}]},
            "evaluate.methods[0].name: expected a name without /",
        ),
        ({"methods": [{"name": "bicubic", "file": "x.pb", "sha256": DIGEST}]}, "bicubic is taken"),
        ({"methods": [{"name": "a", "file": "x.pb", "sha256": DIGEST}] * 2}, "a is taken"),
        ({"methods": [{"name": "original", "file": "x.pb", "sha256": DIGEST}]}, "original is taken"),
        ({"lpips": {"backbone": {"file": "x", "sha256": DIGEST}}}, "evaluate.lpips.linear: expected, but missing"),
        ({"self_ensemble": "yes"}, "evaluate.self_ensemble: expected"),
        ({"strips": -1}, "evaluate.strips: expected"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(SrlibError) as error:
        load(tmp_path, **change)
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1
