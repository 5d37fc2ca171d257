"""One script run of the dashboard: which page, which view, the sidebar, the page, the address."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from app.addresses import Addresses
from app.components.address import complete_address
from app.components.errors import guarded
from app.components.frame import complete_links, empty, question, show_notes, start_links
from app.components.look import dress
from app.components.sidebar import Place, sidebar
from app.library import current_library
from app.view import View, open_view

NO_RUNS = "No run is chosen: choose one under Runs in the sidebar."


@dataclass(frozen=True)
class Entry:
    """A page of the list. path: its place in the address; needs_runs: empty without a run."""

    group: str
    title: str
    path: str
    draw: Callable[[View], None]
    needs_runs: bool = True


@guarded
def run_dashboard(entries: Sequence[Entry]) -> None:
    """Draw the page that the address names; the first one where it names none."""
    by_path = {entry.path: entry for entry in entries}
    addresses = Addresses({path: entry.title for path, entry in by_path.items()})
    entry = by_path[addresses.path]
    dress(entry.title)
    view = open_view(entry.path, current_library())
    if addresses.mistake:
        view.held.note(f"{addresses.mistake} {entry.title} is shown instead.")
    view.pages = {path: addresses.page(path) for path in by_path}
    sidebar(view, [Place(each.group, each.path, view.pages[each.path]) for each in entries])
    start_links()
    notes = st.empty()
    _draw(entry, view)
    link = view.complete()
    show_notes(notes, view)
    complete_links(link.query())
    with st.sidebar:
        complete_address(addresses.current.url_path, link.query(), view.came_from)


def _draw(entry: Entry, view: View) -> None:
    if entry.needs_runs and not view.runs:
        question(entry.title)
        empty(NO_RUNS)
        return
    view.waiting = True  # if the page breaks off, the settings it has not reached are kept
    guarded(_drawn)(entry, view)


def _drawn(entry: Entry, view: View) -> None:
    entry.draw(view)
    view.waiting = view.results_awaited
