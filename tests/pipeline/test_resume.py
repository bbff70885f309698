"""srlib.pipeline.resume: whose state it is, who may work on it, when it goes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib.errors import SrlibError
from srlib.pipeline.resume import KEPT, ResumeState, clean, fingerprint

FACTS = {"params": {"pretrain": {"batch": 16}, "seed": 1}, "dependencies": {"data/patches": "1.dir"}, "engine": {}}
JSON = st.none() | st.integers() | st.text() | st.dictionaries(st.text(), st.integers(), max_size=3)


def facts(seed: int) -> dict:
    return FACTS | {"params": {"pretrain": {"batch": 16}, "seed": seed}}


def leave_state(root: Path, seed: int, run: str = "run", outputs: dict | None = None) -> ResumeState:
    """What an interrupted or finished stage leaves behind."""
    state = ResumeState(root, "pretrain", facts(seed))
    (state.open(run) / "state.npz").write_bytes(b"weights")
    if outputs:
        state.done(outputs)
    state.close()
    return state


@given(st.dictionaries(st.text(), JSON, max_size=3), st.dictionaries(st.text(), JSON, max_size=3))
def test_a_fingerprint_stands_for_its_facts(one: dict, other: dict) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert fingerprint(dict(reversed(one.items()))) == fingerprint(one)


def test_a_killed_run_finds_its_state_and_a_changed_one_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_state(tmp_path, 1, run="first")
    again = ResumeState(tmp_path, "pretrain", facts(1))
    assert (again.open("second") / "state.npz").read_bytes() == b"weights"
    assert again.resumed_from == "first"
    changed = ResumeState(tmp_path, "pretrain", facts(2))
    assert list(changed.open("third").iterdir()) == []
    assert changed.resumed_from is None
    assert capsys.readouterr().err == "pretrain: starts afresh; an interrupted run differs in seed: 1 → 2\n"


def test_a_changed_dependency_is_named_without_its_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_state(tmp_path, 1)
    other = facts(1) | {"dependencies": {"data/patches": "2.dir"}}
    ResumeState(tmp_path, "pretrain", other).open("second")
    assert capsys.readouterr().err.endswith("differs in data/patches\n")


def test_one_process_holds_a_state_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time, json; from pathlib import Path; from srlib.pipeline.resume import ResumeState\n"
        "state = ResumeState(Path(sys.argv[1]), 'pretrain', json.loads(sys.argv[2])); state.open('theirs')\n"
        "print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), json.dumps(facts(1))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        state = ResumeState(tmp_path, "pretrain", facts(1))
        with pytest.raises(SrlibError, match=f"^pretrain: process {other.pid} works on the same checkpoint"):
            state.open("ours")
        clean(tmp_path, {}, ResumeState(tmp_path, "finetune", facts(1)))
        assert state.folder.exists()
        other.send_signal(signal.SIGKILL)
        other.wait()
    state.open("ours")
    state.close()


def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    state = ResumeState(tmp_path, "pretrain", facts(1))
    state.open("first")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        state.close()
        ResumeState(tmp_path, "pretrain", facts(1)).open("second")
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("recorded", "stays"),
    [
        ({}, True),
        ({"pretrain": {"models/pretrained": "an older one", "loss.csv": "2"}}, True),
        ({"pretrain": {"models/pretrained": "1.dir"}}, True),
        ({"finetune": {"models/pretrained": "1.dir", "loss.csv": "2"}}, True),
        ({"pretrain": {"models/pretrained": "1.dir", "loss.csv": "2", "more": "3"}}, False),
    ],
)
def test_a_state_goes_once_dvc_records_what_came_of_it(tmp_path: Path, recorded: dict, stays: bool) -> None:
    state = leave_state(tmp_path, 1, outputs={"models/pretrained": "1.dir", "loss.csv": "2"})
    clean(tmp_path, recorded, ResumeState(tmp_path, "finetune", facts(1)))
    assert state.folder.exists() == stays
    assert len(list((tmp_path / ".resume" / "pretrain").iterdir())) == (3 if stays else 0)


def test_an_unfinished_state_never_counts_as_recorded(tmp_path: Path) -> None:
    state = leave_state(tmp_path, 1)
    clean(tmp_path, {"pretrain": {"models/pretrained": "1.dir"}}, state)
    assert state.folder.exists()


def test_the_latest_states_stay_besides_the_current_one(tmp_path: Path) -> None:
    states = [leave_state(tmp_path, seed) for seed in range(KEPT + 3)]
    for age, state in enumerate(reversed(states)):
        os.utime(state.folder.with_suffix(".json"), (1e9 - age, 1e9 - age))
    clean(tmp_path, {}, states[0])
    left = [seed for seed, state in enumerate(states) if state.folder.exists()]
    assert left == [0, *range(3, KEPT + 3)]


def test_a_damaged_note_beside_a_state_is_no_obstacle(tmp_path: Path) -> None:
    state = leave_state(tmp_path, 1)
    state.folder.with_suffix(".json").write_text("{")
    again = ResumeState(tmp_path, "pretrain", facts(1))
    again.open("second")
    assert again.resumed_from == "unknown"
