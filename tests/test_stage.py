from pathlib import Path

import pytest

from srlib import stage
from srlib.errors import SrlibError
from srlib.training import distributed


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What process 1 of two says about itself differs from process 0 by what a test adds to this list."""
    changes: list[dict] = []
    monkeypatch.setattr(distributed, "_group", distributed._Group(rank=1, world=2))
    monkeypatch.setattr(distributed, "gather", lambda facts: [facts, {**facts, **changes[0]}])
    return changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": {"pretrain": {"batch": 8}}}, "process 1 differs from process 0 in pretrain.batch: 4 → 8"),
        ({"engine": {"keras": "3.14"}}, "in keras: 3.15 → 3.14"),
        ({"dependencies": {"patches": "0"}}, "in patches; the code of srlib; start"),
        ({"python": "3.99"}, r"in python: 3\.\d+\.\d+ → 3.99; start"),
    ],
)
def test_processes_that_differ_are_named(
    group: list[dict], change: dict, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train_lr.npy").write_bytes(b"patches")
    facts = {"params": {"pretrain": {"batch": 4}}, "engine": {"keras": "3.15"}}
    group.append({})
    stage._check_agreement(facts, {"patches": tmp_path})
    group[0] = change
    with pytest.raises(SrlibError, match=message):
        stage._check_agreement(facts, {"patches": tmp_path})
    with pytest.raises(SystemExit) as ended, stage.errors_in_one_line("pretrain"):
        stage._check_agreement(facts, {"patches": tmp_path})
    assert ended.value.code == 1
    assert capsys.readouterr().err == "", "the main process reports what all of them find"
