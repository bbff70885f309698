"""The files of the people who have the page open: an upload and a result for each, removed when the page is closed."""

import contextlib
import shutil
import tempfile
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Session:
    """One open page.

    Attributes:
        upload: The file that was dropped.
        result: Folder of the last result.
        is_stopped: Set to end the work.
    """

    upload: Path | None = None
    result: Path | None = None
    is_stopped: threading.Event = field(default_factory=threading.Event)


class Sessions:
    """All open pages, by the key that the page's server gives each.

    Args:
        folder: Folder of all files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sessions: defaultdict[str, Session] = defaultdict(Session)
        self._lock = threading.Lock()

    def __getitem__(self, key: str) -> Session:
        with self._lock:
            return self._sessions[key]

    def take(self, key: str, upload: Path | None) -> None:
        """Note the file that was dropped, or that it was removed; delete the one before and the result."""
        session = self[key]
        self._forget_result(session)
        before, session.upload = session.upload, upload
        if before is not None and before != upload:
            self._delete_upload(before)
        self._delete_empty_files()

    def new_result(self, key: str) -> Path:
        """Return an empty folder for a result; delete the result before."""
        session = self[key]
        self._forget_result(session)
        session.is_stopped.clear()
        session.result = Path(tempfile.mkdtemp(prefix="result-", dir=self._folder))
        return session.result

    def drop_result(self, key: str) -> None:
        """Delete the result, as after work that failed."""
        self._forget_result(self[key])

    def close(self, key: str) -> None:
        """Stop the work of a page that was closed, and delete its files."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.is_stopped.set()
            self._forget_result(session)
            if session.upload is not None:
                self._delete_upload(session.upload)

    def stop_all(self) -> None:
        """End all work."""
        with self._lock:
            for session in self._sessions.values():
                session.is_stopped.set()

    @staticmethod
    def _forget_result(session: Session) -> None:
        if session.result is not None:
            shutil.rmtree(session.result, ignore_errors=True)
            session.result = None

    def _delete_upload(self, upload: Path) -> None:
        """Delete an upload unless another page has dropped the same file, which the server stores once."""
        with self._lock:
            if any(session.upload == upload for session in self._sessions.values()):
                return
        upload.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or not there
            upload.parent.rmdir()

    def _delete_empty_files(self) -> None:
        """Delete the empty files that Gradio makes for each upload and does not use."""
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_size == 0:
                    path.unlink()
