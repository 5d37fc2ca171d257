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
from app.components.cards import offer, progress_card, show_failures
from app.components.work import BOARD, pressed, this_session
from app.jobs import Lane
from app.link import listed
from app.view import View
from mpdit_core.errors import MPDiTError
from mpdit_core.runs import Run, Weights

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
    request = _Request(question, settings, view.library.store)
    chosen = Weights.parse(view.weights if weights is None else weights)
    request.look_up(view.runs if runs is None else runs, chosen)
    if request.unanswered() and not _computed(request, start == "now", cost, height):
        view.results_awaited = True
        return None
    failed = request.failures()
    for sentence in request.missing:
        st.caption(f"Left out: {sentence}")
    if failed:
        show_failures(failed, height if len(failed) == len(request.parts) else None)
    return request.gathered(failed)


@dataclass
class _Part:
    """The result of one run: stored, or to be computed by a job."""

    run: Run
    weights: Weights
    key: str
    table: pd.DataFrame | None


@dataclass
class _Request:
    """One question over several runs."""

    question: Question
    settings: BaseModel
    store: Store
    parts: list[_Part] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def look_up(self, runs: Sequence[Run], weights: Weights) -> None:
        """Find what is stored; a run without these weights is missing, with the reason."""
        for run in runs:
            try:
                key = self.store.key(self.question, run, weights, self.settings)
                self.parts.append(_Part(run, weights, key, _table(self.store, key)))
            except MPDiTError as error:
                self.missing.append(str(error))

    def failures(self) -> dict[str, str]:
        """Key -> sentence of the parts whose job failed."""
        jobs = {part.key: (part, BOARD.find(part.key)) for part in self.parts if self._lacks(part)}
        return {
            key: f"{part.run.name}: {job.error}"
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
        return f"{self.question.name.replace('_', ' ')} of {listed(p.run.name for p in parts)}"

    def gathered(self, failed: dict[str, str]) -> Results | None:
        """All tables as one; None when there is none."""
        found = [(part, part.table) for part in self.parts if part.table is not None]
        if not found:
            return None
        table = pd.concat(
            [named(table, part.run, part.weights) for part, table in found], ignore_index=True
        )
        sources = tuple(self._source(part) for part, _ in found)
        missing = (*self.missing, *failed.values())
        return Results(table, self.question, self.settings, sources, missing)

    def _source(self, part: _Part) -> dict[str, Any]:
        stored = self.store.about(part.key) or {}
        return {**stored, "run": part.run.name, "weights": str(part.weights)}

    def _work(self, part: _Part) -> Callable[[], pd.DataFrame]:
        def work() -> pd.DataFrame:
            return self.store.result(self.question, part.run, part.weights, self.settings)

        return work

    @staticmethod
    def _lacks(part: _Part) -> bool:
        return part.table is None


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
