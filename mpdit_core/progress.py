"""Progress of long loops, told to whoever started them: a terminal, a job of the dashboard, nobody.

The computation calls `track` around its loop; it does not know who listens. The listener is a
context variable, so two threads that compute at once report to their own listeners.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Reporter = Callable[[str, int, int], None]
"""Called with (what, done, total); may raise `Cancelled` to stop the computation."""

Item = TypeVar("Item")

_REPORTER: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


@contextmanager
def reporting(reporter: Reporter | None) -> Iterator[None]:
    """Send the progress of everything computed inside to `reporter`; None silences it."""
    token = _REPORTER.set(reporter)
    try:
        yield
    finally:
        _REPORTER.reset(token)


def track(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield the items; before each and after the last, report how many are done.

    Loops nested inside report too: a listener that shows one bar shows the innermost `what`."""
    reporter = _REPORTER.get()
    for done, item in enumerate(items):
        if reporter is not None:
            reporter(what, done, len(items))
        yield item
    if reporter is not None:
        reporter(what, len(items), len(items))
