"""What computes, and how: the Keras backend, its threads, the processor. All of it may change the last bits."""

import contextlib
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
from pathlib import Path
from typing import Any

from srlib.errors import SrlibError

BACKENDS = ("tensorflow", "jax")
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


@functools.cache
def pin_threads() -> dict[str, Any]:
    """Fixes what would make two runs differ in their last bits, before the first computation; says what it fixed.

    TensorFlow gets as many threads inside an operation as this process may use cores, one operation at a time (see also
    `fixed_order`), deterministic operations, and oneDNN's kernels on any processor: left alone it leaves them out below
    AVX512-VNNI, where steps then take twice as long. JAX gets deterministic operations on GPUs and takes its threads
    from the same cores. KERAS_BACKEND is TensorFlow and TF_ENABLE_ONEDNN_OPTS is 1 unless set.

    Returns:
        Backend, versions, number of threads, processor type and devices: what a resumed run must agree on.

    Raises:
        SrlibError: KERAS_BACKEND names a backend that is not supported or not installed.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS:
        raise SrlibError(f"KERAS_BACKEND: expected {' or '.join(BACKENDS)}, got {backend}")
    threads = available_cores()
    try:
        devices = _pin_tensorflow(threads) if backend == "tensorflow" else _pin_jax()
    except ModuleNotFoundError as error:
        raise SrlibError(f"KERAS_BACKEND={backend}: {error.name} is not installed in this environment") from None
    return {
        "backend": f"{backend} {version(backend)}{_kernels(backend)}",
        "keras": version("keras"),
        "numpy": version("numpy"),
        "threads": threads,
        "processor": processor(),
        "devices": devices,
    }


def _kernels(backend: str) -> str:
    """Says where oneDNN was switched off: other kernels, other last bits."""
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
    """Keeps back the dozen lines that TensorFlow's libraries write at each start, before any log level counts.

    Everything else passes, and a driver's complaint wherever there is a driver.
    """
    known = [r"^I0000 ", r"All log messages before absl::InitializeLog"]
    if not Path("/dev/nvidiactl").exists():
        known.append(r"failed call to cuInit")
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            for line in kept.read().decode(errors="replace").splitlines():
                if not any(re.search(pattern, line) for pattern in known):
                    print(line, file=sys.stderr)


@contextlib.contextmanager
def fixed_order() -> Iterator[None]:
    """Within the block, a TensorFlow graph runs on processors as it was written, one operation after another.

    Left alone, the last bits of a gradient depend on what else was ready at that moment. AddN, the sum of gradients
    that meet, adds into the first of its inputs that nothing else waits for; the memory optimizer takes such sums apart
    and adds in the order in which their terms come; the dependency optimizer drops edges that keep a variable's update
    behind an earlier reading. A graph must run within the block from its first call on. JAX needs none of it, and with
    GPUs, where this executor could wait for itself, only the dependencies are kept.
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


def available_cores() -> int:
    """The number of cores this process may use, which `taskset` or a batch system may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name and, on Linux, a digest of its instruction sets: kernels are chosen by them."""
    if facts := _cpuinfo():
        name = facts.get("model name") or facts.get("CPU part") or platform.machine()
        return f"{name} {hashlib.sha256(' '.join(_instructions(facts)).encode()).hexdigest()[:8]}"
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def lacks_bfloat16() -> bool:
    """Whether bfloat16 is known to be slower than float32 here: an x86-64 without AVX512-BF16 and AMX, and no GPU."""
    instructions = set(_instructions(_cpuinfo()))
    on_processor = all(device.lower() == "cpu" for device in pin_threads()["devices"])
    return on_processor and "sse2" in instructions and not {"avx512_bf16", "amx_bf16"} & instructions


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return {}
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    return dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))


def _instructions(facts: dict[str, str]) -> list[str]:
    """The names of the instruction sets, sorted."""
    return sorted((facts.get("flags") or facts.get("Features") or "").split())
