"""The page as people meet it: a real upload, real clicks, a download, and nothing left behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import srlib
from srlib.cli import demo as command
from srlib.demo import page
from srlib.errors import SrlibError

ROOT = Path(__file__).parents[2]
MAIN = "from srlib.cli import main; main()"
CHAMPION = """
from pathlib import Path
from srlib.files import file_hash
from srlib.models import ModelConfig, build, save_model
from srlib.tracking import Verdict, connect
from srlib.tracking.model import record_model
from srlib.tracking.registry import elect, register
import keras
keras.utils.set_random_seed(1)
folder, config = Path("model"), ModelConfig("compact", 4, {"blocks": 1, "filters": 8})
save_model(build(config), config, folder)
store, weights = connect(Path.cwd()), file_hash(folder / "model.weights.h5")
run = store.client.create_run(store.experiment).info.run_id
register(store, "own-x4", record_model(store, run, "pretrained", folder, {}), run, weights)
elect(store.client, "own-x4", weights, Verdict("Set5", "psnr_y", 30.0, "higher", 0.0, "the images"))
"""


def test_without_gradio_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(SrlibError, match=r"^the page needs Gradio: \S+ -m pip install 'srlib\[demo\]'"):
        command.demo()


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SrlibError, match=rf"^port {port} is taken \(.*\); choose another with --port$"):
            page._free_port("127.0.0.1", port)


@contextlib.contextmanager
def served(tmp_path: Path, *command: str) -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    """Run a command that serves the page; yield its address, its temporary folder and the process."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert process.stdout
    try:
        match = re.match(r"Page: (http://127\.0\.0\.1:\d+)", process.stdout.readline())
        assert match, process.communicate(timeout=300)[0]
        yield match[1], temporary, process
    finally:
        process.kill()
        process.communicate()


def drop(browser: Any, file: Path) -> None:
    browser.upload("#upload input[type=file]", file)
    browser.wait(f"document.querySelector('#status').innerText.includes('{file.name} is here')")


def status(browser: Any, text: str) -> str:
    browser.wait(f"document.querySelector('#status').innerText.includes('{text}')", seconds=180)
    return str(browser.text("#status"))


@pytest.mark.slow
def test_drop_upscale_compare_and_download(browse: Any, photo: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    source = photo(tmp_path / "photo.jpg", quality=95)
    with served(tmp_path, "-c", MAIN, "demo", "--port", "0") as (address, temporary, process):
        browser = browse()
        browser.open(address)
        browser.wait("document.querySelector('#start')", seconds=180)
        browser.click("#start")
        assert status(browser, "Not done") == "Not done. Drop an image or a film first."

        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        drop(browser, tmp_path / "broken.png")
        browser.click("#start")
        assert "broken.png: " in status(browser, "Not done")
        clear(browser)

        drop(browser, source)
        browser.click("#size label:nth-of-type(2)")
        browser.click("#start")
        assert "dB, largest difference" in status(browser, "LR consistency")
        browser.wait("document.querySelectorAll('#view img').length >= 2 && document.querySelector('#map img')")
        browser.click("#download")
        file = browser.downloads / "photo.jpg"
        end = time.monotonic() + 120
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        srlib.upscale_files(source, tmp_path / "command", scale=3)
        assert file.read_bytes() == (tmp_path / "command" / "photo.jpg").read_bytes()

        hosts = browser.js("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).host)")
        assert hosts and set(hosts) == {address.removeprefix("http://")}
        assert browser.errors() == []
        browser.close()
        end = time.monotonic() + 120
        while (left := [path for path in temporary.rglob("*") if path.is_file()]) and time.monotonic() < end:
            time.sleep(0.1)
        assert left == []

        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=300)[0].endswith("\nstopped; no files are left\n")
        assert process.returncode == 0 and not list(temporary.glob("srlib-demo*"))


def clear(browser: Any) -> None:
    browser.click("#upload button[aria-label='Clear']")
    status(browser, "Drop an image or a film.")


def choose(browser: Any, label: str) -> None:
    """Choose a model in the list by clicking."""
    option = "[...document.querySelectorAll('[role=option]')].find((e) => e.innerText.includes(a[0]))"
    browser.click("#model input")
    browser.wait(option, label)
    browser.js(f"{option}.id = 'wanted'", label)
    browser.click("#wanted")
    browser.wait("document.querySelector('#model input').value.includes(a[0])", label)


