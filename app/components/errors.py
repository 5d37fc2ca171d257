"""No traceback on screen: an unexpected error becomes one sentence with an id, and a log entry."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import streamlit as st

from app.components.frame import plain
from app.jobs import one_sentence

Parameters = ParamSpec("Parameters")


def guarded(draw: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Show what goes wrong inside as one sentence."""

    @wraps(draw)
    def safely(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
        try:
            draw(*arguments, **named)
        except Exception as error:  # Streamlit's own stop and rerun are no Exceptions
            st.error(plain(one_sentence(error)))

    return safely


def part(draw: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """A part of a page that is drawn again on its own when one of its controls moves.

    For controls that change one figure only: the rest of the page is not drawn again, and the
    answer comes sooner. Ask for results outside, hand them in, and use nothing else from inside."""
    return st.fragment(guarded(draw))
