import threading
import time

import pytest

from srlib.data.parallel import for_each


@pytest.mark.parametrize("workers", [None, 1, 4])
def test_results_keep_the_order_of_the_items(workers):
    def slower_first(item):
        time.sleep(0.02 / (item + 1))
        return item * item

    assert for_each(slower_first, range(8), label="squaring", unit="numbers", workers=workers) == [
        item * item for item in range(8)
    ]


def test_several_threads_work_at_once():
    both = threading.Barrier(2, timeout=10)
    for_each(lambda _: both.wait(), range(2), label="meeting", unit="threads", workers=2)


def test_the_first_error_cancels_the_rest():
    done = []

    def work(item):
        if item == 1:
            raise OSError("disk full")
        time.sleep(0.005)
        done.append(item)

    with pytest.raises(OSError, match="disk full"):
        for_each(work, range(1000), label="working", unit="items", workers=2)
    assert len(done) < 500


def test_progress_counts_to_the_end(capsys):
    for_each(str, range(3), label="checking", unit="pictures")
    assert "checking: 3/3 pictures (100%)" in capsys.readouterr().err
