"""The queue of what is to be sent to MLflow. Training never waits for a server, and an outage loses no record.

A thread sends records. While the server does not answer they wait; what is left at the end of a stage goes to a file,
which the next stage sends.
"""

import hashlib
import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from srlib import errors
from srlib.atomic import remove
from srlib.files import write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

UNSENT = ".resume/.unsent"
BATCH = 1000
"""Most records in one request."""
SEND_SECONDS = 2.0
"""Seconds from one sending to the next, while the server answers."""
SAMPLE_SECONDS = 10.0
"""Seconds from one sample of the system's metrics to the next."""
LONGEST_PAUSE = 60.0
"""Most seconds from one attempt to the next, while the server does not answer."""
_SQL = re.compile(r" (\[SQL: |\(Background on this error).*")
_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST"})


class Record(NamedTuple):
    """A metric, or a tag where `time` is None. `time` is in milliseconds since 1970.

    A metric may belong to a logged model too, and to the data it was measured on: both are empty otherwise.
    """

    run: str
    key: str
    value: float | str
    time: int | None = None
    step: int = 0
    model: str = ""
    dataset: str = ""
    digest: str = ""


class Outbox:
    """Sends metrics, tags and files in the background, and samples the machine's load.

    Args:
        client: A client of the store.
        run: Id of the run that the samples belong to.
        unsent: The file that receives what could not be sent.
        sample: Function that returns system metrics, name → value; called every ten seconds.
    """

    def __init__(self, client: "MlflowClient", run: str, unsent: Path, sample: Callable[[], dict[str, float]]) -> None:
        self._client = client
        self._run = run
        self._unsent = unsent
        self._sample = sample
        self._samples = 0
        self._records: deque[Record] = deque()
        self._files: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._is_ended = False
        self._is_outage = False
        self._reported: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="MLflow outbox", daemon=True)
        self._thread.start()

    def add_metrics(
        self, run: str, metrics: Mapping[str, float], step: int, model: str = "", dataset: tuple[str, str] = ("", "")
    ) -> None:
        """Queue metrics of a run, with the time of this call.

        Args:
            run: Id of the run.
            metrics: Name → value.
            step: Their step.
            model: Id of the logged model that they belong to too.
            dataset: Name and digest of the data they were measured on.
        """
        now = _milliseconds()
        with self._lock:
            self._records.extend(Record(run, name, v, now, step, model, *dataset) for name, v in metrics.items())

    def add_tags(self, run: str, tags: dict[str, str]) -> None:
        """Queue tags of a run."""
        with self._lock:
            self._records.extend(Record(run, name, value) for name, value in tags.items())

    def add_file(self, send: Callable[[], object]) -> None:
        """Queue a call that sends a file or an image."""
        with self._lock:
            self._files.append(send)

    def close(self, seconds: float, ends: dict[str, str]) -> None:
        """Send what is left and end the runs; write what cannot be sent to a file for the next stage.

        Args:
            seconds: Seconds to wait for a server that does not answer.
            ends: Id of a run → its status.
        """
        now = _milliseconds()
        deadline = time.monotonic() + seconds
        self._closing.set()
        self._thread.join(timeout=seconds)
        # A thread that still waits for an answer may hold a record: then all is kept, rather than sent twice at once.
        while not self._thread.is_alive() and not self._end(ends, now) and time.monotonic() < deadline:
            time.sleep(1)
        if self._is_ended:
            return
        content = {
            "store": store_digest(self._client),
            "records": list(self._records),
            "ends": {run: [status, now] for run, status in ends.items()},
        }
        files = f"; {len(self._files)} images or files were not sent" if self._files else ""
        try:
            write_json(self._unsent, content)
            outcome = "will be sent by the next stage"
        except OSError as error:
            outcome = f"are lost ({error.strerror})"
        print(f"warning: MLflow: {len(self._records)} records and the end of the run {outcome}{files}", file=sys.stderr)

    def _end(self, ends: dict[str, str], now: int) -> bool:
        """Send what is left and end the runs; return whether that is done."""
        if self._send():
            try:
                _send_ends(self._client, {run: (status, now) for run, status in ends.items()}, self._warn)
                self._is_ended = True
            except Exception as error:
                self._warn(error)
        return self._is_ended

    def _work(self) -> None:
        """Sample and send until `close`; the pauses grow while the server does not answer."""
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
        """Send the queue; return False if the server does not answer. What it refuses is reported and dropped."""
        while self._records or self._files:
            with self._lock:
                records = list(islice(self._records, BATCH))
                file = None if records else self._files[0]
            try:
                _send_accepted(self._client, records, self._warn) if file is None else file()
            except Exception as error:
                self._warn(error)
                if not _refused(error):
                    return False
            with self._lock:
                if file is None:
                    for _ in records:
                        self._records.popleft()
                else:
                    self._files.popleft()
        if self._is_outage:
            self._is_outage = False
            print("MLflow answers again; everything was sent", file=sys.stderr)
        return True

    def _warn(self, error: Exception) -> None:
        """Print one line per outage, and one per reason of a refusal."""
        if _refused(error):
            if one_line(error) not in self._reported:
                self._reported.add(one_line(error))
                print(f"warning: MLflow refuses a record or a file: {one_line(error)}", file=sys.stderr)
        elif not self._is_outage:
            self._is_outage = True
            print(f"warning: MLflow: {one_line(error)}; records are kept and sent later", file=sys.stderr)


