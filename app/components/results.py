"""A page's tables: there at once when stored, else a card with progress in the figure's place."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
import streamlit as st
from pydantic import BaseModel

from analysis.figures.theme import HEIGHT
from analysis.question import Question
from analysis.store import Store, named
from analysis.sweep_point import SweepPoint
from app.components.cards import offer, progress_card, show_failures
from app.components.work import BOARD, pressed, this_session
from app.jobs import Lane
from app.view import View
from mpdit_core.errors import MPDiTError
from mpdit_core.runs import Run, Weights
from mpdit_core.words import listed

PATIENCE = 0.3
"""Seconds a page waits for a computation before it shows a card; short ones show none."""
TABLES_IN_MEMORY = 128


@dataclass(frozen=True)
class Results:
    """The table of all runs that have one, and what it was computed from.

    sources: per run what the store knows (run, weights, checkpoint, seconds, settings, ...).
    missing: one sentence for each run that is not in the table."""

    table: pd.DataFrame
    question: Question
    settings: BaseModel
    sources: tuple[dict[str, Any], ...]
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


def is_stored(view: View, question: Question, settings: BaseModel, run: Run) -> bool:
    """Whether the run has this result for the weights in view, so that it costs nothing."""
    store = view.library.store
    try:
        return store.has(store.key(question, run, view.weights, settings))
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
        st.caption(f"Left out: {sentence}")
    if failed:
        show_failures(failed, height if len(failed) == len(request.parts) else None)
    return request


@dataclass
class _Part:
    """The result at one point: stored, or to be computed by a job."""

    point: SweepPoint
    key: str
    table: pd.DataFrame | None


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
                self.parts.append(_Part(point, key, _table(self.store, key)))
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
            part.table = _table(self.store, part.key) if part.table is None else part.table

    def words(self, parts: Sequence[_Part]) -> str:
        """What is computed, in the question's own name."""
        names = dict.fromkeys(part.point.run.name for part in parts)
        return f"{self.question.name.replace('_', ' ')} of {listed(names)}"

    def gathered(self, settings: BaseModel) -> Results | None:
        """All tables of these settings as one; None when there is none."""
        found = [
            (part, part.table)
            for part in self.parts
            if part.table is not None and part.point.settings == settings
        ]
        if not found:
            return None
        table = pd.concat([_placed(part, table) for part, table in found], ignore_index=True)
        sources = tuple(self._source(part) for part, _ in found)
        missing = (*self.missing, *self.failures().values())
        return Results(table, self.question, settings, sources, missing)

    def _source(self, part: _Part) -> dict[str, Any]:
        stored = self.store.about(part.key) or {}
        return {**stored, "run": part.point.run.name, "weights": part.point.weights}

    def _work(self, part: _Part) -> Callable[[], pd.DataFrame]:
        point = part.point

        def work() -> pd.DataFrame:
            return self.store.result(self.question, point.run, point.weights, point.settings)

        return work

    @staticmethod
    def _lacks(part: _Part) -> bool:
        return part.table is None


def _placed(part: _Part, table: pd.DataFrame) -> pd.DataFrame:
    return part.point.placed(named(table, part.point.run, part.point.weights))


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


_TABLES: dict[tuple[str, str], pd.DataFrame] = {}
_TABLES_LOCK = threading.Lock()


def _table(store: Store, key: str) -> pd.DataFrame | None:
    """The stored table, kept in memory for all sessions; nobody may change it in place."""
    place = (str(store.write_to), key)
    table = _TABLES.get(place)
    if table is None and (table := store.load(key)) is not None:
        with _TABLES_LOCK:
            while len(_TABLES) >= TABLES_IN_MEMORY:
                del _TABLES[next(iter(_TABLES))]
            _TABLES[place] = table
    return table
