import gc
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from srlib.pipeline.resume import ResumeState
from srlib.signals import Stopped, deferred_stop, stoppable
from srlib.stage import _closed_at_the_end, errors_in_one_line

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class TestStoppable:
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_raises(self, signum: signal.Signals) -> None:
        with pytest.raises(Stopped) as stopped, stoppable():
            signal.raise_signal(signum)
        assert stopped.value.signum == signum

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_an_exception_that_python_drops_is_raised_again(self, signum: signal.Signals) -> None:
        """In a callback of the garbage collector, such as JAX has, an exception cannot be raised."""

        def callback(phase: str, info: dict[str, int]) -> None:
            gc.callbacks.remove(callback)
            signal.raise_signal(signum)

        before = sys.unraisablehook
        with pytest.raises(KeyboardInterrupt if signum == signal.SIGINT else Stopped), stoppable():
            gc.callbacks.append(callback)
            gc.collect()
            for _ in range(100):
                time.sleep(0.05)
            pytest.fail("the signal was lost")
        assert sys.unraisablehook == before

    def test_an_ignored_signal_stays_ignored(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with stoppable(), deferred_stop() as stop:
                signal.raise_signal(signal.SIGHUP)
                assert stop.signum is None
        finally:
            signal.signal(signal.SIGHUP, before)


class TestDeferredStop:
    @pytest.mark.parametrize("signum", ALL)
    def test_a_signal_is_noted_and_raised_at_the_end(self, signum: signal.Signals) -> None:
        steps = []
        with pytest.raises(Stopped) as stopped, deferred_stop() as stop:
            signal.raise_signal(signum)
            steps.append("finished")
            assert stop.signum == signum
        assert steps == ["finished"]
        assert stopped.value.signum == signum

    @pytest.mark.parametrize(
        ("signum", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped), (signal.SIGHUP, Stopped)]
    )
    def test_a_second_signal_raises_at_once(self, signum: signal.Signals, error: type[BaseException]) -> None:
        with pytest.raises(error), deferred_stop():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signum)
            pytest.fail("the block went on")

    @pytest.mark.parametrize("signum", ALL)
    def test_handlers_are_restored(self, signum: signal.Signals) -> None:
        before = signal.getsignal(signum)
        with stoppable(), deferred_stop():
            pass
        assert signal.getsignal(signum) == before

    def test_in_another_thread_nothing_changes(self) -> None:
        handlers = []

        def work() -> None:
            with deferred_stop() as stop:
                handlers.append((signal.getsignal(signal.SIGINT), stop.signum))

        before = signal.getsignal(signal.SIGINT)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert handlers == [(before, None)]


def test_the_note_is_part_of_the_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, errors_in_one_line("pretrain"):
        raise Stopped(signal.SIGTERM, "the next run continues from step 7")
    assert capsys.readouterr().err == "error: pretrain: stopped by SIGTERM; the next run continues from step 7\n"
    assert ended.value.code == 143


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped(signal.SIGINT)])
@pytest.mark.parametrize(
    ("name", "has_checkpoint", "note"),
    [
        ("pretrain", True, "run it again to continue from the last checkpoint"),
        ("finetune", False, "run it again to continue from the last checkpoint, if there is one"),
        ("download", False, "run it again to continue; what was fetched is kept"),
        ("evaluate", False, "the next run does this stage from its beginning"),
    ],
)
def test_the_line_of_a_stopped_stage(
    error: BaseException, name: str, has_checkpoint: bool, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ResumeState(tmp_path, name, {})
    if has_checkpoint:
        state.open("a")
    with pytest.raises(SystemExit) as ended, errors_in_one_line(name), _closed_at_the_end(state):
        raise error
    assert ended.value.code == 130 and not state.is_open
    assert capsys.readouterr().err == f"error: {name}: stopped by SIGINT; {note}\n"
