"""A real Dask scheduler and two workers on 127.0.0.1: the bytes of one process, also with a worker killed."""

import _thread
import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from srlib import cluster, cluster_worker
from srlib.cluster import connected
from srlib.data import patches
from srlib.data.downscale import degrade_folder, downscale_folder
from srlib.errors import SrlibError
from srlib.imaging.write import write_png
from srlib.inference.batch import ImageOptions
from srlib.inference.choice import open_any
from srlib.inference.image_files import upscale_files, upscale_plan
from srlib.inference.jobs import plan_jobs
from srlib.inference.records import Records
from srlib.inference.upscaler import open_model
from srlib.params import Prepare
from srlib.params.degradation import Degradation

ROOT = Path(__file__).resolve().parents[1]
needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="needs Dask: pip install 'srlib[cluster]'"
)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[int]]]:
    """The address of a scheduler, its process, and those of the nannies of its two workers, which restart them."""
    folder = tmp_path_factory.mktemp("dask")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
    }
    environment.pop("DASK_SCHEDULER_ADDRESS", None)
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(folder / "scheduler.json")]
    with contextlib.ExitStack() as stack, (folder / "log").open("w") as log:

        def start(*command: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, *common],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            return process

        processes = [start("scheduler", "--port", "0").pid]
        options = ["--nthreads", "1", "--local-directory", str(folder)]
        processes += [start("worker", *options).pid for _ in range(2)]
        from distributed import Client

        end = time.monotonic() + 120
        while not (folder / "scheduler.json").exists():
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.1)
        address = json.loads((folder / "scheduler.json").read_text())["address"]
        with Client(address, set_as_default=False, timeout=60) as client:
            client.wait_for_workers(2, timeout=120)
        yield address, processes


@pytest.fixture
def address(workers: tuple[str, list[int]]) -> str:
    return workers[0]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def draw(folder: Path, count: int, height: int = 72, width: int = 60) -> Path:
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (height + number, width, 3), np.uint8)
        write_png(folder / ("sub" * (number % 2)) / f"{number}.png", pixels)
    return folder


