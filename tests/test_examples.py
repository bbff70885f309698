"""Every Python example of the documentation runs: here, in a test that is named, or its page says why not."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import srlib

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "srlib/weights/MODEL_CARD.md"])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_RUN = "not run by srlib's tests"
"""A sentence before an example with these words gives the reason."""

RUN_ELSEWHERE = {
    "docs/how-to/add-a-network.md": "tests/models/test_networks.py",
    "docs/how-to/export-a-model.md": "tests/inference/test_export_formats.py",
    "docs/how-to/serve-a-model.md": "tests/tracking/test_serving.py",
}

Prepare = Callable[[Path], dict[str, Any]]
"""Makes what an example needs in the current folder; returns the names that it uses."""


def image(path: Path) -> Path:
    y, x = np.mgrid[:12, :16]
    srlib.write_image(path, np.stack([10 * x, 20 * y, 5 * x + 7 * y], 2).astype(np.uint8))
    return path


def holiday(folder: Path) -> dict[str, Any]:
    image(folder / "holiday" / "beach.png")
    image(folder / "photo.jpg")
    return {}


def film(folder: Path) -> dict[str, Any]:
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")
    with av.open("clip.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 240, 136, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((136, 240, 3), 90, np.uint8), format="rgb24")
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return {}


def scene(folder: Path) -> dict[str, Any]:
    rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")
    values = np.arange(12 * 16, dtype=np.int16).reshape(1, 12, 16)
    transform = rasterio.transform.from_origin(500_000, 5_000_000, 10, 10)
    options = {"driver": "GTiff", "height": 12, "width": 16, "count": 1, "dtype": "int16", "crs": "EPSG:32633"}
    with rasterio.open("scene.tif", "w", transform=transform, **options) as file:
        file.write(values)
    return {}


def benchmark(folder: Path) -> dict[str, Any]:
    (folder / "srlib/weights").mkdir(parents=True)
    for name in ("free-x4", "psnr-x4"):
        (folder / "srlib/weights" / name).symlink_to(ROOT / "srlib/weights" / name)
    hr = np.zeros((32, 32, 3), np.uint8)
    hr[:, 16:] = 200
    srlib.write_image("data/raw/test/Set5/HR/step.png", hr)
    return {}


def runs(folder: Path) -> dict[str, Any]:
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    experiment = mlflow.create_experiment("srlib")
    with mlflow.start_run(experiment_id=experiment, run_name="evaluate"):
        mlflow.log_metric("test/sample/SRGAN/psnr_y", 21.5)
    return {}


def term(folder: Path) -> dict[str, Any]:
    """Return the names that the files to be changed have at the place of each change."""
    pytest.importorskip("keras")
    from keras import ops
    from pydantic import Field

    from srlib.schema import NonNegative
    from srlib.training.gan.terms import LossTerm
    from srlib.training.types import Tensor

    return {
        "ops": ops, "Tensor": Tensor, "Field": Field, "NonNegative": NonNegative, "LossTerm": LossTerm,
        "LossInputs": SimpleNamespace, "section": SimpleNamespace(edge_weight=0.5), "value": float, "np": np,
        "pytest": pytest,
    }  # fmt: skip


EXAMPLES: dict[str, Prepare] = {
    "docs/experiments/2026-11-26-self-ensemble.md": benchmark,
    "docs/how-to/add-a-loss-term.md": term,
    "docs/how-to/track-and-compare.md": runs,
    "docs/how-to/upscale-films.md": film,
    "docs/how-to/upscale-rasters.md": scene,
    "docs/how-to/upscale.md": holiday,
    "docs/reference/api.md": holiday,
}
SLOW = {"docs/experiments/2026-11-26-self-ensemble.md", "docs/how-to/track-and-compare.md"}
RESULTS = {
    "docs/how-to/upscale-films.md": ["big.mp4"],
    "docs/how-to/upscale-rasters.md": ["scene-x4.tif"],
    "docs/how-to/upscale.md": ["holiday-x4/beach.png", "big.png"],
    "docs/reference/api.md": ["holiday-x4/beach.png"],
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the Python examples of a page, each with the paragraph before it."""
    text = page.read_text(encoding="utf-8")
    return [(text[: match.start()].rstrip().rpartition("\n\n")[2], match[1]) for match in BLOCK.finditer(text)]


def test_no_example_is_left_out() -> None:
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        is_run = name in EXAMPLES or name in RUN_ELSEWHERE
        reasons = [NOT_RUN in before.replace("\n", " ") for before, _ in blocks(page)]
        assert all(reasons) or is_run, f"{name}: has Python examples that no test runs"
        assert not (is_run and not reasons), f"{name}: has no Python examples any more"
    for page, test in RUN_ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not read {page}"


@pytest.mark.parametrize(
    "page", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in EXAMPLES]
)
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = EXAMPLES[page](tmp_path)
    for before, code in blocks(ROOT / page):
        if NOT_RUN in before.replace("\n", " "):
            continue
        exec(compile(re.sub(r"\A {4}", "", code), page, "exec"), names)
    for result in RESULTS.get(page, ()):
        assert (tmp_path / result).stat().st_size > 100


def test_the_loss_term_of_the_page_is_right() -> None:
    names = term(ROOT)
    (_, function), _, (_, table), _, (_, test) = blocks(ROOT / "docs/how-to/add-a-loss-term.md")
    exec(function, names)
    exec(table, names)
    assert names["terms"][-1].optional, "a term that is always computed would change the outputs of every recipe"
    names["losses"] = SimpleNamespace(edge=names["edge"])
    exec(test, names)
    names["test_the_edge_loss_ignores_a_cast_and_sees_a_step"]()
