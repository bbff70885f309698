"""The survey as raters meet it, in a real browser: from the first page to the mean opinion score."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from srlib.imaging.read import read_image
from srlib.survey.answers import Order
from srlib.survey.score import score_answers
from srlib.survey.server import SurveyServer, make_server

OPINION = {"bicubic": 2, "EDSR": 3, "SRGAN": 4, "original": 5}
SHOWN = "screen === 'rating' && at === a[0] && !busy"


@pytest.fixture
def server(made: Any, tmp_path: Path) -> Iterator[SurveyServer]:
    with make_server(made.page, tmp_path / "answers", report=lambda line: None) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def to_the_first_version(browser: Any) -> None:
    """From the first page past the examples, with real clicks."""
    browser.click("#start")
    for number in range(2):
        browser.wait("screen === 'calibration' && at === a[0] && document.getElementById('good').width > 0", number)
        browser.click("#exampleNext")
    browser.wait(SHOWN, 0)


def rate(browser: Any, items: dict[str, Any], start: int, stop: int, give: Callable[[int], None]) -> None:
    """Gives each version the score that its method has in `OPINION`."""
    for number in range(start, stop):
        browser.wait(SHOWN, number)
        give(OPINION[items[browser.js("order[at]")]["method"]])
    browser.wait("screen === 'end' || at === a[0]", stop)


def test_three_raters_at_once(browse: Any, server: SurveyServer, made: Any) -> None:
    """A desktop with keys, a phone that taps, and Arabic with Arabic digits, all at the same time."""
    together = threading.Barrier(3)

    def person(name: str, **options: Any) -> list[str]:
        browser = browse(name, **options)
        browser.open(server.address)
        together.wait(60)
        to_the_first_version(browser)

        def give(value: int) -> None:
            if name == "phone":
                browser.click(f"#scale button:nth-child({value})")
            else:
                browser.press("٠١٢٣٤٥"[value] if name == "arabic" else str(value))

        rate(browser, made.items, 0, 12, give)
        browser.wait("screen === 'end'")
        browser.click("#send")
        browser.wait("!document.getElementById('outcome').hidden")
        assert browser.text("#outcome") in (
            "Your answers have arrived. You can close this page.",
            "وصلت إجاباتك. يمكنك إغلاق هذه الصفحة.",
        )
        return browser.errors()

    people: list[tuple[str, dict[str, Any]]] = [
        ("desk", {}),
        ("phone", {"phone": True}),
        ("arabic", {"language": "ar"}),
    ]
    with ThreadPoolExecutor(3) as pool:
        errors = list(pool.map(lambda who: person(who[0], **who[1]), people))
    assert errors == [[], [], []]
    sent = [json.loads(file.read_bytes()) for file in server.answers.iterdir()]
    assert len({one["rater"] for one in sent}) == 3 and sorted(one["language"] for one in sent) == ["ar", "en", "en"]
    assert len({tuple(item for item, _ in one["votes"]) for one in sent}) == 3
    opinions = score_answers([server.answers], made.key, server.answers.parent / "out")
    assert {row.method: row.mos for row in opinions.rows if row.set == "all"} == OPINION
    assert all((row.votes, row.raters) == (9, 3) for row in opinions.rows if row.set == "all")


def test_closed_midway_reopened_and_saved_as_a_file(browse: Any, made: Any, tmp_path: Path) -> None:
    """From a file, without any server: an early stop, a closed browser, a second thought, and what scoring says."""
    browser = browse("friend")
    browser.open(made.page.as_uri())
    to_the_first_version(browser)
    rate(browser, made.items, 0, 5, lambda value: browser.press(str(value)))
    browser.wait(SHOWN, 5)
    browser.click("#stop")
    assert "5 of 12" in browser.text("#rated") and not browser.js("document.getElementById('send').checkVisibility()")
    browser.click("#save")
    half = wait_for_file(browser, 1)
    rater = browser.js("state.rater")
    browser.wait_until_stored('"revision":1')
    browser.close()

    browser = browse("friend")
    browser.open(made.page.as_uri())
    assert browser.text("#start") == "Continue" and browser.js("state.rater") == rater
    browser.click("#start")
    rate(browser, made.items, 5, 12, lambda value: browser.press(str(value)))
    browser.press("1")  # no rating any more: nothing happens at the end
    browser.click("#review")
    browser.wait(SHOWN, 0)
    first = made.items[browser.js("order[0]")]["method"]
    assert browser.js("document.querySelector('[aria-pressed=true] b').textContent") == str(OPINION[first])
    browser.press("ArrowRight")
    browser.wait(SHOWN, 1)
    browser.press("ArrowLeft")
    browser.wait(SHOWN, 0)
    browser.press("1")
    browser.wait(SHOWN, 1)
    browser.click("#stop")
    browser.click("#save")
    whole = wait_for_file(browser, 2)
    assert re.fullmatch(rf"survey-{made.survey.survey}-{rater}( \(1\))?\.json", whole.name)
    assert browser.errors() == []

    saved = json.loads(whole.read_bytes())
    assert saved["votes"][0][1] == 1 and saved["revision"] == 2 and json.loads(half.read_bytes())["revision"] == 1
    edited = tmp_path / "edited.json"
    edited.write_text(whole.read_text().replace(rater, "0" * 16))
    opinions = score_answers([half, whole, edited], made.key, tmp_path / "out")
    refused = dict(opinions.refused)
    assert opinions.counted == [str(whole)]
    assert "replaced by the later revision" in refused[str(half)] and "tampered" in refused[str(edited)]
    with pytest.raises(Exception, match="unfinished: 5 of 12"):
        score_answers([half], made.key, tmp_path / "out")


def wait_for_file(browser: Any, count: int) -> Path:
    """The newest of `count` finished downloads."""
    for _ in range(3000):
        files = sorted(browser.downloads.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        if len(files) == count:
            return files[-1]
        browser.js("new Promise((done) => setTimeout(done, 20))")
    raise AssertionError(f"{len(files)} files were saved, expected {count}")


def test_arabic_reads_from_right_to_left_on_a_small_phone(browse: Any, made: Any) -> None:
    browser = browse("phone", language="ar", phone=True)
    browser.open(made.page.as_uri())
    browser.devtools("Emulation.setDeviceMetricsOverride", width=320, height=568, deviceScaleFactor=2, mobile=True)
    assert browser.js("[document.documentElement.lang, document.documentElement.dir]") == ["ar", "rtl"]
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not browser.js(wide)
    to_the_first_version(browser)
    assert browser.text("#place") == "الصورة ١ من ٣ · النسخة ١ من ٤" and not browser.js(wide)
    words = browser.js(
        "[...document.querySelectorAll('#scale button')].map((b) => b.innerText.split(/\\s+/).join(' '))"
    )
    assert words == ["١ رديئة", "٢ ضعيفة", "٣ مقبولة", "٤ جيدة", "٥ ممتازة"]
    lefts = browser.js("[...document.querySelectorAll('#scale button')].map((b) => b.getBoundingClientRect().left)")
    assert lefts == sorted(lefts, reverse=True)
    inside = "[...document.querySelectorAll('#scale span')].every((s) => s.scrollWidth <= s.parentElement.clientWidth)"
    assert browser.js(inside)
    browser.click("#scale button:nth-child(4)")
    browser.wait(SHOWN, 1)
    browser.press("ArrowRight")  # back is where reading began
    browser.wait(SHOWN, 0)
    assert browser.js("state.votes[order[0]]") == 4
    browser.click("#language")
    assert browser.js("document.documentElement.dir") == "ltr" and browser.text("#place").startswith("Image 1 of 3")
    assert browser.errors() == []


def test_no_sentence_lacks_its_translation(browse: Any, made: Any) -> None:
    browser = browse()
    browser.open(made.page.as_uri())
    shape = "Object.entries(TEXT[a[0]]).map(([k, v]) => `${k} ${typeof v} ${typeof v === 'string' || v.length}`).sort()"
    assert browser.js(shape, "en") == browser.js(shape, "ar")
    latin = browser.js("Object.values(TEXT.ar).filter((v) => typeof v === 'string' && /[A-Za-z0-9]/.test(v))")
    assert latin == ["English"]
    used = browser.js("[...document.querySelectorAll('[data-text]')].map((e) => e.dataset.text)")
    assert set(used) <= set(browser.js("Object.keys(TEXT.en)"))


def test_page_hashes_and_orders_as_the_scoring_does(browse: Any, made: Any) -> None:
    browser = browse()
    browser.open(made.page.as_uri())
    texts = ["ب" * n for n in range(0, 140, 7)] + ["a" * n for n in (55, 56, 63, 64, 119, 120)]
    ours = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    assert browser.js("a[0].map((text) => hex(sha256(utf8(text))))", texts) == ours
    for rater in ("anna", "badr"):
        for order in get_args(Order):
            ours = replace(made.survey, order=order).presentation(rater)
            assert browser.js("(data.order = a[1], presentation(a[0]))", rater, order) == ours
    browser.open(f"{made.page.as_uri()}#rater=anna")
    browser.wait("typeof state === 'object' && state.rater === 'anna'")


@pytest.mark.parametrize("ratio", [1, 3])
def test_images_are_shown_in_whole_device_pixels(browse: Any, made: Any, images: Path, ratio: int) -> None:
    """What is on the screen is the image, scaled up by a whole factor: nothing blurred, nothing sharpened."""
    browser = browse()
    browser.devtools("Emulation.setDeviceMetricsOverride", width=700, height=640, deviceScaleFactor=ratio, mobile=False)
    browser.open(made.page.as_uri())
    to_the_first_version(browser)
    entry = made.items[browser.js("order[0]")]
    source = read_image(images / entry["set"] / entry["method"] / f"{entry['picture']}.png")
    box = browser.js(
        "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('image').getBoundingClientRect())"
    )
    left, top, width, height = (round(value * ratio) for value in box)
    factor = width // source.shape[1]
    assert (height, width) == (source.shape[0] * factor, source.shape[1] * factor) and factor == 2 * ratio
    screen = cv2.cvtColor(cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), 1), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(
        screen[top : top + height, left : left + width], source.repeat(factor, axis=0).repeat(factor, axis=1)
    )


def test_keyboard_focus_and_names_for_screen_readers(browse: Any, made: Any) -> None:
    browser = browse()
    browser.open(made.page.as_uri())
    browser.press("Tab", "Tab", "Enter")  # past the language, to start
    for number in range(2):
        browser.wait("screen === 'calibration' && at === a[0] && document.getElementById('good').width > 0", number)
        browser.js("document.getElementById('exampleNext').focus()")
        browser.press("Enter")
    browser.wait(SHOWN, 0)
    browser.press("Tab")
    focused = browser.js("(getComputedStyle(document.activeElement).outlineWidth)")
    assert focused == "3px"
    tree = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    names = {(node["role"]["value"], node["name"]["value"]) for node in tree if not node["ignored"] and "name" in node}
    assert {
        ("button", f"{n} {word}") for n, word in enumerate(["bad", "poor", "fair", "good", "excellent"], 1)
    } <= names
    assert ("image", "Image 1 of 3 · version 1 of 4") in names and ("group", "How good is this version?") in names
    assert any(role in ("progressbar", "ProgressIndicator") and "0 of 12" in name for role, name in names)


def luminance(color: str) -> float:
    """Relative luminance of an opaque `rgb(…)` (WCAG 2.2)."""
    values = np.array([int(v) for v in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(browse: Any, made: Any, scheme: str) -> None:
    browser = browse()
    browser.emulate(prefers_color_scheme=scheme)
    browser.open(made.page.as_uri())
    ground = "getComputedStyle(document.querySelector(a[0]))[a[1]]"
    paper = luminance(browser.js(ground, "body", "backgroundColor"))
    assert (paper < 0.05) == (scheme == "dark")
    card, accent = (luminance(browser.js(ground, at, "backgroundColor")) for at in ("#legend li", "#start"))
    pairs = [
        ("body", paper),
        (".quiet", paper),
        ("#language", paper),
        ("#legend span", card),
        ("#start", accent),
    ]
    for selector, behind in pairs:
        ink = luminance(browser.js(ground, selector, "color"))
        contrast = (max(ink, behind) + 0.05) / (min(ink, behind) + 0.05)
        assert contrast >= 4.5, (selector, contrast)


def test_unreachable_server_and_blocked_storage_are_said(browse: Any, server: SurveyServer) -> None:
    browser = browse()
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('blocked'); }});"
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", source=refuse)
    browser.open(server.address)
    assert "does not store answers" in browser.text("#unstored")
    to_the_first_version(browser)
    browser.press("3")
    browser.wait(SHOWN, 1)
    browser.click("#stop")
    browser.devtools("Network.enable")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.devtools("Network.emulateNetworkConditions", **offline)
    browser.click("#send")
    browser.wait("!document.getElementById('outcome').hidden")
    assert "could not be reached" in browser.text("#outcome")
    browser.click("#save")
    assert len(json.loads(wait_for_file(browser, 1).read_bytes())["votes"]) == 1


def test_next_person_on_the_same_device_starts_afresh(browse: Any, server: SurveyServer, made: Any) -> None:
    browser = browse()
    browser.open(server.address)
    browser.js("(order.slice(1).forEach((id) => { state.votes[id] = 3; }), state.calibrated = true, show('rating', 0))")
    rate(browser, made.items, 0, 1, lambda value: browser.press(str(value)))
    browser.js("show('end')")
    first = browser.js("state.rater")
    assert not browser.js("document.getElementById('another').checkVisibility()")
    browser.click("#send")
    browser.wait("document.getElementById('another').checkVisibility()")
    browser.click("#another")
    assert browser.js("[screen, done(), state.rater === a[0]]", first) == ["intro", 0, False]
    assert browser.text("#start") == "Start"


def test_a_hurried_rater_stops_and_scores_what_is_shown(browse: Any, made: Any) -> None:
    browser = browse()
    browser.open(made.page.as_uri())
    to_the_first_version(browser)
    pause = "new Promise((done) => setTimeout(() => done([screen, at, busy]), 2 * PAUSE))"
    click = "document.getElementById(a[0]).click()"
    assert browser.js(f"(rate(3), {click}, {pause})", "stop")[0] == "end", "Stop while the score is still visible"
    browser.click("#resume")
    browser.wait(SHOWN, 1)

    # The version that was asked for first is decoded last; it must not cover the other one.
    slow = """(() => { const decode = HTMLImageElement.prototype.decode; let first = true;
      HTMLImageElement.prototype.decode = async function () {
        if (first) { first = false; await new Promise((done) => setTimeout(done, PAUSE)); }
        return decode.call(this); }; })()"""
    image = "document.getElementById('image').src === source(items.get(order[at]).png)"
    assert browser.js(f"({slow}, show('rating', 1), show('rating', 0), {pause})") == ["rating", 0, False]
    assert browser.js(image)
    broken = "(HTMLImageElement.prototype.decode = () => Promise.reject(), show('rating', 1).catch(() => rate(5)))"
    browser.js(f"({broken}, {pause})")
    assert not browser.js("order[1] in state.votes"), "a score went to a version that is not on the screen"


def test_what_is_stored_about_a_rater_is_on_the_first_screen(browse: Any, made: Any) -> None:
    browser = browse()
    browser.open(made.page.as_uri())
    assert "not asked for your name" in browser.text("#privacy") and "random code" in browser.text("#privacy")
    browser.open(f"{made.page.as_uri()}#rater=anna")
    browser.wait("typeof state === 'object' && state.rater === 'anna'")
    assert "contains the name “anna”" in browser.text("#privacy") and "not asked" not in browser.text("#privacy")
    browser.click("#language")
    assert "«anna»" in browser.text("#privacy") and "رمزًا عشوائيًا لهذا الجهاز" in browser.text("#privacy")
    fields = {"format", "survey", "rater", "revision", "language", "votes", "seal"}
    sent = browser.js("(state.votes[order[0]] = 3, answers())")
    assert set(json.loads(sent)) == fields | {"device"} and made.survey.check(sent.encode()).rater == "anna"
    browser.js("location.reload()")
    browser.wait("typeof state === 'object' && state.revision === 1")
    assert browser.js("state.device") == json.loads(sent)["device"], "the device keeps its code"
    browser.open(made.page.as_uri())
    browser.wait("typeof state === 'object' && state.rater !== 'anna'")
    assert set(json.loads(browser.js("(state.votes[order[0]] = 3, answers())"))) == fields
