"""A page's tables: there at once when stored, else a card with progress in the figure's place."""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pandas as pd
import streamlit as st
from pydantic import BaseModel

from analysis.figures.theme import HEIGHT
from analysis.question import Question
from analysis.store import Store, named
from analysis.sweep_point import SweepPoint
from app.components.cards import offer, progress_card, show_failures
from app.components.frame import plain
from app.components.kept import Kept
from app.components.work import BOARD, pressed, this_session
from app.jobs import Lane
from app.view import View
from mpdit_core.errors import MPDiTError
from mpdit_core.runs import Run, Weights
from mpdit_core.words import listed

T = TypeVar("T")

PATIENCE = 0.3
"""Seconds a page waits for a computation before it shows a card; short ones show none."""
MEMORY = 256 << 20
"""Bytes of tables kept for all sessions, those as stored and those joined over runs each."""


@dataclass(frozen=True)
class Results:
    """The table of all runs that have one, and what it was computed from.

    sources: per run what the store knows (run, weights, checkpoint, seconds, settings, ...).
    content: what the table depends on, hashable: equal content, equal table.
    missing: one sentence for each run that is not in the table."""

    table: pd.DataFrame
    question: Question
    settings: BaseModel
    sources: tuple[dict[str, Any], ...]
    content: Hashable
    missing: tuple[str, ...] = ()


def results_of(
    question: Question,
    view: View,
    settings: BaseModel,
    *,
    runs: Sequence[Run] | None = None,
    weights: Weights | str | None = None,
    start: Literal["now", "button"] = "now",
    cost: str = "",
    height: int = HEIGHT,
) -> Results | None:
    """The question's table over the runs in view, or None while a card stands in its place.

    runs, weights: those of the view unless given. start: "now" for what takes seconds, "button"
    for what takes longer; `cost` is what its button says ("Sample 100 images, about 12 s").
    height: that of the figure to come. Call it outside of fragments: the card is one itself."""
    chosen = str(Weights.parse(view.weights if weights is None else weights))
    asked = view.runs if runs is None else runs
    points = [SweepPoint(run, chosen, settings) for run in asked]
    request = _answered(question, view, points, start == "now", cost, height)
    return None if request is None else request.gathered(settings)


def results_at(
    question: Question, view: View, points: Sequence[SweepPoint], *, cost: str, height: int = HEIGHT
) -> list[Results] | None:
    """The question's tables at every point of a sweep, each with its point's columns.

    One `Results` per settings, so that each tells what it was computed from; None while a card
    stands in the figure's place. A button that says `cost` starts what is missing."""
    request = _answered(question, view, points, False, cost, height)
    if request is None:
        return None
    settings = dict.fromkeys(point.settings for point in points)
    found = [request.gathered(each) for each in settings]
    return [results for results in found if results is not None]


def is_stored(
    view: View,
    question: Question,
    settings: BaseModel,
    run: Run,
    weights: Weights | str | None = None,
) -> bool:
    """Whether the run has this result, so that it costs nothing. weights: those in view if None."""
    store, weights = view.library.store, view.weights if weights is None else weights
    try:
        return _stored(store, store.key(question, run, weights, settings)) is not None
    except MPDiTError:
        return False


def _answered(
    question: Question,
    view: View,
    points: Sequence[SweepPoint],
    at_once: bool,
    cost: str,
    height: int,
) -> "_Request | None":
    """What is asked at all points, once it is there; failures are shown."""
    request = _Request(question, view.library.store)
    request.look_up(points)
    if request.unanswered() and not _computed(request, at_once, cost, height):
        view.results_awaited = True
        return None
    failed = request.failures()
    for sentence in request.missing:
        st.caption(plain(f"Left out: {sentence}"))
    if failed:
        show_failures(failed, height if len(failed) == len(request.parts) else None)
    return request


@dataclass
class _Part:
    """The result at one point: stored, or to be computed by a job."""

    point: SweepPoint
    key: str
    stored: "_Stored | None"

    @property
    def content(self) -> Hashable:
        """What the placed table depends on; the name of the run stands in its rows."""
        point = self.point
        return (self.key, point.run.name, str(point.weights), *point.columns.items())


