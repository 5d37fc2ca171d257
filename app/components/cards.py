"""What stands in a figure's place while there is none: an offer, progress, or a failure."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.errors import guarded
from app.components.frame import plain
from app.components.work import BOARD, pressed
from app.jobs import AT_ONCE, Job


def offer(keys: Sequence[str], what: str, cost: str, height: int) -> None:
    """A button that starts the computation and says its cost."""
    asked = pressed()
    with _place(height, keys):
        stopped = any(key in asked.stopped for key in keys)
        st.markdown(plain(f"Stopped: {what}." if stopped else f"Not computed yet: {what}."))
        name = f"start/{_digest(keys)}"
        st.button(cost or "Compute", key=name, on_click=asked.start, args=(keys,), type="primary")


@st.fragment(run_every=0.5)
@guarded
def progress_card(keys: Sequence[str], what: str, height: int) -> None:
    """Several jobs as one; redraws itself, and the page once all are over. Not in a fragment."""
    jobs = [job for job in map(BOARD.find, keys) if job is not None]
    if all(job.over for job in jobs):
        st.rerun()
    with _place(height, keys):
        st.markdown(plain(f"Computing: {what}."))
        share = sum(1.0 if job.over else job.progress.share for job in jobs) / len(jobs)
        st.progress(share, text=_state_of(jobs, share))
        name = f"stop/{_digest(keys)}"
        if st.button("Cancel", key=name, on_click=pressed().stop, args=(keys,)):
            st.rerun()


def show_failures(failed: Mapping[str, str], height: int | None) -> None:
    """One sentence for each, and Retry. failed: key -> sentence; no height if a figure follows."""
    with _place(height, list(failed)) if height else st.container():
        st.error("  \n".join(dict.fromkeys(map(plain, failed.values()))))
        keys = list(failed)
        st.button("Retry", key=f"retry/{_digest(keys)}", on_click=pressed().start, args=(keys,))


def _place(height: int, keys: Sequence[str]) -> DeltaGenerator:
    """A frame as high as the figure to come, higher where narrow screens need more lines."""
    name = f"card-{_digest(keys)}"
    st.html(f"<style>.st-key-{name} {{ min-height: {height}px; }}</style>")
    return st.container(border=True, key=name)


def _state_of(jobs: Sequence[Job], share: float) -> str:
    """How far, what is being done, and how long it will take, in words."""
    over = sum(job.over for job in jobs)
    busy = next((job for job in jobs if job.state == "running"), None)
    parts = [f"{100 * share:.0f} %", f"{over} of {len(jobs)} done" if len(jobs) > 1 else ""]
    parts.append(busy.progress.what if busy else "waiting for other computations")
    parts.append(time_left(seconds_left(jobs)))
    return ", ".join(part for part in parts if part)


def seconds_left(jobs: Sequence[Job], at_once: int = AT_ONCE) -> float:
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


def seconds_in_words(seconds: float) -> str:
    """An expected duration, for the words of a button.

    >>> seconds_in_words(12.3), seconds_in_words(200)
    ('about 12 s', 'about 3 min')
    """
    return f"about {max(1, seconds):.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"


def _digest(keys: Sequence[str]) -> str:
    return hashlib.sha256("".join(keys).encode()).hexdigest()[:12]
