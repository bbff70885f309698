import os
import signal

import numpy as np
import pytest

from srlib.data import downscale as module
from srlib.data.downscale import NOTE, degrade_folder, downscale_folder
from srlib.errors import SrlibError
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale
from srlib.imaging.write import write_png
from srlib.params.degradation import Degradation
from srlib.parts import Part
from srlib.signals import Stopped


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_downscaling_a_folder(shared, tmp_path):
    hr = shared / "mirror/SelfExSR/data/Set5/image_SRF_4"
    for path in hr.glob("*_HR.png"):
        (tmp_path / "hr" / path.stem[-5:]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "hr" / path.stem[-5:] / path.name).write_bytes(path.read_bytes())
    assert downscale_folder(tmp_path / "hr", tmp_path / "lr", 4) == 5
    for path in (tmp_path / "lr").rglob("*.png"):
        true = read_image(hr / path.name.replace("_HR", "_LR"))
        np.testing.assert_array_equal(read_image(path), true)


def test_bad_image_is_named_and_others_are_written(tmp_path):
    for name in ("a b.png", "صورة.png"):
        write_png(tmp_path / "hr" / name, pixels(16, 20, 3))
    write_png(tmp_path / "hr" / "small.png", pixels(3, 20, 3))
    (tmp_path / "hr" / "half.png").write_bytes((tmp_path / "hr" / "a b.png").read_bytes()[:200])
    with pytest.raises(SrlibError) as caught:
        downscale_folder(tmp_path / "hr", tmp_path / "lr", 4, "mirror")
    first, second, last = str(caught.value).splitlines()
    assert "half.png: truncated or damaged" in first and "small.png: 20×3 pixels, too small" in second
    assert last == "2 of 4 images were left out"
    assert sorted(path.name for path in (tmp_path / "lr").iterdir()) == [NOTE, "a b.png", "صورة.png"]
    np.testing.assert_array_equal(
        read_image(tmp_path / "lr" / "a b.png"), downscale(pixels(16, 20, 3), 4, edges="mirror")
    )


def test_existing_files_need_force(tmp_path):
    write_png(tmp_path / "hr" / "a.png", pixels(16, 20, 3))
    downscale_folder(tmp_path / "hr", tmp_path / "lr", 4)
    write_png(tmp_path / "hr" / "b.png", pixels(16, 20, 3))
    with pytest.raises(SrlibError, match=r"lr/a\.png: exists, from an earlier run that differs in scale; use --force"):
        downscale_folder(tmp_path / "hr", tmp_path / "lr", 2)
    assert [path.name for path in sorted((tmp_path / "lr").iterdir())] == [NOTE, "a.png"]
    downscale_folder(tmp_path / "hr", tmp_path / "lr", 2, force=True)
    assert read_image(tmp_path / "lr" / "a.png").shape == (8, 10, 3)
    assert downscale_folder(tmp_path / "hr", tmp_path / "lr", 2) == 2


@pytest.mark.parametrize("part", [None, Part(1, 1)])
def test_a_finished_run_continues_with_new_images(tmp_path, capsys, part):
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    params = Degradation.model_validate({"passes": [{"blur": {}}]})
    for run in (
        lambda: downscale_folder(hr, lr / "exact", 4, part=part),
        lambda: degrade_folder(hr, lr / "random", 4, params, part=part),
    ):
        write_png(hr / "a.png", pixels(16, 20, 3))
        assert run() == 1
        write_png(hr / "b.png", pixels(16, 20, 3))
        assert run() == 2 and "continues; 1 of 2 images exist" in capsys.readouterr().err
        (hr / "b.png").unlink()
    assert len(list_images(lr)) == 4


def test_another_image_of_the_same_name_is_noticed(tmp_path):
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    write_png(hr / "a.png", pixels(16, 20, 3))
    downscale_folder(hr, lr, 4)
    assert downscale_folder(hr, lr, 4) == 1
    write_png(hr / "a.png", pixels(24, 20, 3))
    with pytest.raises(SrlibError, match=r"lr/a\.png: exists, made of another version of .*hr/a\.png; use --force to"):
        downscale_folder(hr, lr, 4)
    downscale_folder(hr, lr, 4, force=True)
    assert read_image(lr / "a.png").shape == (6, 5, 3) and downscale_folder(hr, lr, 4) == 1


def test_parts_of_another_folder_keep_their_notes(tmp_path):
    """Each host of a job array may have its own copy of the HR images."""
    for copy, name in (("one", "a"), ("two", "b")):
        write_png(tmp_path / copy / f"{name}.png", pixels(16, 20, 3))
        downscale_folder(tmp_path / copy, tmp_path / "lr", 4, part=Part(1, 1) if name == "a" else None)
    assert downscale_folder(tmp_path / "one", tmp_path / "lr", 4, part=Part(1, 1)) == 1


def test_images_of_other_runs_are_never_taken_for_ones_own(tmp_path):
    """A note does not outlive what it says: with other settings, in another part, from another folder."""
    hr, other, lr = (tmp_path / name for name in ("hr", "other", "lr"))
    write_png(hr / "a.png", pixels(16, 20, 3))
    write_png(other / "b.png", pixels(16, 20, 3))
    downscale_folder(hr, lr, 4)
    downscale_folder(hr, lr, 2, part=Part(1, 1), force=True)
    with pytest.raises(SrlibError, match=r"a\.png: exists; use --force"):
        downscale_folder(hr, lr, 4)
    (lr / "a.png").unlink()
    downscale_folder(hr, lr, 4)
    with pytest.raises(SrlibError, match=r"a\.png: exists; use --force"):
        downscale_folder(hr, lr, 2, part=Part(1, 1))
    downscale_folder(other, lr, 4)
    write_png(other / "a.png", pixels(16, 20, 3))
    with pytest.raises(SrlibError, match=r"a\.png: exists; use --force"):
        downscale_folder(other, lr, 4)
    assert read_image(lr / "a.png").shape == (4, 5, 3)


