"""Exported forms of the pipeline's own models, in the user's cache folder."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from srlib.errors import SrlibError, one_line, pip_install
from srlib.files import tree_hash
from srlib.inference.exported import ExportedModel, is_exported, read_exported


def read_through_cache(folder: Path) -> ExportedModel:
    """Return the exported form of a Keras model; export it at its first use and keep it under the model's hash.

    Where the cache folder cannot be written, the exported form is used once and not kept.

    Args:
        folder: A model folder of the pipeline (`config.json` and `model.weights.h5`).

    Returns:
        The exported network in memory.

    Raises:
        SrlibError: No model, a missing package, or the exported network does not agree with Keras.
    """
    from srlib.inference.export import export
    from srlib.models.checkpoint import read_config

    read_config(folder)  # before anything is hashed, which may be much in a folder that is no model
    name = tree_hash(folder)[:32]
    cache = _cache_folder()
    line = f"{folder}: exporting to OpenVINO before its first use, about a minute"
    if cache is None:
        print(f"{line}; used once, since there is no cache folder", file=sys.stderr)
        with tempfile.TemporaryDirectory() as temporary:
            # Keras imports Matplotlib, which would need a home folder too.
            os.environ.setdefault("MPLCONFIGDIR", temporary)
            export(folder, Path(temporary, name))
            return read_exported(Path(temporary, name))
    if model := _read_if_whole(cache / name):
        return model
    with _locked(cache / f"{name}.lock", folder):
        if model := _read_if_whole(cache / name):  # another process has exported it meanwhile
            return model
        print(f"{line}; kept in {cache / name}", file=sys.stderr)
        export(folder, cache / name, force=True)
        return read_exported(cache / name)


def _read_if_whole(folder: Path) -> ExportedModel | None:
    """Read an exported model; None where there is none, or a damaged one."""
    if is_exported(folder):
        with contextlib.suppress(SrlibError):
            return read_exported(folder)
    return None


@contextlib.contextmanager
def _locked(path: Path, folder: Path) -> Iterator[None]:
    """Hold the lock of a model's export, which the system releases when its process ends, however it ends."""
    try:
        from filelock import FileLock, Timeout
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{folder}: another process exports it; waiting for its end", file=sys.stderr)
        lock.acquire()
    except (OSError, NotImplementedError):  # as on some network file systems: two exports at once do no harm
        pass
    try:
        yield
    finally:
        lock.release()


def _missing(error: ModuleNotFoundError) -> SrlibError:
    return SrlibError(f"a Keras model needs {error.name}: {pip_install('srlib[pipeline]')}")


def _cache_folder() -> Path | None:
    """Return the user's cache folder for models, made if needed, or None where none can be written."""
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    try:
        folder = user_cache_path("srlib", appauthor=False) / "models"
        if not folder.is_absolute():  # no HOME and no entry for this user: `~` stayed as it is
            return None
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, KeyError) as error:
        print(f"warning: no cache folder ({one_line(error)}); set XDG_CACHE_HOME to one", file=sys.stderr)
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
