"""What tests of several rooms share."""

import signal
from pathlib import Path

import pytest

from srlib.engine import pin_threads

# Not in a fixture: threads cannot be pinned after the first computation, which may be a parameter of a test.
pin_threads()

# A runner in the background or under nohup ignores these, and so would every process that a test starts in order to
# stop it. A handler of our own is not inherited.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda signum, frame: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that the two processes of `make test` end at about the same time."""
    items.sort(key=lambda item: item.path.name not in ("test_backends.py", "test_repro.py"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures and weights beside the checkout; tests that need it are skipped where it is not."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the pictures and weights of ../shared/data are not on this machine")
    return folder
