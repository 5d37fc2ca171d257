"""The process's board of jobs, and what each session asked of it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import streamlit as st
from streamlit.runtime import exists, get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.jobs import Board


def _is_there(session: Hashable) -> bool:
    return exists() and get_instance().is_active_session(str(session))


BOARD = Board(alive=_is_there)


def this_session() -> Hashable:
    """Who asks: the browser tab."""
    context = get_script_run_ctx()
    return context.session_id if context else None


@dataclass
class Pressed:
    """What this session pressed: keys to compute, and keys it stopped."""

    started: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)

    def start(self, keys: Sequence[str]) -> None:
        """Compute these, also those that were stopped or failed."""
        self.started.update(keys)
        self.stopped.difference_update(keys)
        for key in keys:
            BOARD.forget(key)

    def stop(self, keys: Sequence[str]) -> None:
        """Compute these no longer, unless another session wants them."""
        self.started.difference_update(keys)
        self.stopped.update(keys)
        for key in keys:
            BOARD.withdraw(key, this_session())

    def needs_button(self, key: str, at_once: bool) -> bool:
        """Whether the key waits for a press: stopped, or expensive and computed by nobody."""
        if key in self.started:
            return False
        return key in self.stopped or not (at_once or is_going(key))


def pressed() -> Pressed:
    """This session's."""
    return st.session_state.setdefault("pressed", Pressed())


def is_going(key: str) -> bool:
    """Whether a job computes the key for someone."""
    job = BOARD.find(key)
    return job is not None and not job.over and not job.stop.is_set()