@needs_dask
@pytest.mark.slow
class TestOnWorkers:
    def test_prepare_writes_the_bytes_of_one_process(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(draw(tmp_path / "images", 8).parent)
        monkeypatch.setattr(patches, "_PART", 10_000)  # 3 HR patches or 52 LR patches per file
        params = Prepare(images="images", patch=8, stride=3, sizes=[1.0, 0.7], noise=4, validation=0.2, unusable="skip")
        run = functools.partial(patches.prepare_patches, Path("images"), params=params, scale=4, seed=1)
        Path("images/broken.png").write_bytes(Path("images/0.png").read_bytes()[:900])
        here = run(Path("here"))
        there = run(Path("there"), scheduler=address)
        assert (here.train, here.validation, here.images) == (there.train, there.validation, there.images)
        assert content(Path("here")) == content(Path("there"))
        names = set(content(Path("here")))
        assert {"train_hr.20.npy", "train_lr.1.npy", "validation_lr.npy", "index.csv"} <= names
        assert sorted(os.listdir()) == ["here", "images", "there"], "nothing temporary is left"

    def test_downscaled_and_degraded_folders(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(draw(tmp_path / "in", 9).parent)
        write_png(Path("in/tiny.png"), np.zeros((3, 9, 3), np.uint8))
        degradation = Degradation.model_validate({"clean": 0.0, "passes": [{"blur": {}, "noise": {}}]})
        for name, options in (("here", {}), ("there", {"scheduler": address})):
            with pytest.raises(SrlibError, match=r"tiny\.png: 9×3 pixels, too small for ×4\n1 of 10 images were left"):
                downscale_folder(Path("in"), Path(name, "exact"), 4, **options)
            degrade_folder(Path("in"), Path(name, "random"), 2, degradation, seed=5, **options)
        assert content(Path("here")) == content(Path("there"))
        assert "degrading: 10/10 images (100%)" in capfd.readouterr().err

    def test_upscale_with_a_worker_killed(
        self, workers: tuple[str, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(draw(tmp_path / "in", 16, 40, 48).parent)
        srlib = [sys.executable, "-m", "srlib.cli", "upscale", "in", "--threads", "1", "--scores", "scores.csv", "-o"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [*srlib, "there", "--scheduler", workers[0]]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and len(content(Path("there"))) < 3:
                time.sleep(0.02)
            (worker,) = (p for p in psutil.Process(workers[1][1]).children() if "spawn_main" in " ".join(p.cmdline()))
            worker.kill()
            _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert "upscaling: 16/16 images (100%)" in errors
        lines = Path("scores.csv").read_text().splitlines()[1:]
        assert sorted(line.split(",")[0] for line in lines) == sorted(f"in/{name}" for name in content(Path("in")))
        subprocess.run([*srlib, "here"], env=environment, check=True, capture_output=True)
        assert content(Path("there")) == content(Path("here"))

    def test_auto_with_maps_and_tracked_scores(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(draw(tmp_path / "in", 3, 40, 48).parent)
        records = {name: Records.at(None, f"{name}/maps", f"{name}/x4", tracked=True) for name in ("here", "there")}
        for name, one in records.items():
            model = functools.partial(open_any, "auto", threads=1)
            scheduler = address if name == "there" else None
            upscale_plan(plan_jobs(["in"], f"{name}/x4"), model, ImageOptions(), one, scheduler)
        here, there = (
            sorted((replace(line, seconds=0, result="") for line in one.lines), key=lambda line: line.image)
            for one in records.values()
        )
        assert here == there and len(here) == 3
        assert records["here"].fingerprints == records["there"].fingerprints
        assert content(Path("here")) == content(Path("there")) and len(content(Path("there/maps"))) == 3

    def test_a_part_of_a_folder_by_python(self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(draw(tmp_path / "in", 6).parent)
        for part in ("1/2", "2/2"):
            upscale_files("in", "there", scores="scores.csv", scheduler=address, part=part)
        assert len(content(Path("there"))) == 6
        rows = [len(Path(f"scores.part-{part}-of-2.csv").read_text().splitlines()) - 1 for part in (1, 2)]
        assert sum(rows) == 6 and min(rows) > 0

    def test_an_interruption_stops_the_workers(self, address: str) -> None:
        def interrupt(position: int, result: None) -> None:
            raise KeyboardInterrupt

        with connected(address) as two:
            assert two
            with pytest.raises(KeyboardInterrupt):
                two.for_each(time.sleep, [0.2] * 4000, label="sleeping", unit="items", task=10, on_result=interrupt)
            counts = two._client.run(lambda dask_worker: dask_worker.state.executing_count)
            assert list(counts.values()) == [0, 0]
            assert two.for_each(abs, range(-9, 9), label="l", unit="u") == [abs(i) for i in range(-9, 9)]
            with pytest.raises(ValueError, match="invalid literal"):
                two.for_each(int, ["1", "x", *["2"] * 50], label="l", unit="u")

    @pytest.mark.parametrize("is_interrupted", [False, True])
    def test_what_was_done_before_the_end_is_kept(self, is_interrupted: bool, address: str, tmp_path: Path) -> None:
        results: dict[int, str] = {}
        last = None if is_interrupted else 27

        def write(item: int) -> str:
            if item == last:
                raise ValueError("the last one")
            time.sleep(0.05)
            (tmp_path / str(item)).touch()
            return f"{item} is done"

        if is_interrupted:
            threading.Timer(1.0, _thread.interrupt_main).start()
        with connected(address) as two, pytest.raises(KeyboardInterrupt if is_interrupted else ValueError):
            assert two
            two.for_each(write, range(400), label="writing", unit="items", task=20, on_result=results.__setitem__)
        assert len(results) > 3
        assert results == {int(path.name): f"{path.name} is done" for path in tmp_path.iterdir()}

    def test_workers_with_another_version(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        here = cluster.own_versions()
        for name, line in (
            ("srlib", f"has srlib {here['srlib']}, and this is 9.9; install srlib"),
            ("code", f"has srlib {here['srlib']} with other code than here; install srlib"),
            ("Python", f"has Python {here['Python']}, and this is 9.9; install srlib"),
        ):
            monkeypatch.setattr(cluster, "own_versions", lambda name=name: here | {name: "9.9"})
            with pytest.raises(SrlibError) as error, connected(address):
                pass
            assert str(error.value).startswith(f"{address}: 2 of 2 workers: {line}") and "\n" not in str(error.value)

    def test_a_task_that_kills_its_workers(self, address: str) -> None:
        with connected(address) as two, pytest.raises(SrlibError, match=r"^cutting: .* killed 2 workers .* memory"):
            assert two
            two.for_each(os._exit, [3], label="cutting", unit="images")

    def test_a_scheduler_that_dies(
        self, workers: tuple[str, list[int]], capfd: pytest.CaptureFixture[str]
    ) -> None:  # the last of these tests
        def kill(position: int, result: None) -> None:
            os.kill(workers[1][0], signal.SIGKILL)

        with connected(workers[0]) as two, pytest.raises(SrlibError, match=r"^l: the connection to the scheduler"):
            assert two
            two.for_each(time.sleep, [0.5] * 100, label="l", unit="u", task=1, on_result=kill)
        assert "distributed." not in capfd.readouterr().err, "Dask logs nothing"


def test_workers_open_a_model_by_its_name() -> None:
    model = open_model("psnr-x4", threads=1)
    with pytest.raises(SrlibError, match=r"^model: workers of a cluster open it themselves; expected"):
        upscale_files("in", "out", model=model, scheduler="tcp://10.0.0.1:8786")


@needs_dask
@pytest.mark.slow
def test_without_workers_a_line_says_so(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "_LOOK", 0.05)
    monkeypatch.setattr(cluster, "_ABSENT", 0.3)
    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": None, "protocol": "tcp://"}
    with LocalCluster(n_workers=0, host="127.0.0.1", **options) as local:
        address = local.scheduler_address
        line = f"{address}: no worker has been connected for 1 min, and the work waits; start one (dask worker "

        def remove_worker(position: int, result: None) -> None:
            if position == 0:
                local.scale(0)
                threading.Timer(2.0, local.scale, [1]).start()

        threading.Timer(2.0, local.scale, [1]).start()
        with connected(address) as one:
            assert capfd.readouterr().err.count(line) == 1
            assert one
            one.for_each(time.sleep, [0.2] * 10, label="l", unit="items", task=1, on_result=remove_worker)
            assert capfd.readouterr().err.count(line) == 1


@needs_dask
def test_a_scheduler_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT", 0.5)
    with pytest.raises(SrlibError, match=r"^tcp://127.0.0.1:1: no Dask scheduler answered within 0 s"):  # noqa: SIM117
        with connected("tcp://127.0.0.1:1"):
            pass


@needs_dask
def test_tls_without_certificates() -> None:
    with pytest.raises(SrlibError, match=r"^tls://127.0.0.1:1: TLS needs certificates"):  # noqa: SIM117
        with connected("tls://127.0.0.1:1"):
            pass


@pytest.mark.parametrize("address", ["10.0.0.1", "http://host:8786", "tcp://host", "tcp://a b:1", "two\nlines:1"])
def test_a_wrong_address_is_one_line(address: str) -> None:
    with (
        pytest.raises(SrlibError, match="expected the address of a Dask scheduler, such as tcp://"),
        connected(address),
    ):
        pass


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SrlibError, match=r"needs dask and distributed: \S+ -m pip install 'srlib\[cluster\]'$"):  # noqa: SIM117
        with connected("tcp://10.0.0.1:8786"):
            pass
    with connected(None) as nothing, connected("") as no_address:
        assert nothing is no_address is None


def test_what_a_worker_does_not_see(tmp_path: Path) -> None:
    def line(inputs: list[Path], probes: list[Path]) -> str | None:
        run = f"{inputs}{probes}"  # answers are remembered by run
        return cluster_worker.mismatch(
            cluster_worker.Requirements(run, (), tuple(map(str, inputs)), tuple(map(str, probes)))
        )

    (tmp_path / "in").mkdir()
    (tmp_path / "probe").touch()
    assert line([tmp_path / "in"], [tmp_path / "probe"]) is None
    assert line([tmp_path / "none"], []) == f"does not see {tmp_path}/none"
    assert line([], [tmp_path / "none/probe"]) == f"does not see {tmp_path}/none"
    assert line([], [tmp_path / "in/probe"]) == f"sees another folder at {tmp_path}/in"
