"""The Keras backend, its threads and the processor, each of which may change the last bits of a result.

A stage calls `pin_threads` before its first computation, and never imports Keras earlier. A program that has used Keras
before it calls srlib keeps its own settings: `pin_if_unused`.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from srlib.errors import SrlibError, pip_install

BACKENDS = ("tensorflow", "jax")
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


class EngineFacts(TypedDict):
    """What a resumed run must agree on; part of the fingerprint of a stage that uses Keras."""

    backend: str
    keras: str
    numpy: str
    threads: int
    processor: str
    devices: list[str]


@functools.cache
def pin_threads() -> EngineFacts:
    """Fix what would make two runs differ in their last bits, before the first computation.

    TensorFlow gets as many threads inside an operation as this process may use cores, one operation at a time (see also
    `fixed_order`), deterministic operations, and oneDNN's kernels on every processor: by default it leaves them out
    without AVX512-VNNI, where steps then take twice as long. JAX gets deterministic operations on GPUs and takes its
    threads from the same cores. KERAS_BACKEND is tensorflow and TF_ENABLE_ONEDNN_OPTS is 1 unless set. The user's
    keras.json is ignored.

    Returns:
        Backend, versions, Keras settings, number of threads, type of processor, devices.

    Raises:
        SrlibError: KERAS_BACKEND names a backend that is not supported or not installed.
    """
    backend = check_backend()
    os.environ["KERAS_BACKEND"] = backend
    threads = available_cores()
    try:
        with _without_keras_json():
            devices = _pin_tensorflow(threads) if backend == "tensorflow" else _pin_jax()
            settings = _pin_keras()
    except ModuleNotFoundError as error:
        raise SrlibError(f"KERAS_BACKEND={backend}: {error.name} is not installed in this environment") from None
    return {
        "backend": f"{backend} {version(backend)}{_kernels(backend)}",
        "keras": f"{version('keras')} {settings}",
        "numpy": version("numpy"),
        "threads": threads,
        "processor": processor(),
        "devices": devices,
    }


def pin_if_unused() -> None:
    """Call `pin_threads`, unless this program has imported Keras or a backend: threads cannot be changed after a use.

    For computations that decide no file's bytes: the last bits of their results follow the program's own settings.

    Raises:
        SrlibError: See `pin_threads`.
    """
    if not {"keras", *BACKENDS} & sys.modules.keys():
        pin_threads()


def check_backend() -> str:
    """Return the Keras backend that KERAS_BACKEND names, `tensorflow` if it is not set, without importing it.

    Raises:
        SrlibError: The backend is not supported or not installed.
    """
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend not in BACKENDS:
        raise SrlibError(f"KERAS_BACKEND: expected {' or '.join(BACKENDS)}, got {backend}")
    if find_spec(backend) is None:
        raise SrlibError(f"KERAS_BACKEND={backend}: {backend} is not installed in this environment")
    return backend


@contextlib.contextmanager
def _without_keras_json() -> Iterator[None]:
    """Let Keras, which reads its settings when it is imported, find no folder of settings in the block."""
    folder = os.environ.get("KERAS_HOME")
    os.environ["KERAS_HOME"] = os.devnull
    try:
        yield
    finally:
        del os.environ["KERAS_HOME"]
        if folder is not None:
            os.environ["KERAS_HOME"] = folder


@contextlib.contextmanager
def keras_defaults() -> Iterator[None]:
    """Let Keras use its own defaults in the block, whatever keras.json or the calling program set.

    Raises:
        SrlibError: Keras or the backend that KERAS_BACKEND names is not installed.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = check_backend()
    try:
        with _without_keras_json():
            from keras import config
    except ModuleNotFoundError as error:
        raise SrlibError(f"a Keras model needs {error.name}: {pip_install('srlib[pipeline]')}") from None
    before = config.floatx(), config.epsilon(), config.image_data_format()
    _pin_keras()
    try:
        yield
    finally:
        config.set_floatx(before[0])
        config.set_epsilon(before[1])
        config.set_image_data_format(before[2])


