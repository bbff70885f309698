"""What is on its way to MLflow. Training never waits for a server, and an outage loses nothing.

Rows are kept and sent from a thread. While the server does not answer they wait; what is left at the end of a stage
goes to a file, which the next stage that starts sends.
"""

import hashlib
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from srlib import errors
from srlib.files import remove, write_json

UNSENT = ".resume/.unsent"
BATCH = 1000
SEND_SECONDS = 2.0
SAMPLE_SECONDS = 10.0
LONGEST_PAUSE = 60.0
_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST"})


class Row(NamedTuple):
    """A metric, or a tag where `time` is None. `time` is in milliseconds since 1970."""

    run: str
    key: str
    value: Any
    time: int | None = None
    step: int = 0


class Outbox:
    """Sends metrics, tags and files in the background, and samples the machine.

    Args:
        client: An `mlflow.MlflowClient`.
        run: The id of the run that the samples belong to.
        unsent: The file that takes what could not be sent.
        sample: Gives system metrics, name → value; called every ten seconds.
    """

    def __init__(self, client: Any, run: str, unsent: Path, sample: Callable[[], dict[str, float]]) -> None:
        self._client, self._run, self._unsent, self._sample = client, run, unsent, sample
        self._rows: deque[Row] = deque()
        self._files: deque[Callable[[], object]] = deque()
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._outage = self._ended = False
        self._samples = self._suspects = 0
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="MLflow outbox", daemon=True)
        self._thread.start()

    def add_metrics(self, run: str, metrics: dict[str, float], step: int) -> None:
        """Queues metrics of a run with the time of this call."""
        now = _milliseconds()
        with self._guard:
            self._rows.extend(Row(run, name, value, now, step) for name, value in metrics.items())

    def add_tags(self, run: str, tags: dict[str, str]) -> None:
        """Queues tags of a run."""
        with self._guard:
            self._rows.extend(Row(run, name, value) for name, value in tags.items())

    def add_file(self, send: Callable[[], object]) -> None:
        """Queues a call that sends a file or a picture."""
        with self._guard:
            self._files.append(send)

    def close(self, seconds: float, ends: dict[str, str]) -> None:
        """Sends what is left and ends the runs; what cannot be sent within `seconds` is kept for a later start.

        Args:
            seconds: How long a server that does not answer is waited for.
            ends: Run id → status.
        """
        now = _milliseconds()
        deadline = time.monotonic() + seconds
        self._closing.set()
        self._thread.join(timeout=seconds)
        # A thread that still waits for an answer may hold a row: then nothing is sent twice at once, all is kept.
        while not self._thread.is_alive() and not self._end(ends, now) and time.monotonic() < deadline:
            time.sleep(1)
        if self._ended:
            return
        content = {
            "store": store_digest(self._client),
            "rows": list(self._rows),
            "ends": {run: [status, now] for run, status in ends.items()},
        }
        lost = f"; {len(self._files)} pictures or files were not sent" if self._files else ""
        try:
            write_json(self._unsent, content)
            kept = "are kept for the next stage that starts"
        except OSError as error:
            kept = f"are lost ({error.strerror})"
        print(f"warning: MLflow: {len(self._rows)} rows and the end of the run {kept}{lost}", file=sys.stderr)

    def _end(self, ends: dict[str, str], now: int) -> bool:
        if self._send():
            try:
                for run, status in ends.items():
                    self._client.set_terminated(run, status, now)
                self._ended = True
            except Exception as error:
                self._warn(error)
                self._ended = _refused(error)
        return self._ended

    def _work(self) -> None:
        next_send, next_sample, pause = 0.0, time.monotonic() + SEND_SECONDS, SEND_SECONDS
        while not self._closing.wait(0.5):
            now = time.monotonic()
            if now >= next_sample:
                self._add_sample()
                next_sample = now + SAMPLE_SECONDS
            if now >= next_send:
                pause = SEND_SECONDS if self._send() else min(2 * pause, LONGEST_PAUSE)
                next_send = time.monotonic() + pause

    def _add_sample(self) -> None:
        try:
            self.add_metrics(self._run, self._sample(), self._samples)
            self._samples += 1
        except Exception as error:
            print(f"warning: system metrics end here: {one_line(error)}", file=sys.stderr)
            self._sample = dict

    def _send(self) -> bool:
        """Sends all that waits; False if the server does not answer. What it refuses for good is dropped, and said."""
        while self._rows or self._files:
            with self._guard:
                rows = list(islice(self._rows, 1 if self._suspects else BATCH))
                file = None if rows else self._files[0]
            try:
                _send_rows(self._client, rows) if file is None else file()
            except Exception as error:
                if _refused(error) and len(rows) > 1:
                    self._suspects = len(rows)  # one of them is to blame: each goes alone
                    continue
                self._warn(error)
                if not _refused(error):
                    return False
            self._suspects = max(0, self._suspects - len(rows))
            with self._guard:
                if file is None:
                    for _ in rows:
                        self._rows.popleft()
                else:
                    self._files.popleft()
        if self._outage:
            self._outage = False
            print("MLflow answers again; everything was sent", file=sys.stderr)
        return True

    def _warn(self, error: Exception) -> None:
        """One line per outage, one per reason of a refusal."""
        if _refused(error):
            if one_line(error) not in self._told:
                self._told.add(one_line(error))
                print(f"warning: MLflow refuses a row or a file: {one_line(error)}", file=sys.stderr)
        elif not self._outage:
            self._outage = True
            print(f"warning: MLflow: {one_line(error)}; rows are kept and sent later", file=sys.stderr)


def _send_rows(client: Any, rows: list[Row]) -> None:
    """Sends up to 1000 rows, in as few requests as they allow. Sending a row twice changes nothing."""
    from mlflow.entities import Metric, RunTag

    for run in dict.fromkeys(row.run for row in rows):
        metrics = [Metric(r.key, r.value, r.time, r.step) for r in rows if r.run == run and r.time is not None]
        tags = [RunTag(r.key, r.value) for r in rows if r.run == run and r.time is None]
        if metrics:
            client.log_batch(run, metrics=metrics)
        for start in range(0, len(tags), 100):
            client.log_batch(run, tags=tags[start : start + 100])


def send_unsent(client: Any, root: Path) -> None:
    """Sends what earlier stages could not send to this store."""
    for path in sorted((root / UNSENT).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["store"] != store_digest(client):
            continue
        rows = [Row(*row) for row in content["rows"]]
        try:
            for start in range(0, len(rows), BATCH):
                _send_rows(client, rows[start : start + BATCH])
            for run, (status, end) in content["ends"].items():
                client.set_terminated(run, status, end)
        except Exception as error:
            if not _refused(error):
                raise
            print(f"warning: MLflow refuses rows of an earlier stage: {one_line(error)}", file=sys.stderr)
        remove(path)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def store_digest(client: Any) -> str:
    """Names a store without writing its address, which may hold a password."""
    return hashlib.sha256(client.tracking_uri.encode()).hexdigest()[:16]


def one_line(error: BaseException) -> str:
    """What went wrong, in one line; of a connection that failed, where to, without the library's own account of it."""
    text = errors.one_line(error)
    if "Max retries exceeded" in text or "Failed to establish a new connection" in text:
        return "the tracking server does not answer"
    return text


def _refused(error: Exception) -> bool:
    """True for an answer that would be the same next time."""
    if isinstance(error, OSError):  # a server's broken answer is one, and a ValueError too
        return isinstance(error, FileNotFoundError)
    return getattr(error, "error_code", None) in _REFUSED or isinstance(error, (TypeError, ValueError))