@dataclass
class _Request:
    """One question at several points."""

    question: Question
    store: Store
    parts: list[_Part] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def look_up(self, points: Sequence[SweepPoint]) -> None:
        """Find what is stored; a run without these weights is missing, with the reason."""
        for point in points:
            try:
                key = self.store.key(self.question, point.run, point.weights, point.settings)
                self.parts.append(_Part(point, key, _stored(self.store, key)))
            except MPDiTError as error:
                self.missing.append(str(error))

    def failures(self) -> dict[str, str]:
        """Key -> sentence of the parts whose job failed."""
        jobs = {part.key: (part, BOARD.find(part.key)) for part in self.parts if self._lacks(part)}
        return {
            key: f"{part.point.run.name}: {job.error}"
            for key, (part, job) in jobs.items()
            if job is not None and job.state == "failed"
        }

    def unanswered(self) -> list[_Part]:
        """The parts that are neither stored nor failed."""
        failed = self.failures()
        return [part for part in self.parts if self._lacks(part) and part.key not in failed]

    def start(self, lane: Lane) -> None:
        """Put all that is unanswered on the board."""
        for part in self.unanswered():
            BOARD.ask(part.key, self.words([part]), self._work(part), this_session(), lane)

    def reload(self) -> None:
        """Read what has been stored since."""
        for part in self.parts:
            part.stored = part.stored or _stored(self.store, part.key)

    def words(self, parts: Sequence[_Part]) -> str:
        """What is computed, in the question's own name."""
        names = dict.fromkeys(part.point.run.name for part in parts)
        return f"{self.question.name.replace('_', ' ')} of {listed(names)}"

    def gathered(self, settings: BaseModel) -> Results | None:
        """All tables of these settings as one; None when there is none."""
        found = {
            part.content: (part, part.stored)
            for part in self.parts
            if part.stored is not None and part.point.settings == settings
        }
        if not found:
            return None
        content = tuple(found)
        table = _JOINED.get(content, lambda: _joined(found.values()))
        sources = tuple(_source(part, stored) for part, stored in found.values())
        missing = (*self.missing, *self.failures().values())
        return Results(table, self.question, settings, sources, content, missing)

    def _work(self, part: _Part) -> Callable[[], pd.DataFrame]:
        point = part.point

        def work() -> pd.DataFrame:
            return self.store.result(self.question, point.run, point.weights, point.settings)

        return work

    @staticmethod
    def _lacks(part: _Part) -> bool:
        return part.stored is None


def derived(make: Callable[..., T], results: Sequence[Results], *given: Hashable) -> T:
    """`make(table, *given)` of all results in one table, made once for equal content.

    Whoever gets it may change nothing of it in place."""
    key = (make, tuple(each.content for each in results), given)
    tables = [each.table for each in results]
    return _DERIVED.get(key, lambda: make(pd.concat(tables, ignore_index=True), *given))


def _joined(found: Iterable[tuple[_Part, "_Stored"]]) -> pd.DataFrame:
    """One table of all parts, each with its run's name and the columns of its point."""
    placed = [
        part.point.placed(named(stored.table, part.point.run, part.point.weights))
        for part, stored in found
    ]
    return pd.concat(placed, ignore_index=True)


def _source(part: _Part, stored: "_Stored") -> dict[str, Any]:
    return {**stored.about, "run": part.point.run.name, "weights": part.point.weights}


def _computed(request: _Request, at_once: bool, cost: str, height: int) -> bool:
    """Have the rest computed; True when it is there already, else a card is drawn."""
    asked = pressed()
    parts = request.unanswered()
    keys = [part.key for part in parts]
    idle = [key for key in keys if asked.needs_button(key, at_once)]
    if idle:
        offer(idle, request.words(parts), cost, height)
        return False
    request.start("quick" if at_once else "long")
    if _over_shortly(keys):
        request.reload()
        if not request.unanswered():
            return True
    progress_card(keys, request.words(parts), height)
    return False


def _over_shortly(keys: Sequence[str]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if all(job is None or job.over for job in map(BOARD.find, keys)):
            return True
        time.sleep(0.02)
    return False


@dataclass(frozen=True)
class _Stored:
    """A stored table, and what was stored with it."""

    table: pd.DataFrame
    about: Mapping[str, Any]

    @property
    def size(self) -> int:
        return _size(self.table)


def _size(table: pd.DataFrame) -> int:
    return int(table.memory_usage().sum())  # lists of pixels as pointers: counting them is slow


def _stored(store: Store, key: str) -> _Stored | None:
    """The stored result, kept in memory for all sessions; nobody may change its table in place."""

    def read() -> _Stored | None:
        found = store.load_with_about(key)
        return found and _Stored(*found)

    return _STORED.get((store.write_to, key), read)


_STORED: Kept[_Stored | None] = Kept(MEMORY, lambda stored: stored.size if stored else 0)
_JOINED: Kept[pd.DataFrame] = Kept(MEMORY, _size)
_DERIVED: Kept[Any] = Kept(512)