def test_a_folder_whose_name_is_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write_png(folder / os.fsdecode(b"\xe9.png"), pixels(16, 20, 3))
    assert [downscale_folder(folder, tmp_path / "lr", 4) for _ in "12"] == [1, 1]


def test_folders_that_cannot_be_downscaled(tmp_path):
    (tmp_path / "empty").mkdir()
    write_png(tmp_path / "hr" / "a.png", pixels(16, 20, 3))
    write_png(tmp_path / "two" / "a.png", pixels(16, 20, 3))
    write_png(tmp_path / "two" / "a.jpg", pixels(16, 20, 3))
    for folder, target, options, message in [
        ("none", "lr", {}, "none: no such folder"),
        ("empty", "lr", {}, "empty: no images found"),
        ("hr", "hr/lr", {}, "expected a folder outside"),
        ("two", "lr", {}, r"two/a\.png and .*two/a\.jpg would both become .*lr/a\.png"),
        ("hr", "lr", {"edges": "wrap"}, "expected clamp or mirror, got wrap"),
        ("hr", "lr", {"scale": 0}, "scale: expected a whole number from 1, got 0"),
    ]:
        with pytest.raises(SrlibError, match=message):
            downscale_folder(tmp_path / folder, tmp_path / target, **{"scale": 4} | options)
    assert not (tmp_path / "lr").exists()


@pytest.fixture
def stopped_run(tmp_path, monkeypatch):
    """A run over four images that was stopped after two."""
    for name in "abcd":
        write_png(tmp_path / "hr" / f"{name}.png", pixels(16, 20, 3))
    written = []

    def write(path, image):
        if len(written) == 2:
            raise Stopped(signal.SIGTERM)
        written.append(path)
        write_png(path, image)

    monkeypatch.setattr(module, "write_png", write)
    monkeypatch.setattr(module, "for_each", lambda function, items, **_: [function(item) for item in items])
    with pytest.raises(Stopped) as stopped:
        downscale_folder(tmp_path / "hr", tmp_path / "lr", 4)
    assert stopped.value.note == "run it again to continue"
    monkeypatch.setattr(module, "write_png", write_png)
    return tmp_path


def test_an_interrupted_run_continues(stopped_run, capsys):
    hr, lr = stopped_run / "hr", stopped_run / "lr"
    write_png(lr / "a.png", pixels(1, 1, 3))  # what exists is not written again
    assert downscale_folder(hr, lr, 4) == 4
    assert "lr: continues; 2 of 4 images exist" in capsys.readouterr().err
    assert [path.name for path in sorted(lr.iterdir())] == [NOTE, *(f"{name}.png" for name in "abcd")]
    assert [read_image(path).shape for path in list_images(lr)] == [(1, 1, 3)] + 3 * [(4, 5, 3)]


def test_with_other_settings_an_interrupted_run_is_refused(stopped_run):
    hr, lr = stopped_run / "hr", stopped_run / "lr"
    with pytest.raises(SrlibError, match=r"a\.png: exists, from an earlier run that differs in scale; use --force"):
        downscale_folder(hr, lr, 2)
    with pytest.raises(SrlibError, match=r"differs in edges, seed, clean, passes; use --force"):
        degrade_folder(hr, lr, 4, Degradation.model_validate({"passes": [{"blur": {}}]}))
    for content in ("[]", "{", "[" * 100_000, '{"settings": 1, "images": [[]]}'):
        (lr / NOTE).write_text(content)
        with pytest.raises(SrlibError, match=r"a\.png: exists; use --force"):
            downscale_folder(hr, lr, 4)


def test_an_interrupted_run_with_force_needs_force_again(stopped_run, monkeypatch):
    """Images of before it are among those that exist."""

    def stop(path, image):
        raise Stopped(signal.SIGINT)

    hr, lr = stopped_run / "hr", stopped_run / "lr"
    with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(module, "write_png", stop)
        downscale_folder(hr, lr, 2, force=True)
    assert stopped.value.note == "run it again with --force"
    for scale in (4, 2):
        with pytest.raises(SrlibError, match=r"a\.png: exists; use --force"):
            downscale_folder(hr, lr, scale)
    assert downscale_folder(hr, lr, 2, force=True) == 4
    assert {read_image(path).shape for path in list_images(lr)} == {(8, 10, 3)}


def test_degraded_folder_depends_on_seed_and_names(tmp_path):
    params = Degradation.model_validate({"clean": 0.0, "passes": [{"blur": {}, "noise": {}, "compression": {}}]})
    for name in ("a.png", "in/b.png"):
        write_png(tmp_path / "hr" / name, pixels(40, 52, 3))
    for out, seed in (("one", 1), ("again", 1), ("other", 2)):
        assert degrade_folder(tmp_path / "hr", tmp_path / out, 4, params, seed=seed) == 2
    one, again, other = (
        [read_image(tmp_path / out / name) for name in ("a.png", "in/b.png")] for out in ("one", "again", "other")
    )
    assert one[0].shape == (10, 13, 3)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one[0], one[1]) and not np.array_equal(one[0], other[0])
