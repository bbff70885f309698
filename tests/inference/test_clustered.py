"""What a run on a cluster says where it ends early, with a stand-in for Dask; tests/test_cluster.py has a real one."""

import contextlib
import signal
from pathlib import Path

import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.imaging.write import write_png
from srlib.inference import clustered
from srlib.inference.batch import ImageOptions
from srlib.inference.clustered import run_on_cluster
from srlib.inference.jobs import plan_jobs
from srlib.signals import Stopped


class Cluster:
    """A cluster that is lost at the last image."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def for_each(self, function, items, *, on_result, **options):
        for position, item in enumerate(items[:-1]):
            on_result(position, function(item))
        raise self._error


@pytest.mark.parametrize("error", [SrlibError("the same images killed 4 workers"), Stopped(signal.SIGTERM)])
def test_the_lines_so_far_are_not_lost(folder, bicubic, monkeypatch, capfd, error):
    Path("in").mkdir()
    Path("in/a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    for name in "bc":
        write_png(Path(f"in/{name}.png"), np.zeros((5, 6, 3), np.uint8))
    monkeypatch.setattr(clustered, "connected", lambda *a, **options: contextlib.nullcontext(Cluster(error)))
    monkeypatch.setattr(clustered, "_models", {})
    with pytest.raises(type(error)) as ended:
        run_on_cluster(plan_jobs(["in"], "out"), lambda: bicubic, ImageOptions(), scheduler="tcp://127.0.0.1:1")
    is_stop = isinstance(error, Stopped)
    lines = (capfd.readouterr().err if is_stop else str(ended.value)).splitlines()
    assert lines[-2].startswith("in/a.png: truncated or damaged") or "/in/a.png: truncated" in lines[-2]
    assert lines[-1] == ("stopped: results that are complete stay; run it again to continue" if is_stop else str(error))
    assert [path.name for path in Path("out").iterdir()] == ["b.png"]
