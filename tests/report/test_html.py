"""The report as it is read: in headless Chromium, in light and dark, on a phone, with the keyboard, without scripts."""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image as Pillow

from srlib.evaluation.benchmark import Cost, Method, evaluate, interpolation
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.evaluation.opinions import Difference, Opinion, Opinions
from srlib.evaluation.sets import find_sets
from srlib.imaging.resize import resize
from srlib.imaging.write import write_png
from srlib.params import load_params
from srlib.report.html import exhibit, render
from srlib.report.plots import Axis, Point, Series, curves, scatter

ROOT = Path(__file__).parents[2]
SECTIONS = ("scores", "opinions", "images", "differences", "tradeoff", "training", "every", "recipe", "protocol")
OPINIONS = Opinions(
    survey="0" * 16,
    rows=[
        Opinion("all", "bicubic", 2.0, 1.75, 2.25, [10, 20, 10, 0, 0], 4, 10),
        Opinion("all", "SRGAN", 3.5, 3.25, 3.75, [0, 0, 20, 20, 0], 4, 10),
        Opinion("all", "original", 4.5, 4.25, 4.75, [0, 0, 0, 20, 20], 4, 10),
    ],
    differences=[Difference("SRGAN", "bicubic", 1.5, 1.25, 1.75)],
    counted=["a.json", "b.json", "c.json", "d.json"],
    refused=[],
    rated=[],
    outdated=["EDSR"],
)


def make(folder: Path) -> str:
    """A report on three small photographs, one of them with a name that would break a careless page."""
    for name, image in {
        "comic": skimage.data.chelsea()[:120, :160],
        "<b>&\"'": skimage.data.coffee()[:96, :128],
        "rocket": skimage.data.rocket()[100:200, 200:300],
    }.items():
        write_png(folder / f"sets/Set14/{name}.png", image)
    cost = Cost(1_500_000, lambda height, width: 1_000_000 * height * width)
    methods = [
        interpolation("nearest"),
        interpolation("bicubic"),
        Method("EDSR", lambda lr, scale: resize(resize(lr, 2), 2), cost=cost),
        Method("SRGAN", lambda lr, scale: resize(lr, scale, kernel="linear"), cost=cost),
    ]
    results = list(evaluate(find_sets(folder / "sets", 4), methods, 4))
    for stage in ("pretrain", "finetune"):
        (folder / stage).mkdir()
        (folder / stage / "validation.csv").write_text("step,psnr_y\n")
        (folder / stage / "loss.csv").write_text("step,loss\n")
    loss = "step,loss,learning_rate\n1,0.5,0.001\n100,0.01,0.001\n200,0.008,0.0005\n"
    (folder / "pretrain/loss.csv").write_text(loss)
    return render(
        [score for result in results for score in result.scores],
        methods,
        4,
        opinions=OPINIONS,
        exhibits=[exhibit(result, ["bicubic", "EDSR", "SRGAN"], side=48) for result in results],
        logs=[folder / "pretrain", folder / "finetune"],
        recipe=load_params(ROOT / "tests/recipe.yaml"),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    path.write_text(make(folder), encoding="utf-8")
    return path


def pixels(browser: Any) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(browser.screenshot())).convert("RGB"), np.int16)


def test_the_same_bytes_every_time(page: Path, tmp_path: Path) -> None:
    assert make(tmp_path) == page.read_text(encoding="utf-8")


def test_one_file_that_asks_for_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:image/webp;base64,|#)""", text)
    assert "url(" not in text and "@import" not in text
    assert "{{" not in text
    assert "<b>&\"'" not in text  # names are escaped


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True])
def test_opens_without_an_error_and_fits(browse: Callable[..., Any], page: Path, scheme: str, phone: bool) -> None:
    browser = browse(phone=phone)
    browser.emulate(prefers_color_scheme=scheme)
    browser.open(page.as_uri())
    assert browser.errors() == []
    assert browser.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.js("[...document.images].every(i => i.hidden || i.naturalWidth > 0)")
    screen = pixels(browser)
    assert (np.median(screen) > 200) == (scheme == "light")
    # Text has enough contrast with its background, as WCAG defines it.
    ratio = """(() => {
      const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
      const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (!c.endsWith(', 0)')) return c; } };
      return Math.min(...[...document.querySelectorAll('td, th, p, h1, h2, h3, a, span, summary')].map(e => {
        const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
        return (a + .05) / (b + .05); }));
    })()"""
    assert browser.js(ratio) > 4.2