def _send_accepted(client: "MlflowClient", records: list[Record], refuse: Callable[[Exception], None]) -> None:
    """Send up to 1000 records; halve what is refused until each refused record is found, and call `refuse` for it.

    Any other error, such as that of a server that does not answer, is raised: then all records are to be sent again.
    """
    try:
        _send_records(client, records)
    except Exception as error:
        if not _refused(error):
            raise
        if len(records) == 1:
            refuse(error)
            return
        half = len(records) // 2
        _send_accepted(client, records[:half], refuse)
        _send_accepted(client, records[half:], refuse)


def _send_ends(
    client: "MlflowClient", ends: Mapping[str, tuple[str, int]], refuse: Callable[[Exception], None]
) -> None:
    """End each run with its status and time; call `refuse` for a refused one, and raise any other error."""
    for run, (status, end) in ends.items():
        try:
            client.set_terminated(run, status, end)
        except Exception as error:
            if not _refused(error):
                raise
            refuse(error)


def _send_records(client: "MlflowClient", records: list[Record]) -> None:
    """Send up to 1000 records in as few requests as possible. Sending one twice changes nothing."""
    from mlflow.entities import Metric, RunTag

    for run in dict.fromkeys(record.run for record in records):
        metrics = [
            Metric(r.key, r.value, r.time, r.step, r.model or None, r.dataset or None, r.digest or None)
            for r in records
            if r.run == run and r.time is not None
        ]
        tags = [RunTag(r.key, r.value) for r in records if r.run == run and r.time is None]
        if metrics:
            client.log_batch(run, metrics=metrics)
        for start in range(0, len(tags), 100):
            client.log_batch(run, tags=tags[start : start + 100])


def send_unsent(client: "MlflowClient", root: Path) -> None:
    """Send what earlier stages could not send to this store.

    Args:
        client: A client of the store.
        root: The repository, which holds the files of unsent records.
    """
    for path in sorted((root / UNSENT).glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            store, ends = content["store"], {run: (status, end) for run, (status, end) in dict(content["ends"]).items()}
            records = [Record(*record) for record in content["records"]]
        except FileNotFoundError:  # another stage has sent it
            continue
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            print(f"warning: {path}: not usable, removed: {one_line(error)}", file=sys.stderr)
            remove(path)
            continue
        if store != store_digest(client):
            continue
        refusals: list[Exception] = []
        for start in range(0, len(records), BATCH):
            _send_accepted(client, records[start : start + BATCH], refusals.append)
        _send_ends(client, ends, refusals.append)
        for reason in dict.fromkeys(map(one_line, refusals)):
            print(f"warning: MLflow refuses a record of an earlier stage: {reason}", file=sys.stderr)
        remove(path)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def store_digest(client: "MlflowClient") -> str:
    """Return a name for a store that does not show its address, which may hold a password."""
    return hashlib.sha256(client.tracking_uri.encode()).hexdigest()[:16]


def one_line(error: BaseException) -> str:
    """Return an error as one line, without a database's statement; for a failed connection in plain words."""
    text = _SQL.sub("", errors.one_line(error))
    if "Max retries exceeded" in text or "Failed to establish a new connection" in text:
        return "the tracking server does not answer"
    return text


def _refused(error: Exception) -> bool:
    """Return whether the same request would be refused again."""
    if isinstance(error, OSError):  # a server's broken answer is one, and a ValueError too
        return isinstance(error, FileNotFoundError)
    return getattr(error, "error_code", None) in _REFUSED or isinstance(error, (TypeError, ValueError))
