"""Exported forms of the pipeline's own models, in the user's cache folder."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from srlib.errors import SrlibError, one_line
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
    if cache is not None and is_exported(cache / name):
        with contextlib.suppress(SrlibError):  # damaged: it is exported again
            return read_exported(cache / name)
    where = f"kept in {cache / name}" if cache else "used once, since there is no cache folder"
    print(f"{folder}: exporting to OpenVINO before its first use, about a minute; {where}", file=sys.stderr)
    if cache is not None:
        export(folder, cache / name, force=True)
        return read_exported(cache / name)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("MPLCONFIGDIR", temporary)  # Keras imports Matplotlib, which would need a home folder too
        export(folder, Path(temporary, name))
        return read_exported(Path(temporary, name))


def _cache_folder() -> Path | None:
    """Return the user's cache folder for models, made if needed, or None where none can be written."""
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError as error:
        raise SrlibError(f"a Keras model needs {error.name}: pip install 'srlib[pipeline]'") from None
    try:
        folder = user_cache_path("srlib", appauthor=False) / "models"
        if not folder.is_absolute():  # no HOME and no entry for this user: `~` stayed as it is
            return None
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, KeyError) as error:
        print(f"warning: no cache folder ({one_line(error)}); set XDG_CACHE_HOME to one", file=sys.stderr)
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