def test_every_section_is_there(browse: Callable[..., Any], page: Path) -> None:
    browser = browse()
    browser.open(page.as_uri())
    links = browser.js("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))")
    assert links == [f"#{key}" for key in SECTIONS]
    assert all(browser.js("document.querySelector(a[0]).getBoundingClientRect().height > 30", link) for link in links)
    table = browser.text("#scores table")
    assert "EDSR baseline" in table and "28.58 .7813" in table
    assert browser.js("document.querySelectorAll('#scores tr.published').length") >= 6
    rows = browser.js("[...document.querySelectorAll('#scores tbody tr')].map(r => r.innerText.split('\\t'))")
    mos = {row[0]: row[2].split() for row in rows if row[0] in ("bicubic", "EDSR", "SRGAN", "original")}
    assert mos == {
        "bicubic": ["2.00", "[1.75,", "2.25]"], "EDSR": [], "SRGAN": ["3.50", "[3.25,", "3.75]"],
        "original": ["4.50", "[4.25,", "4.75]"],
    }  # fmt: skip
    assert "120 votes of 4 raters" in browser.text("#scores") and "No MOS for EDSR" in browser.text("#scores")
    assert "SRGAN − bicubic" in browser.text("#opinions") and "+1.50 [+1.25, +1.75]" in browser.text("#opinions")
    gray, ink = (
        browser.js(f"getComputedStyle(document.querySelector('#scores {s}')).color") for s in ("tr.published td", "td")
    )
    assert gray != ink
    assert browser.js("document.querySelectorAll('#training svg polyline').length") == 1  # the empty CSV gives none
    assert "blocks: 8" in browser.text("#recipe")
    assert browser.js("document.querySelectorAll('#every tbody tr').length") == 3


def test_the_difference_to_the_published_row(browse: Callable[..., Any], page: Path) -> None:
    browser = browse()
    browser.open(page.as_uri())
    cells = "[...a[0].children].map(cell => cell.innerText.split(/\\s+/))"
    rows = [browser.js(cells, row) for row in browser.js("[...document.querySelectorAll('#scores tbody tr')]")]
    ours, theirs = next(pair for pair in pairwise(rows) if pair[0][0] == ["bicubic"])
    assert theirs[0] == ["bicubic", "Lim", "et", "al.", "2017"]
    assert theirs[1][:2] == ["26.00", ".7027"]
    assert float(theirs[1][2].replace("−", "-")) == pytest.approx(float(ours[1][0]) - 26.00, abs=0.0051)


