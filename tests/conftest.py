"""Fixtures of several packages, among them a headless Chromium driven over WebDriver (W3C)."""

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings
from PIL import Image

from srlib.engine import pin_threads
from srlib.errors import SrlibError
from srlib.params import check_params


def is_distributor() -> bool:
    """Return whether this process runs no test itself: the one that `-n 2` starts first."""
    counts = (count for option, count in itertools.pairwise(sys.argv) if option == "-n")
    return "PYTEST_XDIST_WORKER" not in os.environ and any(count != "0" for count in counts)


# Not in a fixture: threads cannot be pinned after the first computation, which may be a test's parameter. The
# distributor computes nothing, and the others would wait for its import of TensorFlow.
if not is_distributor():
    pin_threads()

# The same examples in every run, and no limit of time: a busy machine must not fail a test.
settings.register_profile("srlib", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("srlib")

# A runner in the background or under nohup ignores these signals, and the processes that a test starts and stops would
# inherit that. A handler is not inherited.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda signum, frame: None)


# Fixture → the markers of each test that uses it, directly or through another fixture.
MARKERS = {
    "shared": ("data",),
    "webdriver": ("browser", "slow"),
    "new_repository": ("dvc", "slow"),
    "sources": ("slow",),
}
# These run in one process, which makes the repository of tests/pipeline once: a minute.
TOGETHER = tuple(f"tests/pipeline/test_{name}.py" for name in ("repro", "dependencies", "documented_commands"))
LONGEST = (
    *TOGETHER,
    "tests/training/test_backends.py",
    "tests/pipeline/test_div2k.py",
    "tests/training/test_loop.py",
    "tests/training/test_processes.py",
    "tests/inference/test_export_formats.py",
    "tests/tracking/test_registry.py",
    "tests/training/test_divergence.py",
    "tests/pipeline/test_sharing.py",
    "tests/survey/test_browser.py",
    "tests/inference/test_export.py",
    "tests/training/gan/test_trainer.py",
    "tests/tracking/test_repro.py",
    "tests/tracking/test_stage.py",
    "tests/test_engine.py",
    "tests/training/test_pretrain.py",
)
"""Files of more than ten seconds, the longest first."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process a whole file at a time, as `--dist loadfile` does, and the files of `TOGETHER` to one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return TOGETHER[0] if file in TOGETHER else file

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their fixtures; the longest files come first, so that two processes end at about the same time."""
    for item in items:
        for fixture in MARKERS.keys() & set(getattr(item, "fixturenames", ())):
            for marker in MARKERS[fixture]:
                item.add_marker(marker)
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::", 1)[0], len(LONGEST)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real images and weights beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the images and weights of ../shared/data")
    return folder


ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"ArrowLeft": "\ue012", "ArrowRight": "\ue014", "Enter": "\ue007", "Tab": "\ue004", "Backspace": "\ue003"}


