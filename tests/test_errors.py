import doctest
import errno
import signal
from pathlib import Path

import pytest

from srlib import errors
from srlib.errors import SrlibError, failure_line, one_line, pip_install, problems_kept
from srlib.signals import Stopped


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n\n  two\tthree"), "one two three"),
        (RecursionError(), "RecursionError"),
        (OSError("\x1b[31mred\x00"), "?[31mred?"),
        ("a\r\nb", "a b"),
    ],
)
def test_one_line(error: BaseException | str, line: str) -> None:
    assert one_line(error) == line


def test_packages_go_where_this_python_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an activated environment, `pip` is another Python's, which may refuse, or install something else."""
    monkeypatch.setattr("sys.executable", "/my srlib/.venv/bin/python")
    assert pip_install("srlib[demo]") == "'/my srlib/.venv/bin/python' -m pip install 'srlib[demo]'"


def test_a_long_message_is_cut() -> None:
    assert one_line(ValueError("x" * 500)) == "x" * errors.LONGEST_LINE + "…"
    assert one_line(ValueError("abcdef"), limit=3) == "abc…"


def test_examples() -> None:
    assert doctest.testmod(errors).attempted
    assert not doctest.testmod(errors).failed


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (SrlibError("a: damaged"), "image", "a: damaged"),
        (MemoryError(), "image", "a: not enough memory; cut the image, or ask for a smaller size"),
        (MemoryError(), "film", "a: not enough memory; ask for a smaller size"),
        (OSError(errno.EACCES, "Permission denied", "c\n"), "film", "c\\n: Permission denied"),
        (OSError("odd"), "image", "b\\x1b: odd"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "film", "b\\x1b: Broken pipe"),
        (KeyError(320), "film", "a: unexpected KeyError (320); please report this film"),
    ],
)
def test_every_failure_is_one_line(error, kind, line):
    assert failure_line(error, "a", Path("b\x1b"), kind) == line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_run(number):
    for done, so_far in ((0, ""), (3, "3 films are done, ")):
        with pytest.raises(SrlibError) as error:
            failure_line(OSError(number, "full"), "a", Path("b\x1b"), "film", done=done)
        assert str(error.value) == f"b\\x1b: full; {so_far}make space and run it again to continue"


def test_a_closed_standard_output_ends_the_run():
    with pytest.raises(BrokenPipeError):
        failure_line(BrokenPipeError(errno.EPIPE, "Broken pipe"), "a", None, "image")


def test_the_lines_so_far_stand_in_front_of_an_error() -> None:
    problems: list[str] = []
    with pytest.raises(SrlibError, match=r"^the model$"), problems_kept(problems):
        raise SrlibError("the model")
    with pytest.raises(SrlibError, match=r"^a\nb\nthe disk$"), problems_kept(problems):
        problems += ["a", "b"]
        raise SrlibError("the disk")
    with problems_kept(problems):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped(signal.SIGTERM), RuntimeError("odd")])
def test_the_lines_so_far_are_printed(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error)), problems_kept(["a\x1b"], lambda: "stopped"):
        raise error
    last = [] if isinstance(error, RuntimeError) else ["stopped"]
    assert capsys.readouterr().err.splitlines() == ["a\\x1b", *last]
    with pytest.raises(type(error)), problems_kept(["a"]):
        raise error
    assert capsys.readouterr().err.splitlines() == ["a"]