def _pin_keras() -> str:
    """Set Keras' own defaults, also where it was imported before, and return them for the fingerprint."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    return "float32 1e-07 channels_last"


def _kernels(backend: str) -> str:
    """Return a remark for the fingerprint where oneDNN was switched off: other kernels, other last bits."""
    return " without oneDNN" if backend == "tensorflow" and os.environ[ONEDNN] == "0" else ""


def _pin_tensorflow(threads: int) -> list[str]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ.setdefault(ONEDNN, "1")
    with _without_greeting():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return [str(detail.get("device_name", "GPU")) for detail in details] or ["CPU"]


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Hold back the dozen lines that TensorFlow's libraries write at each start, before any log level counts.

    Everything else passes, and so does a driver's complaint wherever there is a driver.
    """
    greeting = [r"^I0000 ", r"All log messages before absl::InitializeLog"]
    if not Path("/dev/nvidiactl").exists():
        greeting.append(r"failed call to cuInit")
    with tempfile.TemporaryFile() as output:
        stderr = os.dup(2)
        os.dup2(output.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            output.seek(0)
            for line in output.read().decode(errors="replace").splitlines():
                if not any(re.search(pattern, line) for pattern in greeting):
                    print(line, file=sys.stderr)


@contextlib.contextmanager
def fixed_order() -> Iterator[None]:
    """Run TensorFlow graphs in the block, on processors, in the order they were written, one operation at a time.

    By default the last bits of a gradient depend on which operations happened to be ready. AddN, the sum of gradients
    that meet, adds into the first input that nothing else waits for; the memory optimizer takes such sums apart and
    adds in the order in which their terms arrive; the dependency optimizer drops edges that keep a variable's update
    behind an earlier read. A graph must run within the block from its first call on. JAX needs none of this. With GPUs,
    where this executor could deadlock, only the dependency optimizer is switched off.
    """
    if pin_threads()["backend"].startswith("jax"):
        yield
        return
    import tensorflow as tf

    on_processors = pin_threads()["devices"] == ["CPU"]
    option = "disable_meta_optimizer" if on_processors else "dependency_optimization"
    tf.config.optimizer.set_experimental_options({option: on_processors})
    try:
        with tf.experimental.function_executor_type("SINGLE_THREADED_EXECUTOR" if on_processors else ""):
            yield
    finally:
        tf.config.optimizer.set_experimental_options({option: not on_processors})


def _pin_jax() -> list[str]:
    flags = os.environ.get("XLA_FLAGS", "")
    if "--xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    import jax

    return [device.device_kind for device in jax.devices()]


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and Keras.

    Keras seeds TensorFlow too, wherever it is installed. On JAX that would import it in every process of a training:
    seconds, and a dozen lines of greeting.

    Args:
        seed: Any whole number from 0 to 2³² − 1.
    """
    import keras

    hides = keras.backend.backend() != "tensorflow" and "tensorflow" not in sys.modules
    if hides:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # an import fails, as if it were not installed
    try:
        keras.utils.set_random_seed(seed)
    finally:
        if hides:
            del sys.modules["tensorflow"]


def keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed instead of returning them to the system; elsewhere do nothing.

    Requesting them again, page by page, for the images and activations of each step costs 3 to 6 % of the time. The
    environment variables MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ have precedence.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    thresholds = {"MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20), "MALLOC_TRIM_THRESHOLD_": (-1, 512 << 20)}
    for name, (option, size) in thresholds.items():
        if mallopt and name not in os.environ:
            mallopt(option, size)


def available_cores() -> int:
    """Return the number of cores that this process may use, which `taskset` or a batch system may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name and, on Linux, a digest of its instruction sets, by which kernels are chosen."""
    if facts := _cpuinfo():
        name = facts.get("model name") or facts.get("CPU part") or platform.machine()
        return f"{name} {hashlib.sha256(' '.join(_instructions(facts)).encode()).hexdigest()[:8]}"
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def lacks_bfloat16() -> bool:
    """Return whether bfloat16 is slower than float32 here: on an x86-64 without AVX512-BF16, AMX or a GPU."""
    instructions = set(_instructions(_cpuinfo()))
    on_processor = all(device.lower() == "cpu" for device in pin_threads()["devices"])
    return on_processor and "sse2" in instructions and not {"avx512_bf16", "amx_bf16"} & instructions


def _cpuinfo() -> dict[str, str]:
    """Return what Linux reports about the first processor; nothing on other systems."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return {}
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    return dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))


def _instructions(facts: dict[str, str]) -> list[str]:
    """Return the names of the instruction sets, sorted."""
    return sorted((facts.get("flags") or facts.get("Features") or "").split())