def call(url: str, method: str = "GET", content: Any = None) -> Any:
    """Send one WebDriver command and return its value."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=180) as reply:
            return json.load(reply)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {json.load(error)['value']['message']}") from None


class Browser:
    """One browser with its own profile folder; the same folder again is the same person returning."""

    def __init__(self, driver: str, profile: Path, *, language: str = "en", phone: bool = False) -> None:
        # Containers have no sandbox and little /dev/shm; pages under test are ours.
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"]
        arguments += [
            f"--user-data-dir={profile}",
            "--no-first-run",
            "--window-size=1280,860",
            "--force-device-scale-factor=1",
        ]
        downloads = {"download.default_directory": str(profile / "downloads"), "intl.accept_languages": language}
        options: dict[str, Any] = {"args": arguments, "prefs": downloads}
        if phone:
            metrics = {"width": 390, "height": 780, "pixelRatio": 3.0, "touch": True, "mobile": True}
            options["mobileEmulation"] = {"deviceMetrics": metrics}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = call(f"{driver}/session", "POST", {"capabilities": {"alwaysMatch": capabilities}})
        self.url = f"{driver}/session/{session['sessionId']}"
        self.profile = profile
        self.downloads = profile / "downloads"

    def open(self, url: str) -> None:
        call(f"{self.url}/url", "POST", {"url": url})

    def js(self, script: str, *arguments: Any) -> Any:
        """Return the value of a JavaScript expression, with `a` for the arguments; await a promise."""
        body = f"const a = arguments; return ({script});"
        return call(f"{self.url}/execute/sync", "POST", {"script": body, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any, seconds: float = 60) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.js(script, *arguments):
                return value
            time.sleep(0.02)
        raise AssertionError(f"never true: {script}; the page says: {self.js('document.body.innerText')[:300]}")

    def find(self, selector: str) -> str:
        return call(f"{self.url}/element", "POST", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector: str) -> None:
        """Click or tap an element; fail where something covers it."""
        call(f"{self.url}/element/{self.find(selector)}/click", "POST", {})

    def upload(self, selector: str, path: Path) -> None:
        """Choose a file in a file input."""
        call(f"{self.url}/element/{self.find(selector)}/value", "POST", {"text": str(path)})

    def press(self, *keys: str) -> None:
        """Press keys in the element that has the focus."""
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        call(f"{self.url}/actions", "POST", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def text(self, selector: str) -> str:
        return call(f"{self.url}/element/{self.find(selector)}/text")

    def emulate(self, **features: str) -> None:
        """Set media features, such as prefers_color_scheme="dark"."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=listed)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return call(f"{self.url}/goog/cdp/execute", "POST", {"cmd": command, "params": parameters})

    def screenshot(self) -> bytes:
        return base64.b64decode(call(f"{self.url}/screenshot"))

    def errors(self) -> list[str]:
        """Return the errors in the console, violations of the page's security policy among them."""
        log = call(f"{self.url}/se/log", "POST", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def wait_until_stored(self, text: str) -> None:
        """Wait until a text in the local storage is on disk, which takes Chromium five seconds.

        Chromedriver kills a browser that takes too long to close, as on a busy machine, and what was not on disk is
        lost.
        """
        for _ in range(1200):
            logs = self.profile.rglob("Local Storage/leveldb/*.log")
            if any(text.encode() in log.read_bytes() for log in logs):
                return
            time.sleep(0.05)
        raise AssertionError(f"never on disk: {text}")

    def close(self) -> None:
        call(self.url, "DELETE")


@pytest.fixture(scope="session")
def webdriver() -> Iterator[str]:
    """Yield the address of a chromedriver; tests skip where there is none."""
    program, browser = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if not program or not browser:
        pytest.skip("needs chromium and chromedriver on the path")
    process = subprocess.Popen([program, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    try:
        matches = (re.search(r"successfully on port (\d+)", line) for line in process.stdout)
        port = next(match[1] for match in matches if match)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.fixture
def browse(webdriver: str, tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    """Open browsers, `browse("profile", language="ar", phone=True)`, and close those left open at the end."""
    opened: list[Browser] = []

    def start(profile: str = "profile", **options: Any) -> Browser:
        opened.append(Browser(webdriver, tmp_path / profile, **options))
        return opened[-1]

    yield start
    for browser in opened:
        with contextlib.suppress(AssertionError):  # a test may have closed it
            browser.close()


Lines = Callable[[dict[str, object]], list[str]]
TRAIN, TEST, STORE = Path("data/raw/train"), Path("data/raw/test"), Path(".store")


@pytest.fixture
def check_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Return the lines of the check stage about the quick start with some keys changed, in an empty folder."""
    from srlib.check import check_recipe

    monkeypatch.chdir(tmp_path)

    def lines(changes: dict[str, object]) -> list[str]:
        content = yaml.safe_load((Path(__file__).parent / "recipe.yaml").read_text())
        for key, value in changes.items():
            *sections, last = key.split(".")
            section = content
            for name in sections:
                section = section[name]
            section[last] = value
        try:
            check_recipe(check_params(content, "params.yaml"), train=TRAIN, test=TEST, store=STORE)
        except SrlibError as error:
            assert all(line.startswith("params.yaml: ") for line in str(error).splitlines())
            return [line.removeprefix("params.yaml: ") for line in str(error).splitlines()]
        return []

    return lines


def noise_images(folder: Path, count: int = 3, side: int = 200) -> Path:
    """Write different images of noise."""
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder
