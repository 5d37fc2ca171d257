"""Progress in the terminal: the bars of the loops that are running, outermost on top."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from mpdit_core.progress import reporting


class Bars:
    """One bar per nested loop; nothing is drawn where stderr is no terminal."""

    def __init__(self) -> None:
        self._open: list[tuple[str, tqdm]] = []

    def report(self, what: str, done: int, total: int) -> None:
        """A loop's report; a loop that reports again ends those inside it."""
        names = [name for name, _ in self._open]
        if what not in names and total:
            bar = tqdm(total=total, desc=what, position=len(names), leave=False, disable=None)
            self._open.append((what, bar))
            names.append(what)
        if what in names:
            self._close_inside(names.index(what) + 1)
            bar = self._open[-1][1]
            bar.update(done - bar.n)

    def close(self) -> None:
        """Take all bars away."""
        self._close_inside(0)

    def _close_inside(self, depth: int) -> None:
        while len(self._open) > depth:
            self._open.pop()[1].close()


@contextmanager
def shown_progress() -> Iterator[None]:
    """Draw the progress of everything computed inside."""
    bars = Bars()
    try:
        with reporting(bars.report):
            yield
    finally:
        bars.close()
