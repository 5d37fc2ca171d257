"""A page's tables: there at once when stored, else a card with progress in the figure's place."""

import hashlib
import math
import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
import streamlit as st
from pydantic import BaseModel
from streamlit.runtime import exists, get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from analysis.figures.theme import HEIGHT
from analysis.question import Question
from analysis.store import Store, named
from app.components.errors import guarded
from app.jobs import Board, Job
from app.link import listed
from app.selection import weights_label
from app.view import View
from mpdit_core.errors import MPDiTError
from mpdit_core.runs import Run, Weights

PATIENCE = 0.3
"""Seconds a page waits for a computation before it shows a card; short ones show none."""


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


@dataclass
class _Wanted:
    """One result key of a page: stored, or to be computed by a job."""

    run: Run
    weights: Weights
    key: str
    table: pd.DataFrame | None


@dataclass
class _Asked:
    """What this session pressed: keys to compute, and keys it stopped."""

    started: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)

    def start(self, keys: Sequence[str]) -> None:
        self.started.update(keys)
        self.stopped.difference_update(keys)
        for key in keys:
            BOARD.forget(key)

    def stop(self, keys: Sequence[str]) -> None:
        self.started.difference_update(keys)
        self.stopped.update(keys)
        for key in keys:
            BOARD.withdraw(key, _session())


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
    chosen = Weights.parse(view.weights if weights is None else weights)
    wanted, missing = _wanted(question, runs or view.runs, chosen, settings, view.library.store)
    pending = [item for item in wanted if item.table is None]
    failed = {item.key: _failure(item) for item in pending if _failure(item)}
    open_ = [item for item in pending if item.key not in failed]
    if open_ and not _computed(open_, question, settings, view, start, cost, height):
        view.results_awaited = True
        return None
    if failed:
        _show_failures(failed, height if len(failed) == len(wanted) else None)
    return _gathered(question, settings, wanted, (*missing, *failed.values()), view.library.store)


def _wanted(
    question: Question, runs: Sequence[Run], weights: Weights, settings: BaseModel, store: Store
) -> tuple[list[_Wanted], list[str]]:
    wanted, missing = [], []
    for run in runs:
        try:
            key = store.key(question, run, weights, settings)
            wanted.append(_Wanted(run, weights, key, _table(store, key)))
        except MPDiTError as error:
            missing.append(str(error))
    return wanted, missing


def _computed(
    items: list[_Wanted],
    question: Question,
    settings: BaseModel,
    view: View,
    start: str,
    cost: str,
    height: int,
) -> bool:
    """Have the items computed; True when their tables are there already, else a card is drawn."""
    asked: _Asked = st.session_state.setdefault("asked", _Asked())
    keys = [item.key for item in items]
    idle = [key for key in keys if key in asked.stopped or not (start == "now" or _going(key))]
    idle = [key for key in idle if key not in asked.started]
    what = f"{_words(question)} of {listed([item.run.name for item in items])}"
    if idle:
        _offer(asked, idle, what, cost, height)
        return False
    store = view.library.store
    for item in items:
        _ask(item, question, settings, store)
    if _wait_shortly(keys):
        for item in items:
            item.table = _table(store, item.key)
        return all(item.table is not None for item in items)
    _card(asked, keys, what, height)
    return False


def _ask(item: _Wanted, question: Question, settings: BaseModel, store: Store) -> None:
    what = f"{_words(question)} of {item.run.name}, {weights_label(str(item.weights))}"

    def work() -> object:
        return store.result(question, item.run, item.weights, settings)

    BOARD.ask(item.key, what, work, _session())


