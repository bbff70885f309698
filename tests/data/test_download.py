"""The folder of each role, from a web server on this machine."""

import hashlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from srlib.data import sources
from srlib.data.download import download
from srlib.data.sources import Source
from srlib.errors import SrlibError
from srlib.imaging.read import read_image
from srlib.params import Download

from .conftest import CONTENT, faults, place, png, source, zipped

pytestmark = pytest.mark.usefixtures("short")


@pytest.fixture
def div2k(server, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Archives with DIV2K's own names and tiny images, on this machine's server: part → content."""
    made = {}
    real = sources.div2k_members
    for part in ("train_HR", "train_LR_bicubic_X4", "valid_HR"):
        made[part] = zipped({name: png(number) for number, name in enumerate(real(part))})
        server.files[f"/DIV2K_{part}.zip"] = made[part]

    def small(part: str) -> Source:
        return source(server, f"/DIV2K_{part}.zip", made[part])

    monkeypatch.setattr(sources, "div2k", small)
    return made


def zoomed(content: bytes) -> bytes:
    """Return an image as a PNG of 60 by 40 pixels."""
    Image.open(io.BytesIO(content)).resize((60, 40)).save(out := io.BytesIO(), "PNG")
    return out.getvalue()


def recipe(**changes: object) -> Download:
    return Download.model_validate({"train": "none", "test": ["sample"], "features": "none"} | changes)


def test_div2k_is_unpacked_into_folders(div2k: dict, server, store: Path, tmp_path: Path) -> None:
    params = recipe(train="div2k-bicubic", test=["sample", "DIV2K"])
    out = tmp_path / "raw" / "train"
    download("train", out, params, scale=4, store=store)
    assert sorted(path.name for path in out.iterdir()) == ["HR", "LR", "SOURCES.json"]
    assert sorted(path.name for path in (out / "HR").iterdir()) == [f"{n:04}.png" for n in range(1, 801)]
    assert sorted(path.name for path in (out / "LR").iterdir()) == [f"{n:04}x4.png" for n in range(1, 801)]
    assert (out / "LR" / "0800x4.png").read_bytes() == png(799)
    facts = json.loads((out / "SOURCES.json").read_text())
    assert facts["train"] == "div2k-bicubic"
    assert [fact["sha256"] for fact in facts["files"]] == [
        hashlib.sha256(div2k[part]).hexdigest() for part in ("train_HR", "train_LR_bicubic_X4")
    ]
    before = len(server.requests)
    shutil.rmtree(out)  # as DVC does before a stage runs again
    download("train", out, params, scale=4, store=store)
    assert len(server.requests) == before and len(list((out / "HR").iterdir())) == 800
    download("test", tmp_path / "raw" / "test", params, scale=4, store=store)
    assert len(list((tmp_path / "raw/test/DIV2K/HR").iterdir())) == 100
    assert server.requests[before:] == [("/DIV2K_valid_HR.zip", 0)]


def test_partial_file_survives_cleared_outputs(div2k: dict, server, store: Path, tmp_path: Path) -> None:
    server.faults["/DIV2K_valid_HR.zip"] = [faults.drop(0.5), *[faults.drop(0.0)] * 9]
    out = tmp_path / "raw" / "test"
    with pytest.raises(SrlibError, match=r"DIV2K_valid_HR.zip"):
        download("test", out, recipe(test=["DIV2K"]), scale=4, store=store)
    assert not out.exists()
    shutil.rmtree(tmp_path / "raw", ignore_errors=True)
    server.faults.clear()
    server.requests.clear()
    download("test", out, recipe(test=["DIV2K"]), scale=4, store=store)
    assert server.requests == [("/DIV2K_valid_HR.zip", len(div2k["valid_HR"]) // 2)]


def test_the_sample_needs_no_network(store: Path, tmp_path: Path) -> None:
    for role, folder, names in (
        ("train", "HR", sources.SAMPLE_TRAIN),
        ("test", "sample/HR", sources.SAMPLE_TEST),
        ("features", ".", {"SOURCES.json": ()}),
    ):
        download(role, tmp_path / role, recipe(train="sample"), scale=4, store=store, mirror="/nowhere")
        assert {path.name for path in (tmp_path / role / folder).iterdir()} == set(names)
        for name, facts in names.items():
            assert not facts or hashlib.sha256((tmp_path / role / folder / name).read_bytes()).hexdigest() == facts[1]
    assert list(store.iterdir()) == []


def test_photographs_are_made_ready(server, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zoomed(png(7))
    server.files["/photo%20one.png"] = content
    origin = source(server, "/photo%20one.png", content)
    items = [sources.Item(origin, f"HR/{name}.png", factor=factor) for name, factor in (("a", 0.5), ("b", 0.25))]
    monkeypatch.setattr(sources, "_free_photos", lambda: items)
    out = tmp_path / "train"
    download("train", out, recipe(train="free-photos"), scale=4, store=store)
    assert [read_image(out / f"HR/{name}.png").shape for name in ("a", "b")] == [(20, 30, 3), (10, 15, 3)]
    facts = json.loads((out / "SOURCES.json").read_text())
    assert facts["train"] == "free-photos" and facts["files"][1]["sha256"] == hashlib.sha256(content).hexdigest()
    download("train", out, recipe(train=["sample", "free-photos"]), scale=4, store=store)
    assert (out / "HR/free-photos/a.png").is_file() and (out / "HR/sample/astronaut.png").is_file()


def test_adding_a_set_fetches_that_set_only(shared: Path, store: Path, tmp_path: Path, bars) -> None:
    mirror = str(shared / "mirror")
    out = tmp_path / "test"
    download("test", out, recipe(test=["Set5"]), scale=3, store=store, mirror=mirror)
    assert sorted(path.name for path in (out / "Set5/HR").iterdir()) == [
        f"{name}.png" for name in ("baby", "bird", "butterfly", "head", "woman")
    ]
    first = (out / "Set5/HR/baby.png").read_bytes()
    assert first == (shared / "mirror/SelfExSR/data/Set5/image_SRF_3/img_001_SRF_3_HR.png").read_bytes()
    download("test", out, recipe(test=["Set5", "Set14"]), scale=3, store=store, mirror=mirror)
    assert sorted(path.name for path in out.iterdir()) == ["SOURCES.json", "Set14", "Set5"]
    assert [bar.total for bar in bars] == [5, 14]


def test_feature_weights_of_ones_own(store: Path, tmp_path: Path) -> None:
    own = tmp_path / "my weights.h5"
    own.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    params = recipe(features={"file": str(own), "sha256": digest})
    download("features", tmp_path / "out", params, scale=4, store=store)
    assert (tmp_path / "out/my weights.h5").read_bytes() == b"weights"
    own.write_bytes(b"changed")
    with pytest.raises(SrlibError, match=f"my weights.h5: expected the sha256 {digest}, got "):
        download("features", tmp_path / "out", params, scale=4, store=store)
    assert (tmp_path / "out/my weights.h5").read_bytes() == b"weights"
    own.unlink()
    with pytest.raises(SrlibError, match=r"my weights.h5: no such file"):
        download("features", tmp_path / "out", params, scale=4, store=store)


def test_feature_weights_out_of_reach_name_the_choices(server, store: Path, tmp_path: Path, monkeypatch) -> None:
    gone = replace(sources.VGG19, address=f"{server.address}/gone/vgg19.h5")
    monkeypatch.setitem(sources.FEATURE_WEIGHTS, "vgg19", gone)
    with pytest.raises(SrlibError, match=r"vgg19\.h5: could not be fetched from .*: HTTP 404") as caught:
        download("features", tmp_path / "out", recipe(features="vgg19"), scale=4, store=store)
    line = str(caught.value)
    assert "\n" not in line and "; or set download.features to squeezenet, or to {file: ..., sha256: ...}" in line
    assert (Path(__file__).parents[2] / line.split(": ")[-1]).is_file(), "the page that explains the choices"


def test_changed_output_does_not_reach_the_store(server, store: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sources.FEATURE_WEIGHTS, "vgg19", source(server))
    download("features", tmp_path / "out", recipe(features="vgg19"), scale=4, store=store)
    with (tmp_path / "out/one.bin").open("r+b") as file:
        file.write(b"scribble")
    assert place(store, source(server)).read_bytes() == CONTENT


def test_a_bad_archive_leaves_no_output(div2k: dict, server, store: Path, tmp_path: Path) -> None:
    div2k["valid_HR"] = server.files["/DIV2K_valid_HR.zip"] = zipped({"set/0.png": png(0)})
    with pytest.raises(SrlibError, match="expected 100 images"):
        download("test", tmp_path / "raw" / "test", recipe(test=["DIV2K"]), scale=4, store=store)
    assert list((tmp_path / "raw").iterdir()) == []
