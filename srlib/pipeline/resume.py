"""The folder in which an interrupted stage keeps what it goes on from: `.resume/<stage>/<fingerprint>/`.

It is no DVC output: those are deleted before a stage runs again. It belongs to one fingerprint, so that a changed
parameter, dependency, library or processor starts afresh, and to one process at a time. It is removed once dvc.lock
records what came of it, so a kill between the end of training and DVC's commit loses nothing.
"""

import fcntl
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from srlib.errors import SrlibError
from srlib.files import remove, write_json

FOLDER = ".resume"
KEPT = 3
"""States of other fingerprints that stay, per stage, in case a change is taken back."""

_held: set[int] = set()


def fingerprint(facts: dict[str, Any]) -> str:
    """16 hexadecimal digits over everything that may change the bytes of a stage's outputs."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class ResumeState:
    """One stage's resume folder. Beside it stand `<fingerprint>.json`, what it belongs to, and a lock.

    Attributes:
        folder: Where the stage keeps its state; only there once `open` was called.
        resumed_from: The id of the run that left the state, None if it starts afresh.
    """

    def __init__(self, root: Path, address: str, facts: dict[str, Any]) -> None:
        self.address, self.facts = address, facts
        self.folder = root / FOLDER / address / fingerprint(facts)
        self.resumed_from: str | None = None
        self._about = self.folder.with_suffix(".json")
        self._lock: int | None = None

    @property
    def is_open(self) -> bool:
        """True between `open` and `close`."""
        return self._lock is not None

    def open(self, run: str) -> Path:
        """Makes the folder, locks it for this process and notes the id of the run that works on it.

        Raises:
            SrlibError: Another process works on it.
        """
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder)
            if self._lock is None:
                owner = self.folder.with_suffix(".lock").read_text().strip()
                raise SrlibError(
                    f"{self.address}: process {owner} works on the same state ({self.folder}); wait for it or stop it"
                )
            about = _read(self._about)
            if any(self.folder.iterdir()):
                self.resumed_from = about.get("run", "unknown")
            else:
                self._explain_fresh_start()
            write_json(self._about, {"facts": self.facts, "run": run, "outputs": about.get("outputs", {})})
        return self.folder

    def done(self, outputs: dict[str, str]) -> None:
        """Notes the hashes of the finished outputs; once dvc.lock records the same, the state may go."""
        if self._lock is not None:
            write_json(self._about, _read(self._about) | {"outputs": outputs})

    def close(self) -> None:
        """Gives the lock back. The system does it for a process that was killed."""
        if self._lock is not None:
            _unlock(self._lock)
            self._lock = None

    def _explain_fresh_start(self) -> None:
        """One line for somebody who expects to go on but changed something."""
        earlier = [path for path in _states(self.folder.parent) if path != self._about and not _read(path)["outputs"]]
        if earlier:
            differences = _differences(_read(earlier[0])["facts"], self.facts)
            more = [f"and {len(differences) - 3} more"] if len(differences) > 3 else []
            changed = "; ".join(differences[:3] + more)
            print(f"{self.address}: starts afresh; an interrupted run differs in {changed}", file=sys.stderr)


def clean(root: Path, recorded: dict[str, dict[str, str]], current: ResumeState) -> None:
    """Removes states whose outputs dvc.lock records, and all but the latest few of each stage. None that is in use.

    Args:
        root: The repository that holds `.resume`.
        recorded: Stage → output → hash, from dvc.lock.
        current: The state of the stage that starts now; it does not count among the few.
    """
    for stage in sorted((root / FOLDER).glob("*/")):
        others = 0
        for path in _states(stage):
            outputs = _read(path)["outputs"]
            other = path.with_suffix("") != current.folder
            others += other
            recorded_all = outputs and outputs.items() <= recorded.get(stage.name, {}).items()
            if recorded_all or (other and others > KEPT):
                _remove_state(path.with_suffix(""))


def _remove_state(folder: Path) -> None:
    lock = _lock(folder)
    if lock is None:
        return
    try:
        remove(folder)
        remove(folder.with_suffix(".json"))
        remove(folder.with_suffix(".lock"))
    finally:
        _unlock(lock)


def _states(stage: Path) -> list[Path]:
    """The `….json` of each state of a stage, the latest first."""
    return sorted(stage.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _lock(folder: Path) -> int | None:
    """Takes `<folder>.lock` for this process: a descriptor to close, or None if a living process has it.

    The system holds the lock, so that no other process can be mistaken for a dead owner. Children do not inherit it.
    """
    path = folder.with_suffix(".lock")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        # Somebody may have removed the file between the two calls; the lock of a removed file protects nothing.
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            break
        os.close(descriptor)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    _held.add(descriptor)
    return descriptor


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    _forget(descriptor)


def _forget(*descriptors: int) -> None:
    for descriptor in descriptors:
        _held.discard(descriptor)
        os.close(descriptor)


# A forked worker that outlives a killed stage must not keep its lock.
os.register_at_fork(after_in_child=lambda: _forget(*_held))


def _read(path: Path) -> dict[str, Any]:
    """What stands beside a state; of a file that is missing or damaged, nothing."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        content = {}
    return {"facts": {}, "outputs": {}} | content


def _differences(before: Any, after: Any, key: str = "") -> list[str]:
    """`params.batch: 16 → 32` for each value that two nested facts do not share; of a hash only that it changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [d for k in keys for d in _differences(before.get(k), after.get(k), f"{key}.{k}".lstrip("."))]
    if before == after:
        return []
    section, _, path = key.partition(".")
    return [path] if section == "dependencies" else [f"{path or section}: {before} → {after}"]
