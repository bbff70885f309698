"""The page of a survey and its key: what raters can and cannot read from it."""

import base64
import hashlib
import json
import os
import re
import struct
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.stats import chisquare
from typer.testing import CliRunner

from srlib.errors import SrlibError
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.resize import resize
from srlib.imaging.write import write_png
from srlib.survey.answers import Survey, read_key, read_page
from srlib.survey.page import SurveyOptions, SurveyPage, make_page
from srlib.survey.selection import default_methods

METHODS = ("bicubic", "EDSR", "SRGAN", "original")


def make(images: Path, page: Path, key: Path, **options: Any) -> SurveyPage:
    return make_page(images, page, key, SurveyOptions(**options))


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('id="survey">')[1].split("</script>")[0])


def decode(png: str) -> np.ndarray:
    return cv2.cvtColor(
        cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )


def test_every_version_is_there_to_the_pixel(made: Any, images: Path) -> None:
    items = data_of(made.page)["items"]
    assert len(items) == 3 * 4
    for item in items:
        entry = made.items[item["id"]]
        source = read_image(images / entry["set"] / entry["method"] / f"{entry['picture']}.png")
        pixels = decode(item["png"])
        assert (item["height"], item["width"]) == pixels.shape[:2]
        np.testing.assert_array_equal(pixels, source)
    assert {entry["method"] for entry in made.items.values()} == set(METHODS)


def without_images(page: Path) -> str:
    """The source of a page; base64 may spell any four letters by chance."""
    return re.sub(r'"[A-Za-z0-9+/=]{200,}"', "", page.read_text(encoding="utf-8"))


def test_source_names_nothing_that_is_hidden(made: Any) -> None:
    text = without_images(made.page)
    names = {entry[field] for entry in made.items.values() for field in ("set", "picture", "method")}
    key = json.loads(made.key.read_text())
    for hidden in [*names, key["secret"]]:
        assert not re.search(hidden, text, re.IGNORECASE), hidden
    assert set(data_of(made.page)["items"][0]) == {"id", "group", "width", "height", "png"}
    assert made.key.stat().st_mode & 0o077 == 0


def test_lengths_and_encoders_tell_nothing(made: Any) -> None:
    lengths: dict[str, set[int]] = {}
    for item in data_of(made.page)["items"]:
        png = base64.b64decode(item["png"])
        lengths.setdefault(item["group"], set()).add(len(png))
        chunks, at = [], 8
        while at < len(png):
            size, kind = struct.unpack(">I4s", png[at : at + 8])
            chunks.append(kind)
            at += 12 + size
        assert list(dict.fromkeys(chunks)) == [b"IHDR", b"srPd", b"IDAT", b"IEND"]
    assert [len(sizes) for sizes in lengths.values()] == [1, 1, 1]


def test_place_in_the_file_follows_the_opaque_ids(made: Any) -> None:
    ids = [item["id"] for item in data_of(made.page)["items"]]
    assert ids == sorted(ids)
    assert all(re.fullmatch("[0-9a-f]{24}", item) for item in ids)


def test_ids_need_the_secret(images: Path, tmp_path: Path, made: Any) -> None:
    make(images, tmp_path / "page.html", tmp_path / "key.json", seed=3)
    ours, other = data_of(made.page), data_of(tmp_path / "page.html")
    assert not {item["id"] for item in ours["items"]} & {item["id"] for item in other["items"]}
    assert not {item["group"] for item in ours["items"]} & {item["group"] for item in other["items"]}
    assert ours["survey"] != other["survey"] and ours["seal"] != other["seal"]


def test_same_key_gives_the_same_bytes(images: Path, tmp_path: Path, made: Any) -> None:
    key = tmp_path / "key.json"
    key.write_bytes(made.key.read_bytes())
    make(images, tmp_path / "again.html", key, seed=3)
    assert (tmp_path / "again.html").read_bytes() == made.page.read_bytes()
    assert key.read_bytes() == made.key.read_bytes()