def _wait_shortly(keys: Sequence[str]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if all(job is None or job.over for job in map(BOARD.find, keys)):
            return all(job is None or job.state == "done" for job in map(BOARD.find, keys))
        time.sleep(0.02)
    return False


def _offer(asked: _Asked, keys: list[str], what: str, cost: str, height: int) -> None:
    with st.container(height=height, border=True):
        stopped = any(key in asked.stopped for key in keys)
        st.markdown(f"Stopped: {what}." if stopped else f"Not computed yet: {what}.")
        name = f"start/{_digest(keys)}"
        st.button(cost or "Compute", key=name, on_click=asked.start, args=(keys,), type="primary")


@st.fragment(run_every=0.5)
@guarded
def _card(asked: _Asked, keys: list[str], what: str, height: int) -> None:
    """Progress of several jobs as one; redraws itself, and the page once all are over."""
    jobs = [job for job in map(BOARD.find, keys) if job is not None]
    if all(job.over for job in jobs):
        st.rerun()
    with st.container(height=height, border=True):
        st.markdown(f"Computing: {what}.")
        share = sum(1.0 if job.over else job.progress.share for job in jobs) / len(jobs)
        st.progress(share, text=_state_of(jobs, share))
        name = f"stop/{_digest(keys)}"
        if st.button("Cancel", key=name, on_click=asked.stop, args=(keys,)):
            st.rerun()


def _state_of(jobs: Sequence[Job], share: float) -> str:
    """How far, what is being done, and how long it will take, in words."""
    over = sum(job.over for job in jobs)
    busy = next((job for job in jobs if job.state == "running"), None)
    parts = [f"{share:.0%}", f"{over} of {len(jobs)} done" if len(jobs) > 1 else ""]
    parts.append(busy.progress.what if busy else "waiting for other computations")
    parts.append(time_left(seconds_left(jobs)))
    return ", ".join(part for part in parts if part)


def seconds_left(jobs: Sequence[Job], at_once: int = 2) -> float:
    """Estimate for all jobs, from the pace of those that run or have run; nan when unknown."""
    paces = [job.seconds() + job.seconds_left() for job in jobs if job.state == "running"]
    paces += [job.seconds() for job in jobs if job.state == "done"]
    paces = [pace for pace in paces if not math.isnan(pace)]
    if not paces:
        return math.nan
    typical = sum(paces) / len(paces)
    left = [0.0 if job.over else typical * (1 - job.progress.share) for job in jobs]
    return max(max(left), sum(left) / at_once)


def time_left(seconds: float) -> str:
    """An estimate in words.

    >>> time_left(12.3), time_left(200), time_left(float("nan"))
    ('about 12 s left', 'about 3 min left', '')
    """
    if math.isnan(seconds):
        return ""
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


def _show_failures(failed: dict[str, str], height: int | None) -> None:
    asked: _Asked = st.session_state.setdefault("asked", _Asked())
    place = st.container(height=height, border=True) if height else st.container()
    with place:
        st.error("  \n".join(dict.fromkeys(failed.values())))
        keys = list(failed)
        st.button("Retry", key=f"retry/{_digest(keys)}", on_click=asked.start, args=(keys,))


def _gathered(
    question: Question,
    settings: BaseModel,
    wanted: list[_Wanted],
    missing: tuple[str, ...],
    store: Store,
) -> Results | None:
    found = [(item, item.table) for item in wanted if item.table is not None]
    tables = [named(table, item.run, item.weights) for item, table in found]
    for sentence in missing:
        st.caption(f"Left out: {sentence}")
    if not tables:
        return None
    sources = tuple(
        {**(store.about(item.key) or {}), "run": item.run.name, "weights": str(item.weights)}
        for item, _ in found
    )
    table = pd.concat(tables, ignore_index=True)
    return Results(table, question, settings, sources, missing)


def _failure(item: _Wanted) -> str:
    job = BOARD.find(item.key)
    return f"{item.run.name}: {job.error}" if job and job.state == "failed" else ""


def _going(key: str) -> bool:
    job = BOARD.find(key)
    return job is not None and not job.over and not job.stop.is_set()


def _words(question: Question) -> str:
    """What is computed, in the question's own name."""
    return question.name.replace("_", " ")


def _digest(keys: Sequence[str]) -> str:
    return hashlib.sha256("".join(keys).encode()).hexdigest()[:12]


def _session() -> Hashable:
    context = get_script_run_ctx()
    return context.session_id if context else None


def _is_there(session: Hashable) -> bool:
    return exists() and get_instance().is_active_session(str(session))


BOARD = Board(alive=_is_there)
TABLES_IN_MEMORY = 128
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