def test_the_slider_with_the_mouse(browse: Callable[..., Any], page: Path) -> None:
    browser = browse()
    browser.open(page.as_uri())
    browser.js("document.querySelector('.stage').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = browser.js(
        "(r => [r.left, r.top, r.width, r.height])(document.querySelector('.stage').getBoundingClientRect())"
    )
    before = pixels(browser)
    for kind, part in (("mousePressed", 0.5), ("mouseMoved", 0.85), ("mouseReleased", 0.85)):
        place = {"x": box[0] + part * box[2], "y": box[1] + box[3] / 2}
        browser.devtools("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **place)
    value = float(browser.js("document.querySelector('.stage input').value"))
    assert 80 <= value <= 90
    after = pixels(browser)
    changed = np.abs(after - before).max(axis=2) > 0
    left, top, width, height = (round(v) for v in box)
    changed[[top, top + 1, top + height - 2, top + height - 1]] = False  # the frame of what has the focus
    inside = changed[top : top + height, left + 8 : left + width - 8]
    # Between the old and the new divide another version is seen; elsewhere nothing moved.
    assert inside[:, round(0.55 * width) : round(0.75 * width)].mean() > 0.3
    assert not inside[:, : round(0.45 * width)].any()
    assert not inside[:, round(0.92 * width) :].any()


def test_the_slider_and_the_versions_with_the_keyboard(browse: Callable[..., Any], page: Path) -> None:
    browser = browse()
    browser.open(page.as_uri())
    browser.press("Tab")
    assert browser.js("document.activeElement.className") == "skip"
    for _ in range(40):
        if browser.js("document.activeElement.type") == "range":
            break
        browser.press("Tab")
    assert browser.js("document.activeElement.type") == "range"
    for _ in range(5):
        browser.press("ArrowRight")
    assert browser.js("document.activeElement.value") == "55"
    assert browser.js("document.activeElement.getAttribute('aria-valuetext')").startswith(
        "bicubic on 55 percent, SRGAN"
    )
    browser.press("Tab")
    browser.press("E")
    browser.wait("document.querySelector('.stage .left').dataset.version === 'EDSR'")
    visible = "[...document.querySelectorAll('#images article:first-of-type .stage img:not([hidden])')]"
    assert browser.js(f"{visible}.map(i => i.dataset.version)") == ["EDSR", "SRGAN"]


def test_the_images_are_the_scored_ones(browse: Callable[..., Any], page: Path) -> None:
    browser = browse()
    browser.open(page.as_uri())
    seen = browser.js("""(() => { const i = document.querySelector('.stage img[data-version="HR"]');
      const c = document.createElement('canvas'); c.width = i.naturalWidth; c.height = i.naturalHeight;
      const x = c.getContext('2d'); x.drawImage(i, 0, 0);
      return [c.width, c.height, ...x.getImageData(0, 0, c.width, 1).data]; })()""")
    hr = skimage.data.coffee()[:96, :128]  # the first by name
    assert seen[:2] == [128, 96]
    np.testing.assert_array_equal(np.array(seen[2:]).reshape(-1, 4)[:, :3], hr[0])


def test_large_images_are_shown_in_part(tmp_path: Path) -> None:
    write_png(tmp_path / "Own/big.png", np.tile(skimage.data.chelsea()[:200, :400], (2, 2, 1)))
    result = next(evaluate(find_sets(tmp_path, 4), [interpolation("bicubic")], 4))
    screen = exhibit(result, ["bicubic"], side=48)
    assert screen.part
    image = Pillow.open(io.BytesIO(base64.b64decode(screen.versions["HR"].split(",")[1])))
    assert image.size == (640, 400)


def test_nothing_but_numbers(tmp_path: Path) -> None:
    """Without images, curves, networks or a published table the report still stands."""
    write_png(tmp_path / "Own/a.png", skimage.data.chelsea()[:60, :60])
    methods = [interpolation("bicubic")]
    scores = [score for result in evaluate(find_sets(tmp_path, 3), methods, 3) for score in result.scores]
    text = render(scores, methods, 3)
    assert 'id="scores"' in text
    assert all(f'id="{key}"' not in text for key in ("tradeoff", "images", "training", "recipe"))


@pytest.mark.parametrize("names", [("plain", "photo"), ("plain",)])
def test_a_plain_image_has_no_place_in_a_chart(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Every method copies an image of one color exactly: its PSNR is infinite, and so is the mean of its set."""
    images = {"plain": np.full((60, 60, 3), 255, np.uint8), "photo": skimage.data.chelsea()[:60, :60]}
    for name in names:
        write_png(tmp_path / f"Own/{name}.png", images[name])
    kernels: dict[str, Any] = {"soft": "linear", "blocks": "nearest"}
    methods = [
        Method(name, lambda lr, scale, k=kernel: resize(lr, scale, kernel=k), cost=Cost(size, lambda h, w, s=size: s))
        for size, (name, kernel) in enumerate(kernels.items(), 1)
    ]
    results = list(evaluate(find_sets(tmp_path, 4), methods, 4))
    scores = [replace(score, values=score.values | {LPIPS: 0.1}) for result in results for score in result.scores]
    text = render(scores, methods, 4)
    assert "∞" in text and 'id="tradeoff"' not in text


def line(*points: tuple[float, float]) -> str:
    return curves("t", [Series("a", points)], "y", note="")


class TestPlots:
    def test_points_lie_where_their_values_are(self) -> None:
        text = scatter("t", [Point("a", 1e3, 20), Point("b", 1e5, 30), Point("c", 1e7, 40)], "x", "y", log_x=True)
        places = [tuple(map(float, place)) for place in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', text)]
        (xa, ya), (xb, yb), (xc, yc) = places
        assert xb - xa == pytest.approx(xc - xb, abs=0.2) and xa < xb
        assert ya - yb == pytest.approx(yb - yc, abs=0.2) and ya > yb

    def test_labels_do_not_cover_each_other(self) -> None:
        points = [Point(f"method {i}", 100.0, 30 + 0.001 * i) for i in range(4)]
        rows = sorted(float(y) for y in re.findall(r'name" [^>]*y="([\d.]+)"', scatter("t", points, "x", "y")))
        assert min(np.diff(rows)) >= 12

    def test_a_wide_range_is_logarithmic(self) -> None:
        heights = [
            [float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", re.search(r'points="([^"]+)"', text)[1])]  # type: ignore[index]
            for text in (line((0, 100), (1, 10), (2, 1)), line((0, 3), (1, 2), (2, 1)))
        ]
        for a, b, c in heights:
            assert b - a == pytest.approx(c - b, abs=0.2)

    def test_a_flat_curve(self) -> None:
        assert "NaN" not in line((0, 0.0), (1, 0.0)) and "nan" not in line((5, 2.0), (5, 2.0))

    @pytest.mark.parametrize(("low", "high"), [(0.1, 0.2), (25.96, 32.4), (0, 1), (-3, 200_000)])
    def test_ticks_are_round_and_inside(self, low: float, high: float) -> None:
        ticks = Axis("", low, high).ticks()
        assert 2 <= len(ticks) <= 6
        assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
        assert len({f"{tick:.3g}" for tick in ticks}) == len(ticks)


def test_captions_speak_only_of_what_is_there(tmp_path: Path) -> None:
    write_png(tmp_path / "Own/a.png", skimage.data.chelsea()[:60, :60])
    methods = [
        Method("net", lambda lr, scale: resize(lr, scale), cost=Cost(1000, lambda height, width: height * width)),
        Method("twin", lambda lr, scale: resize(lr, scale), cost=Cost(1000, lambda height, width: height * width)),
    ]
    scores = [score for result in evaluate(find_sets(tmp_path, 4), methods, 4) for score in result.scores]
    text = render(scores, methods, 4)
    assert "quality and size" not in text, "a chart against one and the same cost shows nothing"
    assert all(
        word not in text for word in ("Gray rows", "Hollow gray points", "Published rows", "A + marks", "†", "MOS")
    )
