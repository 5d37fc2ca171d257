"""Long work outside the pages: one job per result key, however many people ask for it.

The board belongs to the process. A job goes on when a tab is closed; its result stays in the store.
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal

from mpdit_core.errors import Cancelled, MPDiTError
from mpdit_core.progress import reporting

State = Literal["waiting", "running", "done", "failed", "stopped"]
Lane = Literal["quick", "long"]
AT_ONCE = 2
"""Jobs of one lane computed at the same time; the others wait in line. What takes a moment has a
lane of its own, so that nobody's page waits for somebody's long computation."""

REMEMBERED = 200
"""Jobs that are over and still known, with how they ended."""

_logger = logging.getLogger(__name__)


def one_sentence(error: BaseException) -> str:
    """What the screen says about an error: its own sentence, or an id to look up in the log.

    Errors of this project explain themselves; the traceback of any other goes to stderr."""
    if isinstance(error, MPDiTError):
        return str(error)
    name = uuid.uuid4().hex[:8]
    _logger.error("Unexpected error %s", name, exc_info=error)
    kind = type(error).__name__
    return f"Something unexpected happened ({kind}); the server's log has it as {name}."


@dataclass
class Progress:
    """How far a computation is, from the reports of its nested loops."""

    loops: list[tuple[str, int, int]] = field(default_factory=list)
    """(what, done, total) of each loop that is running, outermost first."""

    def report(self, what: str, done: int, total: int) -> None:
        """Take in one report; a loop that reports again ends those inside it.

        >>> progress = Progress()
        >>> progress.report("steps", 1, 4)
        >>> progress.report("batches", 1, 2)
        >>> progress.share
        0.375
        """
        names = [name for name, _, _ in self.loops]
        depth = names.index(what) if what in names else len(names)
        self.loops = [*self.loops[:depth], (what, done, total)]
        if done >= total and depth > 0:
            self.loops = self.loops[:depth]

    @property
    def share(self) -> float:
        """From 0 to 1."""
        inner = 0.0
        for _, done, total in reversed(self.loops):
            inner = min(1.0, (done + inner) / total) if total else 0.0
        return inner

    @property
    def what(self) -> str:
        """The innermost loop that is running, in words."""
        return self.loops[-1][0] if self.loops else ""


class Job:
    """One computation. Its state is read by any thread, and written by its own and `cancel`."""

    def __init__(self, key: str, what: str, work: Callable[[], object]):
        self.key, self.what = key, what
        self.work: Callable[[], object] | None = work
        self.state: State = "waiting"
        self.progress = Progress()
        self.error = ""
        self.started: float | None = None
        self.ended: float | None = None
        self.askers: set[Hashable] = set()
        self.stop = threading.Event()

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "stopped")

    def seconds(self) -> float:
        """How long it has been computing."""
        if self.started is None:
            return 0.0
        return (self.ended or time.monotonic()) - self.started

    def seconds_left(self) -> float:
        """The estimate, from the pace so far; nan while there is nothing to tell it from."""
        share = self.progress.share
        return self.seconds() * (1 - share) / share if share > 0.01 else math.nan

    def report(self, what: str, done: int, total: int) -> None:
        """The reporter of `mpdit_core.progress`: raises Cancelled once the job is to stop."""
        if self.stop.is_set():
            raise Cancelled(f"Stopped: {self.what}.")
        self.progress.report(what, done, total)

    def run(self, places: threading.Semaphore) -> None:
        """Wait for a place, then compute; never raises."""
        try:
            while not places.acquire(timeout=0.1):
                self.report(self.what, 0, 1)
            try:
                self._compute()
            finally:
                places.release()
        except Cancelled:
            self._end("stopped")
        except Exception as error:
            self.error = one_sentence(error)
            self._end("failed")

    def _compute(self) -> None:
        self.started, self.state = time.monotonic(), "running"
        with reporting(self.report):
            self.report(self.what, 0, 1)
            self.progress = Progress()
            if self.work is not None:
                self.work()
        self._end("done")

    def _end(self, state: State) -> None:
        self.ended, self.state = time.monotonic(), state
        self.work = None  # it may hold tables, and nobody needs it any more


class Board:
    """All jobs of the process by key.

    alive: whether an asker (a session) still exists; a job is stopped only when nobody who is
    still there wants it."""

    def __init__(self, at_once: int = AT_ONCE, alive: Callable[[Hashable], bool] = lambda _: True):
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._places: dict[Lane, threading.Semaphore] = {
            "quick": threading.Semaphore(at_once),
            "long": threading.Semaphore(at_once),
        }
        self._alive = alive

    def ask(
        self,
        key: str,
        what: str,
        work: Callable[[], object],
        asker: Hashable,
        lane: Lane = "quick",
    ) -> Job:
        """Join the job of that key, or start it; one that failed or was stopped starts anew."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.over or job.stop.is_set():
                job = self._jobs[key] = Job(key, what, work)
                self._forget_the_oldest()
                name = f"job {key[:12]}"
                threading.Thread(
                    target=job.run, args=(self._places[lane],), name=name, daemon=True
                ).start()
            job.askers.add(asker)
            return job

    def find(self, key: str) -> Job | None:
        """The job of that key, running or over; None if nobody asked, or it was forgotten."""
        with self._lock:
            return self._jobs.get(key)

    def forget(self, key: str) -> None:
        """Drop a job that is over, so that the next one who asks starts it anew."""
        with self._lock:
            if key in self._jobs and self._jobs[key].over:
                del self._jobs[key]

    def _forget_the_oldest(self) -> None:
        over = [key for key, job in self._jobs.items() if job.over]
        for key in over[:-REMEMBERED]:
            del self._jobs[key]

    def withdraw(self, key: str, asker: Hashable) -> bool:
        """This asker no longer wants the job; returns whether that stops it."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                return False
            job.askers.discard(asker)
            if not any(self._alive(other) for other in job.askers):
                job.stop.set()
            return job.stop.is_set()
