"""srlib.engine: what is pinned and recorded. (That TensorFlow obeys: tests/tracking/test_stage.py.)"""

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from srlib.engine import available_cores, pin_threads, processor
from srlib.errors import SrlibError

ROOT = Path(__file__).parents[1]


def test_an_unknown_backend_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(SrlibError, match=r"^KERAS_BACKEND: expected tensorflow or jax, got theano$"):
        pin_threads.__wrapped__()


@pytest.mark.skipif(importlib.util.find_spec("jax") is not None, reason="JAX is installed")
def test_a_backend_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(SrlibError, match=r"^KERAS_BACKEND=jax: jax is not installed in this environment$"):
        pin_threads.__wrapped__()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_only_the_cores_that_this_process_may_use_count() -> None:
    code = (
        "import os; from srlib.engine import available_cores; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "print(available_cores())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "1\n"
    assert available_cores() == len(os.sched_getaffinity(0))


def test_the_processor_is_the_same_each_time_and_one_line() -> None:
    assert processor() == processor()
    assert len(processor().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "expected"), [(None, True), ("0", False)])
def test_convolutions_are_onednns_and_keras_json_is_ignored(asked: str | None, expected: bool, tmp_path: Path) -> None:
    """A keras.json that Keras would refuse; a valid one: `test_a_model_loads_with_any_settings_of_keras`."""
    settings = '{"floatx": "nonsense", "image_data_format": "channels_first", "epsilon": 0.5, "backend": "jax"}'
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(settings)
    code = (
        "from srlib.engine import pin_threads; facts = pin_threads()\n"
        "import keras, os; keras.ops.conv(keras.ops.ones((1, 8, 8, 16)), keras.ops.ones((3, 3, 16, 16)))\n"
        "c = keras.config\n"
        "print(c.backend(), c.floatx(), c.epsilon(), c.image_data_format(), os.environ.get('KERAS_HOME'))\n"
        "print(facts['keras'].split(' ', 1)[1])\n"
        "print('engine:', facts['backend'])"
    )
    dropped = ("KERAS_HOME", "KERAS_BACKEND", "TF_ENABLE_ONEDNN_OPTS")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {"HOME": str(tmp_path), "ONEDNN_VERBOSE": "1"}
    environment |= {} if asked is None else {"TF_ENABLE_ONEDNN_OPTS": asked}
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT, env=environment)
    *_, in_use, recorded, engine = (line for line in output.splitlines() if not line.startswith("onednn_verbose"))
    assert (in_use, recorded) == ("tensorflow float32 1e-07 channels_last None", "float32 1e-07 channels_last")
    assert (tmp_path / ".keras" / "keras.json").read_text() == settings
    assert ("without oneDNN" in engine) == (not expected)
    if platform.machine() == "x86_64" and sys.platform == "linux":  # oneDNN is of this platform
        assert (",convolution," in output) == expected


def test_large_blocks_stay_with_the_process_on_glibc() -> None:
    """A block of 16 MB is taken from the heap instead of being mapped, so that freeing it returns nothing."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc has this setting")
    code = (
        "import ctypes, sys; from srlib.engine import keep_freed_memory\n"
        "if sys.argv[1] == 'kept': keep_freed_memory()\n"
        "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; libc.free.argtypes = [ctypes.c_void_p]\n"
        "for _ in range(20):\n"
        "    block = libc.malloc(16 << 20); ctypes.memset(block, 1, 16 << 20); libc.free(block)\n"
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)"
    )

    def page_faults(how: str) -> int:
        known = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        return int(subprocess.check_output([sys.executable, "-c", code, how], text=True, cwd=ROOT, env=known))

    assert page_faults("kept") < page_faults("default")


@pytest.mark.slow
@pytest.mark.parametrize("imported", [False, True])
def test_a_model_loads_with_any_settings_of_keras(imported: bool, tmp_path: Path) -> None:
    """`srlib.load_model` in a program of one's own, with settings of one's own, which stay as they are."""
    (tmp_path / ".keras").mkdir()
    settings = '{"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.5, "backend": "torch"}'
    (tmp_path / ".keras" / "keras.json").write_text(
        settings if not imported else settings.replace("torch", "tensorflow")
    )
    code = (
        f"{'import keras' if imported else ''}\nimport srlib, numpy as np\n"
        "model, _ = srlib.load_model('srlib/weights/psnr-x4/keras')\n"
        "import keras; c = keras.config\n"
        "out = np.asarray(model(np.full((1, 5, 7, 3), 0.5, np.float32)))\n"
        "print({v.dtype for v in model.variables}, out.dtype, out.shape, round(float(out.mean()), 4))\n"
        "print(c.backend(), c.floatx(), c.epsilon(), c.image_data_format())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("KERAS_HOME", "KERAS_BACKEND")}
    environment |= {"HOME": str(tmp_path)}
    lines = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT, env=environment).splitlines()
    own = "float16 0.5 channels_first" if imported else "float32 1e-07 channels_last"
    assert lines[-2].startswith("{'float32'} float32 (1, 20, 28, 3) 0.")
    assert lines[-1] == f"tensorflow {own}"


@pytest.mark.parametrize("backend", ["torch", "nonsense"])
def test_a_model_and_a_backend_that_is_not_supported(backend: str) -> None:
    code = (
        "import srlib\n"
        "try: srlib.load_model('srlib/weights/psnr-x4/keras')\n"
        "except srlib.SrlibError as error: print(error)"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT, env=environment)
    assert printed == f"KERAS_BACKEND: expected tensorflow or jax, got {backend}\n"
