"""A chain of generators in threads."""

import threading
import time

import pytest

from srlib.films.ahead import ahead


def test_order_and_errors_are_those_of_the_items():
    def items():
        yield from range(50)
        raise ValueError("the end")

    results = []
    with pytest.raises(ValueError, match="the end"):
        results.extend(ahead(items(), 2))
    assert not results or results == list(range(50))
    assert list(ahead(ahead(range(100), 1), 3)) == list(range(100))


def test_no_more_items_are_made_than_may_wait():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    chain = ahead(items(), 2)
    assert next(chain) == 0
    deadline = time.monotonic() + 60
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(made) == 4, "one taken, two that wait, one in the thread"
    chain.close()


def test_closing_ends_the_thread_and_the_items():
    ends = []

    def items():
        try:
            while True:
                yield 1
        finally:
            ends.append(threading.current_thread())

    before = threading.active_count()
    chain = ahead(items(), 1)
    next(chain)
    chain.close()
    assert threading.active_count() == before
    assert len(ends) == 1 and ends[0] is not threading.current_thread()


def test_an_exception_while_waiting_ends_what_the_thread_does():
    is_closed, calls = threading.Event(), []

    def items():
        assert is_closed.wait(60)
        yield 1

    def look():
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ahead(items(), 1, on_wait=look, is_closed=is_closed))
    assert calls == [1] and is_closed.is_set()