def test_key_of_another_survey_is_never_overwritten(images: Path, tmp_path: Path, made: Any) -> None:
    key = tmp_path / "key.json"
    key.write_bytes(made.key.read_bytes())
    with pytest.raises(SrlibError, match="key of another survey"):
        make(images, tmp_path / "page.html", key, seed=4)
    assert key.read_bytes() == made.key.read_bytes() and not (tmp_path / "page.html").exists()


def test_only_pages_and_keys_of_a_survey_are_replaced(images: Path, tmp_path: Path, made: Any) -> None:
    photograph, page, key = tmp_path / "photo.png", tmp_path / "page.html", tmp_path / "key.json"
    photograph.write_bytes(next(images.rglob("*.png")).read_bytes())
    before = photograph.read_bytes()
    with pytest.raises(SrlibError, match=r"photo\.png: exists and is no page of a survey; choose another --page"):
        make(images, photograph, key)
    with pytest.raises(SrlibError, match=r"photo\.png: cannot be read"):
        make(images, page, photograph)
    assert photograph.read_bytes() == before and not page.exists() and not key.exists()
    page.write_bytes(made.page.read_bytes())
    make(images, page, key)
    assert page.read_bytes() != made.page.read_bytes()


def test_examples_are_nearest_neighbor_and_original(made: Any, images: Path) -> None:
    originals = {path.stem: read_image(path) for path in list_images(images) if path.parent.name == "original"}
    rated = {entry["picture"] for entry in made.items.values()}
    examples = data_of(made.page)["calibration"]
    names = []
    for example in examples:
        good, bad = decode(example["good"]), decode(example["bad"])
        names += [name for name, image in originals.items() if np.array_equal(image, good)]
        assert len(example["good"]) == len(example["bad"])
        blocks = bad.reshape(good.shape[0] // 4, 4, good.shape[1] // 4, 4, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()
        np.testing.assert_allclose(bad.mean((0, 1)), good.mean((0, 1)), atol=1)
    assert len(set(names)) == 2 and not set(names) & rated and set(names) | rated == set(originals)


def test_examples_from_another_folder_hold_nothing_out(images: Path, tmp_path: Path) -> None:
    for number in range(3):
        write_png(tmp_path / "others" / f"{number}.png", np.full((64, 48, 3), 50 * number, np.uint8))
    done = make(images, tmp_path / "p.html", tmp_path / "k.json", examples_from=tmp_path / "others")
    assert done.item_count == 5 * 4 and len(data_of(tmp_path / "p.html")["calibration"]) == 2
    with pytest.raises(SrlibError, match="expected 4 images for the examples, found 3"):
        make(images, tmp_path / "p.html", tmp_path / "k.json", examples=4, examples_from=tmp_path / "others")


def test_an_example_smaller_than_an_lr_pixel_is_named(images: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "icons/icon.png", np.zeros((3, 40, 3), np.uint8))
    with pytest.raises(SrlibError, match=r"icon\.png: 40×3 pixels are too few for an example at ×4$"):
        make(images, tmp_path / "p.html", tmp_path / "k.json", examples=1, examples_from=tmp_path / "icons")


def test_large_images_are_cut_to_their_most_detailed_square(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = np.full((120, 200, 3), 128, np.uint8)
    whole[40:104, 120:184] = rng.integers(0, 256, (64, 64, 3))
    for method, step in (("original", 0), ("bicubic", 1)):
        for name in "ab":
            write_png(tmp_path / "in" / "Own" / method / f"{name}.png", whole + np.uint8(step))
    make(
        tmp_path / "in",
        tmp_path / "p.html",
        tmp_path / "k.json",
        methods=("bicubic", "original"),
        max_side=64,
        examples=1,
    )
    original, bicubic = (
        next(
            decode(item["png"])
            for item in data_of(tmp_path / "p.html")["items"]
            if named(tmp_path / "k.json", item) == m
        )
        for m in ("original", "bicubic")
    )
    assert original.shape == (64, 64, 3)
    np.testing.assert_array_equal(bicubic, original + np.uint8(1))
    assert (original != 128).mean() > 0.9


def named(key: Path, item: dict[str, Any]) -> str:
    return json.loads(key.read_text())["items"][item["id"]]["method"]


def test_images_are_spread_evenly_over_the_sets(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    for name, count in (("Big", 12), ("Small", 3)):
        for number in range(count):
            for method in ("original", "bicubic"):
                write_png(tmp_path / "in" / name / method / f"{number}.png", image + np.uint8(number))
    options = {"methods": ("bicubic", "original"), "count": 6, "max_side": 16}
    first = make(tmp_path / "in", tmp_path / "p.html", tmp_path / "k.json", seed=1, **options)
    assert sorted(name.split("/")[0] for name in first.images) == ["Big"] * 3 + ["Small"] * 3
    again = make(tmp_path / "in", tmp_path / "p2.html", tmp_path / "k2.json", seed=1, **options)
    other = make(tmp_path / "in", tmp_path / "p3.html", tmp_path / "k3.json", seed=2, **options)
    assert first.images == again.images != other.images


def test_benchmark_images_make_a_survey(shared: Path, tmp_path: Path) -> None:
    """Real sets, a grayscale image and odd sizes among them; 720 pixels are cut, 256 are not."""
    for name, numbers in (("Set5", (1, 3)), ("Set14", (2, 3, 13))):
        for number in numbers:
            files = shared / "mirror/SelfExSR/data" / name / "image_SRF_4" / f"img_{number:03}_SRF_4_"
            hr, lr = (read_image(Path(f"{files}{kind}.png")) for kind in ("HR", "LR"))
            write_png(tmp_path / "in" / name / "original" / f"{number}.png", hr)
            write_png(tmp_path / "in" / name / "bicubic" / f"{number}.png", resize(lr, hr.shape[:2]))
    done = make(tmp_path / "in", tmp_path / "p.html", tmp_path / "k.json", methods=("bicubic", "original"), examples=1)
    items = data_of(tmp_path / "p.html")["items"]
    assert done.item_count == len(items) == 8 and done.byte_count < 8 << 20
    assert max(max(item["width"], item["height"]) for item in items) <= 480
    for item in items:
        assert decode(item["png"]).shape == (item["height"], item["width"], 3)


class Links(HTMLParser):
    """Everything by which a page could ask for something outside of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policy = ""
        self.handlers: list[str] = []
        self.inside = ""
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found += [str(value) for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        self.handlers += [name for name in values if name.startswith("on") or name == "style"]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(values["content"])
        self.inside = tag if tag == "style" or (tag == "script" and "type" not in values) else ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside] = self.texts.get(self.inside, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def test_the_policy_allows_only_the_page_itself(made: Any) -> None:
    text = made.page.read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.found == ["data:,"] and not links.handlers and "{{" not in text
    rules = dict(rule.strip().split(" ", 1) for rule in links.policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and rules["connect-src"] == "'self'"
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(links.texts[kind].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search("https?://", without_images(made.page))


def survey_of(order: Any, images: int = 4, versions: int = 4) -> Survey:
    groups = {f"{p}{v}".rjust(24, "0"): f"{p}".rjust(12, "0") for p in range(images) for v in range(versions)}
    return Survey("0" * 16, 7, order, "00" * 32, groups)


def test_order_is_the_raters_own_and_can_be_computed_again() -> None:
    survey = survey_of("grouped")
    orders = {rater: survey.presentation(rater) for rater in ("anna", "badr", "carla")}
    assert all(sorted(order) == sorted(survey.groups) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 3
    assert orders["anna"] == survey_of("grouped").presentation("anna")


def test_versions_of_an_image_follow_one_another_unless_mixed() -> None:
    def changes(order: list[str], survey: Survey) -> int:
        return sum(survey.groups[a] != survey.groups[b] for a, b in pairwise(order))

    grouped, mixed = survey_of("grouped"), survey_of("mixed")
    assert all(changes(grouped.presentation(f"r{n}"), grouped) == 3 for n in range(20))
    assert min(changes(mixed.presentation(f"r{n}"), mixed) for n in range(20)) > 3


def test_a_fixed_order_is_the_same_for_everybody() -> None:
    survey = survey_of("fixed")
    order = survey.presentation("anna")
    assert order == survey.presentation("badr")
    assert sum(survey.groups[a] != survey.groups[b] for a, b in pairwise(order)) == 3


@pytest.mark.parametrize("order", ["grouped", "mixed"])
def test_no_version_and_no_image_is_favored(order: Any) -> None:
    survey = survey_of(order)
    firsts = [survey.presentation(f"rater-{n}")[0] for n in range(1600)]
    counts = [firsts.count(item) for item in survey.groups]
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "Set5" / "SRGAN").rename(f / "Set5" / "GAN"), "expected a folder SRGAN"),
        (lambda f: (f / "Set5" / "EDSR" / "one.png").unlink(), "one is missing in EDSR"),
        (
            lambda f: (f / "Set5" / "bicubic" / "three.png").write_bytes(b"x"),
            "three is missing in EDSR, SRGAN, original",
        ),
        (
            lambda f: [write_png(p, np.zeros((8, 9, 3), np.uint8)) for p in f.rglob("EDSR/*.png")],
            "9×8 pixels, expected",
        ),
        (lambda f: [p.unlink() for p in f.rglob("two.png")], "too few for 1 examples"),
    ],
)
def test_bad_folders_are_named_before_anything_is_written(tmp_path: Path, change: Any, message: str) -> None:
    folder = tmp_path / "in"
    for method in METHODS:
        for name in ("one", "two"):
            write_png(folder / "Set5" / method / f"{name}.png", np.zeros((32, 32, 3), np.uint8))
    change(folder)
    with pytest.raises(SrlibError, match=message):
        make(folder, tmp_path / "p.html", tmp_path / "k.json", methods=METHODS, examples=1, seed=0)
    assert not (tmp_path / "p.html").exists() and not (tmp_path / "k.json").exists()


def test_few_images_are_all_rated_by_default(tmp_path: Path) -> None:
    for method in METHODS:
        for number in range(4):
            write_png(tmp_path / "in/Own" / method / f"{number}.png", np.full((32, 32, 3), number, np.uint8))
    summary = make(tmp_path / "in", tmp_path / "p.html", tmp_path / "k.json", methods=METHODS, seed=0)
    assert (len(summary.images), summary.examples) == (4, [])


def test_the_folder_above_is_named(tmp_path: Path) -> None:
    (tmp_path / "images/Own/original").mkdir(parents=True)
    with pytest.raises(SrlibError, match=r"expected <Set>/<method>/<name>\.png .*; try .*/images$") as error:
        make(tmp_path, tmp_path / "p.html", tmp_path / "k.json")
    assert "\n" not in str(error.value)


def test_page_too_large_for_a_phone_is_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srlib.survey.page.MAX_PAGE_BYTES", 1 << 18)
    with pytest.raises(SrlibError, match="use a smaller --count or --max-side"):
        make(images, tmp_path / "p.html", tmp_path / "k.json")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_page_or_key_are_named(tmp_path: Path, made: Any) -> None:
    other = tmp_path / "page.html"
    for content in ("<html>", '<script type="application/json" id="survey">[1]</script>', made.key.read_text()):
        other.write_text(content)
        with pytest.raises(SrlibError, match=r"page\.html: expected a file of the format"):
            read_page(other)
    with pytest.raises(SrlibError, match="must not be the page"):
        make(tmp_path, other, other)
    with pytest.raises(SrlibError, match=r"none\.html: cannot be read \(No such file or directory\); expected"):
        read_page(tmp_path / "none.html")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A set of five images, by methods as a recipe with a Compact network leaves them."""
    folder = tmp_path / "images"
    for method in ("nearest", "bilinear", "bicubic", "Compact", "Compact+", "SRGAN", "theirs", "original"):
        for name in "abcde":
            write_png(folder / "Own" / method / f"{name}.png", np.full((32, 32, 3), ord(name), np.uint8))
    return folder


def test_methods_come_from_the_folder(tiny: Path, tmp_path: Path) -> None:
    assert default_methods(tiny, ()) == ["bicubic", "Compact", "SRGAN", "theirs", "original"]
    for name in "abcde":
        write_png(tiny / "Second" / "SRGAN" / f"{name}.png", np.zeros((32, 32, 3), np.uint8))
    assert default_methods(tiny, ()) == ["SRGAN"] and default_methods(tiny, ["Own"])[1] == "Compact"
    with pytest.raises(SrlibError, match=r"Second: expected a folder original .*, found SRGAN"):
        make(tiny, tmp_path / "p.html", tmp_path / "k.json")


def test_a_missing_method_names_those_that_exist(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match=r"Own: expected a folder EDSR .*, found Compact, Compact\+, SRGAN, bicubic"):
        make(tiny, tmp_path / "p.html", tmp_path / "k.json", methods=["EDSR", "original"])


@pytest.mark.parametrize(
    "options", [{"count": -1}, {"max_side": 8}, {"scale": 1}, {"methods": ["a"]}, {"methods": ["a", "a"]}]
)
def test_options_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(SrlibError, match="survey: "):
        SurveyOptions(**options)


def run(*arguments: Any) -> Any:
    from srlib.cli import app

    return CliRunner().invoke(app, ["survey", "make", *map(str, arguments)])


def test_the_command_reports_fewer_images_than_asked_for(tiny: Path, tmp_path: Path) -> None:
    page, key = tmp_path / "p.html", tmp_path / "k.json"
    result = run(tiny, "--page", page, "--key", key)
    assert result.exit_code == 0
    assert "5 images in all: 3 to rate instead of 13, 2 as examples" in result.output
    assert "3 images × 5 methods (bicubic, Compact, SRGAN, theirs, original)" in result.output


def test_the_command_has_every_option(tiny: Path, tmp_path: Path) -> None:
    page, key = tmp_path / "p.html", tmp_path / "k.json"
    others = tiny / "Own" / "original"
    options = ["--order", "mixed", "--examples", 1, "--examples-from", others, "--count", 5, "--max-side", 32]
    result = run(tiny, "--page", page, "--key", key, "--method", "bicubic", "--method", "SRGAN", *options)
    assert result.exit_code == 0 and "instead of" not in result.output
    content = data_of(page)
    assert (content["order"], len(content["items"]), len(content["calibration"])) == ("mixed", 10, 1)
    assert run(tiny, "--page", page, "--key", key, "--order", "random").exit_code == 2


@pytest.mark.parametrize("option", ["--page", "--key"])
def test_outputs_that_cannot_be_written_are_errors_at_once(tiny: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").touch()
    for path, message in (("/", "is a folder"), (tmp_path / "file" / "page", "is not a folder")):
        error = run(tiny, option, path).exception
        assert isinstance(error, SrlibError) and message in str(error) and "\n" not in str(error)
    assert not (tmp_path / "survey.html").exists()


def test_a_key_without_origin_is_read(made: Any, tmp_path: Path) -> None:
    content = json.loads(made.key.read_text())
    del content["origin"]
    (tmp_path / "key.json").write_text(json.dumps(content))
    assert read_key(tmp_path / "key.json").public == made.survey
    for spoil in ({"seal": "zz"}, {"items": []}, {"format": "srlib survey page 1"}, {"seed": "1.5"}):
        (tmp_path / "key.json").write_text(json.dumps(content | spoil))
        with pytest.raises(SrlibError, match="expected a file of the format 'srlib survey key 1'"):
            read_key(tmp_path / "key.json")


def test_image_names_that_the_key_cannot_hold(tiny: Path, tmp_path: Path) -> None:
    for method in tiny.glob("Own/*"):
        (method / "a.png").rename(method / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(SrlibError, match="expected a name in UTF-8"):
        make(tiny, tmp_path / "p.html", tmp_path / "k.json")
