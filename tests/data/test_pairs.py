from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib.data.pairs import ImagePair, check_pair, find_pairs, validation_names
from srlib.errors import SrlibError
from srlib.imaging.write import write_png


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def folder(tmp_path):
    def make(*names, shape=(16, 20, 3)):
        for number, name in enumerate(names):
            write_png(tmp_path / name, pixels(*shape, seed=number))
        return tmp_path

    return make


def names(pairs):
    return [image.name for image in pairs]


def test_images_at_any_depth(folder):
    pairs, mistakes = find_pairs(folder("b.png", "a/c.png", "a/ب/d e.png"), given_lr=False, scale=4)
    assert names(pairs) == ["a/c.png", "a/ب/d e.png", "b.png"] and mistakes == []


def test_a_folder_hr_stands_for_the_whole(folder):
    path = folder("HR/1.png", "HR/a/2.png", "LR/1.png", "else.png")
    (path / "SOURCES.json").write_text("{}")
    pairs, _ = find_pairs(path, given_lr=False, scale=4)
    assert pairs == [ImagePair("1.png", path / "HR/1.png"), ImagePair("a/2.png", path / "HR/a/2.png")]


def test_given_lr_images_are_matched_by_name(folder):
    path = folder("HR/0001.png", "HR/a/2.png", "HR/3.png", "LR/0001x4.png", "LR/a/2.png", "LR/3x2.png", "LR/9x4.png")
    pairs, mistakes = find_pairs(path, given_lr=True, scale=4)
    assert [(image.name, image.lr) for image in pairs] == [
        ("0001.png", path / "LR/0001x4.png"),
        ("a/2.png", path / "LR/a/2.png"),
    ]
    assert len(mistakes) == 1 and "HR/3.png: no LR image; expected" in mistakes[0]


def test_lr_image_of_the_same_ending_comes_first(folder):
    path = folder("HR/a.png", "HR/a.jpg", "LR/a.png", "LR/a.jpg")
    pairs, mistakes = find_pairs(path, given_lr=True, scale=4)
    assert [(pair.name, pair.lr.name) for pair in pairs] == [("a.jpg", "a.jpg"), ("a.png", "a.png")] and not mistakes


def test_shared_or_ambiguous_lr_images_are_refused(folder):
    path = folder("HR/a.png", "HR/a.jpg", "HR/b.tif", "LR/a.png", "LR/b.png", "LR/b.jpg")
    pairs, mistakes = find_pairs(path, given_lr=True, scale=4)
    assert not pairs and len(mistakes) == 3
    assert "b.tif: several LR images match" in mistakes[0]
    assert all("is the LR image of another HR image too" in line for line in mistakes[1:])


def test_folders_that_do_not_serve(folder, tmp_path):
    with pytest.raises(SrlibError, match="expected the folder HR with images and LR with"):
        find_pairs(folder("HR/1.png"), given_lr=True, scale=4)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(SrlibError, match=r"empty: no images found \(prepare\.images\)"):
        find_pairs(tmp_path / "empty", given_lr=False, scale=4)


def test_sizes(folder):
    path = folder("a.png", shape=(35, 50, 3))
    assert check_pair(ImagePair("a", path / "a.png"), scale=4, patch=8) == (8, 12)
    with pytest.raises(SrlibError, match=r"a\.png: 50×35 pixels; a patch needs 36×36"):
        check_pair(ImagePair("a", path / "a.png"), scale=4, patch=9)
    for shape in ((8, 12, 3), (9, 12, 3)):
        write_png(path / "lr.png", pixels(*shape))
        pair = ImagePair("a", path / "a.png", path / "lr.png")
        if shape == (8, 12, 3):
            assert check_pair(pair, scale=4, patch=8) == (8, 12)
        else:
            with pytest.raises(SrlibError, match=r"lr\.png: 12×9 pixels; expected 12×8, 1/4 of its HR"):
                check_pair(pair, scale=4, patch=8)


def part(path, fraction=0.5, seed=0):
    return validation_names(find_pairs(path, given_lr=False, scale=4)[0], fraction, seed)


def test_views_of_one_scene_stay_together(folder):
    path = folder("m_left.png", "m_right.png", "0001_L.png", "0001_R.png", "a/b.png", "a/b.tif.png", "bright.png")
    sides = Counter()
    for seed in range(40):
        chosen = part(path, seed=seed)
        assert len({name in chosen for name in ("m_left.png", "m_right.png")}) == 1
        assert len({name in chosen for name in ("0001_L.png", "0001_R.png")}) == 1
        sides["m_left.png" in chosen] += 1
    assert sides[True] and sides[False]


def test_equal_files_stay_on_one_side(folder):
    path = folder("a_left.png", "b.png", "c.png", "d_left.png")
    for copy, original in (("x/a_right.png", "b.png"), ("zz.png", "a_left.png"), ("d_right.png", "c.png")):
        (path / copy).parent.mkdir(exist_ok=True)
        (path / copy).write_bytes((path / original).read_bytes())
    for seed in range(30):
        chosen = part(path, seed=seed)
        for group in (["a_left.png", "zz.png"], ["b.png", "x/a_right.png"], ["c.png", "d_left.png", "d_right.png"]):
            assert len({name in chosen for name in group}) == 1


def test_one_group_is_not_enough(folder):
    with pytest.raises(SrlibError, match=r"at least two usable images of different scenes.* got 1"):
        part(folder("a_left.png", "a_right.png"))


@given(count=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_split_has_the_requested_share(tmp_path_factory, count, fraction, seed):
    folder = tmp_path_factory.getbasetemp() / "share"
    folder.mkdir(exist_ok=True)
    images = [ImagePair(f"{number:04}.png", folder / f"{number}.png") for number in range(count)]
    for number, image in enumerate(images):
        if not image.hr.exists():
            image.hr.write_bytes(bytes(number))
    chosen = validation_names(images, fraction, seed)
    assert len(chosen) == min(max(round(fraction * count), 1), count - 1)


def test_split_depends_on_seed_not_on_other_images(folder):
    path = folder(*(f"{number}.png" for number in range(20)))
    before = part(path, 0.25, seed=3)
    assert before == part(path, 0.25, seed=3) != part(path, 0.25, seed=4)
    write_png(path / "new.png", pixels(16, 20, 3, seed=99))
    assert len(part(path, 0.25, seed=3) & before) >= 4
