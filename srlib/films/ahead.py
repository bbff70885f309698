"""Let the steps of a chain of generators run at the same time, with bounded memory."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_POLL = 0.1
"""Seconds after which a thread that waits looks whether it is to end."""


class _End:
    """What the thread puts into the queue after the last item, with the error that ended it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(
    items: Iterable[Item],
    count: int,
    *,
    on_wait: Callable[[], object] | None = None,
    is_closed: threading.Event | None = None,
) -> Generator[Item, None, None]:
    """Yield the items of an iterable that a thread of its own iterates over, at most `count` items ahead.

    Args:
        items: Iterated over in the thread; a generator is closed there at the end.
        count: Most items that wait.
        on_wait: Callback every tenth of a second while there is no item to yield.
        is_closed: Set when the generator ends, so that `items` can give up what nobody needs any more.

    Yields:
        The items in their order. Closing this generator ends the thread after its current item.

    Raises:
        BaseException: Whatever iterating over `items` raises.

    Example:
        >>> list(ahead(range(3), 1))
        [0, 1, 2]
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(count)
    is_closed = is_closed or threading.Event()

    def put(item: Item | _End) -> bool:
        while not is_closed.is_set():
            try:
                waiting.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False

    def iterate() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put(item):
                    break
        except BaseException as raised:
            error = raised
        put(_End(error))
        if isinstance(items, Generator):
            items.close()

    thread = threading.Thread(target=iterate, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = waiting.get(timeout=_POLL)
            except queue.Empty:
                if on_wait:
                    on_wait()
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        is_closed.set()
        thread.join()
