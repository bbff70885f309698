"""The folder in which an interrupted stage keeps its checkpoint: `.resume/<stage>/<fingerprint>/`.

It is not a DVC output: DVC deletes those before a stage runs again. It belongs to one fingerprint, so that a changed
parameter, dependency, library or processor starts afresh, and to one process at a time. It is removed once dvc.lock
records the outputs, so that a kill between the end of training and DVC's commit loses nothing.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from filelock import FileLock, Timeout

from srlib.atomic import remove
from srlib.errors import SrlibError
from srlib.files import write_json

FOLDER = ".resume"
KEPT = 3
"""Checkpoints of other fingerprints that stay, per stage, in case a change is reverted."""


class Note(TypedDict):
    """The note beside a checkpoint: what it belongs to, the run that wrote it, the hashes of the finished outputs."""

    facts: Mapping[str, object]
    run: str
    outputs: dict[str, str]


def fingerprint(facts: Mapping[str, object]) -> str:
    """Return 16 hexadecimal digits over everything that may change the bytes of a stage's outputs."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class ResumeState:
    """One stage's resume folder. Beside it lie `<fingerprint>.json`, its note, and `<fingerprint>.lock`.

    Args:
        root: The repository.
        address: The stage as DVC names it.
        facts: Everything that may change its outputs.

    Attributes:
        folder: Where the stage keeps its checkpoint; it exists once `open` was called.
        resumed_from: Id of the run that left the checkpoint; None for a fresh start.
    """

    def __init__(self, root: Path, address: str, facts: Mapping[str, object]) -> None:
        self.address = address
        self.facts = facts
        self.folder = root / FOLDER / address / fingerprint(facts)
        self.resumed_from: str | None = None
        self._note = self.folder.with_suffix(".json")
        self._lock = _lock_of(self.folder)

    @property
    def is_open(self) -> bool:
        """True between `open` and `close`."""
        return self._lock.is_locked

    def open(self, run: str) -> Path:
        """Create the folder, lock it for this process and note the run that works on it.

        Args:
            run: Id of the run.

        Returns:
            The folder.

        Raises:
            SrlibError: Another process works on it.
        """
        if self.is_open:
            return self.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            owner = Path(self._lock.lock_file).read_text(encoding="utf-8").strip()
            raise SrlibError(
                f"{self.address}: process {owner} works on the same checkpoint ({self.folder}); wait for it or stop it"
            ) from None
        Path(self._lock.lock_file).write_text(f"{os.getpid()}\n", encoding="utf-8")
        note = _read(self._note)
        if any(self.folder.iterdir()):
            self.resumed_from = note["run"]
        else:
            self._explain_fresh_start()
        write_json(self._note, {"facts": self.facts, "run": run, "outputs": note["outputs"]})
        return self.folder

    def done(self, outputs: dict[str, str]) -> None:
        """Note the hashes of the finished outputs; once dvc.lock records the same, the checkpoint is removed."""
        if self.is_open:
            write_json(self._note, _read(self._note) | {"outputs": outputs})

    def close(self) -> None:
        """Release the lock. For a killed process the system does so."""
        self._lock.release()

    def _explain_fresh_start(self) -> None:
        """Print one line for somebody who expects to resume but changed something."""
        earlier = [path for path in _notes(self.folder.parent) if path != self._note and not _read(path)["outputs"]]
        if earlier:
            changes = differences(_read(earlier[0])["facts"], self.facts)
            more = [f"and {len(changes) - 3} more"] if len(changes) > 3 else []
            changed = "; ".join(changes[:3] + more)
            print(f"{self.address}: starts afresh; an interrupted run differs in {changed}", file=sys.stderr)


def clean(root: Path, recorded: dict[str, dict[str, str]], current: ResumeState) -> None:
    """Remove checkpoints whose outputs dvc.lock records, and all but the latest few of each stage; none in use.

    Args:
        root: The repository that holds `.resume`.
        recorded: Stage → output → hash, from dvc.lock.
        current: The state of the stage that starts now; it is not counted.
    """
    for stage in sorted((root / FOLDER).glob("*/")):
        others = 0
        for path in _notes(stage):
            outputs = _read(path)["outputs"]
            is_other = path.with_suffix("") != current.folder
            others += is_other
            is_recorded = outputs and outputs.items() <= recorded.get(stage.name, {}).items()
            if is_recorded or (is_other and others > KEPT):
                _remove_checkpoint(path.with_suffix(""))


def _remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint with its note and lock file, unless a process works on it."""
    lock = _lock_of(folder)
    try:
        with lock:
            remove(folder)
            remove(folder.with_suffix(".json"))
            remove(folder.with_suffix(".lock"))
    except Timeout:
        return


def _lock_of(folder: Path) -> FileLock:
    """Return the lock of a checkpoint, which the system releases when its process ends, however it ends."""
    return FileLock(folder.with_suffix(".lock"), blocking=False)


def _notes(stage: Path) -> list[Path]:
    """Return the note of each checkpoint of a stage, the latest first."""
    return sorted(stage.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _read(path: Path) -> Note:
    """Read a note; a missing or damaged one counts as empty."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        content = {}
    facts, outputs = content.get("facts"), content.get("outputs")
    return {
        "facts": facts if isinstance(facts, dict) else {},
        "run": str(content.get("run", "unknown")),
        "outputs": outputs if isinstance(outputs, dict) else {},
    }


def differences(before: object, after: object, key: str = "") -> list[str]:
    """Return `params.batch: 16 → 32` for each value that differs between nested facts; for a hash the name alone."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = sorted(before.keys() | after.keys())
        return [d for k in keys for d in differences(before.get(k), after.get(k), f"{key}.{k}".lstrip("."))]
    if before == after:
        return []
    section, _, path = key.partition(".")
    return [path] if section == "dependencies" else [f"{path or section}: {before} → {after}"]
