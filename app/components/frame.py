"""The words around the figures: question, answer, what a link asked for in vain, the link."""

import re
from urllib.parse import urlsplit

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.view import View, held_view

_PLACES = "places of the link"
_MARKS = re.compile(r"([\\*_\[\]<>$~|:#])")
"""What Markdown would act on: names of runs and what a link says may hold anything. Backticks stay:
sentences have commands between them."""


def plain(text: str) -> str:
    """The text as Markdown that shows it letter by letter."""
    return _MARKS.sub(r"\\\1", text)


def question(sentence: str) -> None:
    """The page's question, one sentence. First thing on the page."""
    st.header(sentence, anchor=False)


def answer(sentence: str) -> None:
    """The answer, one sentence computed from the table in view, with number, n and runs."""
    st.markdown(f"**{plain(sentence)}**")


def empty(sentence: str, command: str = "") -> None:
    """What would be here, and the command to get it."""
    st.info(sentence)
    if command:
        st.code(command, language="sh")


def scrolling(key: str) -> DeltaGenerator:
    """A container of figures that keep their size on a narrow screen, and scroll there.

    Ten images of 64 pixels and their labels do not fit below 820."""
    st.html(
        f"<style>.st-key-{key} {{ overflow-x: auto; }} .st-key-{key} "
        ".stElementContainer:has(.stPlotlyChart) { min-width: 820px; }</style>"
    )
    return st.container(key=key)


def link_here() -> None:
    """The whole view as a link to copy; completed when the page has asked for all its settings."""
    place = st.empty()
    st.session_state.setdefault(_PLACES, []).append(place)
    held = held_view()
    place.code(_address(held.link(held.page).query()), language=None)


def start_links() -> None:
    """Forget the places of the run before."""
    st.session_state[_PLACES] = []


def complete_links(query: str) -> None:
    """Write the finished link into every fold of the page."""
    places: list[DeltaGenerator] = st.session_state.get(_PLACES, [])
    for place in places:
        place.code(_address(query), language=None)


def _address(query: str) -> str:
    """The page's address with this query."""
    parts = urlsplit(st.context.url or "")
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{query}"


def show_notes(place: DeltaGenerator, view: View) -> None:
    """What the link asked for and could not have, above the page."""
    if view.held.notes:
        place.info("  \n".join(map(plain, view.held.notes)), icon=":material/link_off:")
