"""Requests to one vault that do not wait for each other's answers: all at once where each waits on its way.

A vault on this machine's own disk answers before a thread has begun: there they are made one after the other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from cto_backups.core.vaults import Vault, requests_at_once

_Thing = TypeVar("_Thing")
_Answer = TypeVar("_Answer")
_First = TypeVar("_First")
_Second = TypeVar("_Second")


def each(vault: Vault, ask: Callable[[_Thing], _Answer], things: Iterable[_Thing]) -> Iterator[_Answer]:
    """What a vault answers of each thing, in order; asked no further ahead than so many requests are under way.

    Raises what `ask` raises, once that answer is due; what was asked after it is waited for.
    """
    threads = requests_at_once(vault)
    if threads < 2:
        yield from map(ask, things)
        return
    asked: deque[Future[_Answer]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="together") as pool:
        try:
            for thing in things:
                if len(asked) == threads:
                    yield asked.popleft().result()
                asked.append(pool.submit(ask, thing))
            while asked:
                yield asked.popleft().result()
        finally:
            for future in asked:
                future.cancel()


def both(vault: Vault, first: Callable[[], _First], second: Callable[[], _Second]) -> tuple[_First, _Second]:
    """Two answers of a vault, of which neither needs the other. Raises what the first of those that fail raises."""
    if requests_at_once(vault) < 2:
        return first(), second()
    with ThreadPoolExecutor(1, thread_name_prefix="together") as pool:
        later = pool.submit(second)
        return first(), later.result()
