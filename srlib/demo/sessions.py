"""The files of the people who have the page open: an upload and a result for each, removed when the page is closed."""

import contextlib
import shutil
import signal
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.errors import SrlibError
from srlib.signals import Stopped

if TYPE_CHECKING:
    from gradio.components import Component


@dataclass
class Session:
    """One open page.

    Attributes:
        upload: The file that was dropped.
        result: Folder of the last result.
        asked: What was chosen at the last click on Upscale; None once that work has begun.
        is_stopped: Set to end the work that was asked for last, also while it waits in the queue.
    """

    upload: Path | None = None
    result: Path | None = None
    asked: "Mapping[Component, object] | None" = None
    is_stopped: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Job:
    """Work that has begun.

    Attributes:
        upload: The file to upscale.
        folder: An empty folder for the result.
        is_stopped: Set to end this work.
    """

    upload: Path
    folder: Path
    is_stopped: threading.Event

    def check_stop(self) -> None:
        """Raise `Stopped` if the work is to end."""
        if self.is_stopped.is_set():
            raise Stopped(signal.SIGINT)


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
        """Note the file that was dropped, or that it was removed; stop the work on the one before, and delete both."""
        session = self[key]
        with self._lock:
            session.is_stopped.set()
            before, session.upload = session.upload, upload
        self._forget_result(session)
        if before is not None and before != upload:
            self._delete_upload(before)
        self._delete_empty_files()

    def ask(self, key: str, values: "Mapping[Component, object]") -> None:
        """Note that work was asked for, which may wait in a queue: what was asked for or stopped before is over."""
        session = self[key]
        with self._lock:
            session.asked = values
            if session.is_stopped.is_set():  # else the work that runs would be out of reach
                session.is_stopped = threading.Event()

    def begin(self, key: str) -> "Mapping[Component, object] | None":
        """Return what was chosen at the last click; None if work on it has begun already, or the page was closed."""
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            values, session.asked = session.asked, None
            return values

    @contextlib.contextmanager
    def job(self, key: str) -> Iterator[Job]:
        """Begin work on a page's upload. Its folder is deleted at the end unless it holds the page's result then.

        Raises:
            SrlibError: There is no upload.
            Stopped: A person pressed Stop, dropped another file or closed the page, before the work or in it.
        """
        with self._lock:
            if key not in self._sessions:  # closed
                raise Stopped(signal.SIGINT)
            session = self._sessions[key]
            upload, is_stopped = session.upload, session.is_stopped
        self._forget_result(session)
        if is_stopped.is_set():
            raise Stopped(signal.SIGINT)
        if upload is None or not upload.is_file():
            raise SrlibError("Drop an image or a film first.")
        job = Job(upload, Path(tempfile.mkdtemp(prefix="result-", dir=self._folder)), is_stopped)
        try:
            yield job
            with self._lock:
                job.check_stop()
                session.result = job.folder
        except SrlibError:
            job.check_stop()  # its file was taken away
            raise
        finally:
            if session.result != job.folder:
                shutil.rmtree(job.folder, ignore_errors=True)

    def close(self, key: str) -> None:
        """Stop the work of a page that was closed, and delete its files."""
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is None:
                return
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