@pytest.mark.slow
def test_auto_names_its_model_and_stop_ends_the_work(browse: Any, photo: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    small = photo(tmp_path / "small.jpg", 64, 96, quality=30)
    with served(tmp_path, "-c", MAIN, "demo", "--port", "0") as (address, temporary, _):
        browser = browse()
        browser.open(address)
        browser.wait("document.querySelector('#start')", seconds=180)
        choose(browser, "auto")
        drop(browser, small)
        browser.click("#start")
        assert "small.jpg: photo-x4 (" in status(browser, "LR consistency")
        browser.wait("document.querySelector('#sure img')")

        clear(browser)
        drop(browser, photo(tmp_path / "large.png", 800, 900))
        browser.click("#start")
        browser.wait("/[1-9][0-9,]*.720,000 pixels/.test(document.body.innerText)", seconds=180)  # a part is done
        browser.click("#stop")
        assert status(browser, "Stopped.") == "Stopped."
        assert not list(temporary.rglob("result-*"))
        assert browser.errors() == []


@pytest.mark.slow
def test_work_ends_while_it_waits_and_with_its_file(browse: Any, photo: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    large = photo(tmp_path / "large.png", 1200, 900)
    with served(tmp_path, "-c", MAIN, "demo", "--port", "0") as (address, temporary, _):
        first, second = browse("one"), browse("two")
        for browser, file in ((first, large), (second, photo(tmp_path / "small.png"))):
            browser.open(address)
            browser.wait("document.querySelector('#start')", seconds=180)
            drop(browser, file)
            browser.click("#start")
            browser.wait("/queue|[0-9] pixels/.test(document.body.innerText)", seconds=180)
        second.click("#stop")
        first.click("#upload button[aria-label='Clear']")
        for browser in (first, second):
            assert status(browser, "Stopped.") == "Stopped."
            assert browser.errors() == []
        assert not list(temporary.rglob("result-*"))
        second.click("#start")
        assert "dB, largest difference" in status(second, "LR consistency")


@pytest.mark.slow
def test_the_last_click_decides(browse: Any, photo: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    large = photo(tmp_path / "large.png", 1200, 900)
    small = photo(tmp_path / "small.png", 24, 40)
    with served(tmp_path, "-c", MAIN, "demo", "--port", "0") as (address, temporary, _):
        first, second = browse("one"), browse("two")
        for browser, file in ((first, large), (second, small)):
            browser.open(address)
            browser.wait("document.querySelector('#start')", seconds=180)
            drop(browser, file)
            browser.click("#start")
            browser.wait("/queue|[0-9] pixels/.test(document.body.innerText)", seconds=180)
        second.click("#size label:nth-of-type(3)")
        second.click("#size label:nth-of-type(2)")
        second.click("#start")  # ×3 while it waits
        clear(first)
        drop(first, small)
        first.click("#size label:nth-of-type(1)")
        first.click("#start")  # ×2 while the work on the large image ends
        for browser, width in ((second, 120), (first, 80)):
            browser.wait("[...document.querySelectorAll('#view img')].some((e) => e.naturalWidth === a[0])", width, 180)
            assert "dB, largest difference" in status(browser, "LR consistency")
            assert browser.errors() == []
        assert len(list(temporary.rglob("result-*"))) == 2


@pytest.mark.slow
def test_the_champion_of_mlflow_upscales(browse: Any, photo: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    known = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", CHAMPION], cwd=tmp_path, check=True, env=known, capture_output=True)
    source = photo(tmp_path / "photo.png")
    with served(tmp_path, "-c", MAIN, "demo", "--port", "0") as (address, _, _):
        browser = browse()
        browser.open(address)
        browser.wait("document.querySelector('#start')", seconds=180)
        choose(browser, "own-x4@champion – from MLflow")
        drop(browser, source)
        browser.click("#start")
        status(browser, "LR consistency")
        browser.click("#download")
        file = browser.downloads / "photo.png"
        end = time.monotonic() + 120
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert browser.errors() == []
    srlib.upscale_files(source, tmp_path / "command", model=str(tmp_path / "model"))
    assert file.read_bytes() == (tmp_path / "command" / "photo.png").read_bytes()


@pytest.mark.slow
def test_a_phone_in_the_dark(browse: Any, photo: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    with served(tmp_path, str(ROOT / "demo/app.py")) as (address, _, process):
        browser = browse(phone=True)
        browser.emulate(prefers_color_scheme="dark")
        browser.open(address)
        browser.wait("document.querySelector('#start')", seconds=180)
        assert browser.js("innerWidth === 390 && document.documentElement.scrollWidth <= innerWidth")
        color = browser.js("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)")
        assert max(color) < 60
        button = browser.js("getComputedStyle(document.querySelector('#start')).backgroundColor")
        assert button == "rgb(194, 65, 12)", "white letters on it have a contrast of 5.2"
        drop(browser, photo(tmp_path / "large.png", 1500, 1500))
        browser.click("#start")
        assert "more than this page takes" in status(browser, "Not done")
        assert not browser.js("document.querySelector('#fit')?.checkVisibility() ?? false")
        browser.click("#size label:nth-of-type(4)")
        browser.wait("document.querySelector('#fit')?.checkVisibility()")
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
