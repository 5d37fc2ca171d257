"""The dashboard's entry: `streamlit run app/main.py`, or `mpdit dashboard FOLDER`.

A new page: one file in `app/pages`, one line in `PAGES`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app.components.address import complete_address
from app.components.errors import guarded
from app.components.frame import complete_links, empty, show_notes, start_links
from app.components.look import dress
from app.components.sidebar import Place, sidebar
from app.library import current_library
from app.pages import runs
from app.view import View, open_view


@dataclass(frozen=True)
class Entry:
    """A page of the list. path: its place in the address; needs_runs: empty without a run."""

    group: str
    title: str
    path: str
    draw: Callable[[View], None]
    needs_runs: bool = True


PAGES = (Entry("Look", "Runs", "runs", runs.page, needs_runs=False),)
NO_RUNS = "No run is chosen: choose one under Runs in the sidebar."


def main() -> None:
    places = [Place(entry.group, entry.path, _page(entry)) for entry in PAGES]
    current = st.navigation([place.page for place in places], position="hidden")
    entry = next(entry for entry in PAGES if entry.title == current.title)
    dress(entry.title)
    view = open_view(entry.path, current_library())
    sidebar(view, places)
    start_links()
    notes = st.empty()
    _draw(entry, view)
    link = view.complete()
    show_notes(notes, view)
    complete_links(view, link.query())
    with st.sidebar:
        complete_address(entry.path, link.query(), first=entry is PAGES[0])


def _page(entry: Entry) -> st.Page:
    def nothing() -> None:
        """Drawn by `_draw`, once it is known what is looked at."""

    first = entry is PAGES[0]
    return st.Page(nothing, title=entry.title, url_path=entry.path, default=first)


def _draw(entry: Entry, view: View) -> None:
    if entry.needs_runs and not view.runs:
        empty(NO_RUNS)
        return
    view.waiting = True  # if the page breaks off, its settings are kept
    guarded(_drawn)(entry, view)


def _drawn(entry: Entry, view: View) -> None:
    view.waiting = False
    entry.draw(view)


guarded(main)()
