"""What is looked at, kept in the link: runs and weights for all pages, settings for one page.

The link is read when it can be news: at the first run of a session, after the browser's back
button, on another page, or when it is one this session never wrote. Otherwise the session's own
memory counts, because a browser that is clicked fast sends links that are already outdated.
A change by the user goes into the browser's history; what the program fills in replaces the
address quietly (`components/address.py`). `bind="query-params"` of Streamlit 1.67 does neither:
it leaves defaults out, and loses a page's own parameters on the way back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.held import Held
from app.library import Library
from app.link import Link, read_link
from app.selection import nearest_runs, nearest_weights, weights_label
from app.widgets import Widgets
from mpdit_core.runs import Run, Weights
from mpdit_core.words import listed

_HELD = "view held"


@dataclass
class View(Widgets):
    """What one page shows now: `runs`, `weights`, and the page's own settings by `choice` etc."""

    page: str
    library: Library
    runs: tuple[Run, ...]
    weights: Weights
    held: Held
    turn: int
    came_from: tuple[str, ...] = ()
    """What the browser's address may have been when this run began."""
    shown: dict[str, str] = field(default_factory=dict)
    """The settings asked for in this run, as text."""
    waiting: bool = False
    """The page has not asked for all its settings yet: it broke off, or a result is awaited."""
    results_awaited: bool = False
    pages: Mapping[str, Any] = field(default_factory=dict)
    """Streamlit's page by its path, for links from page to page."""

    @property
    def run_names(self) -> tuple[str, ...]:
        return tuple(run.name for run in self.runs)

    @property
    def weights_name(self) -> str:
        """The weights in words: "EMA 10 %"."""
        return weights_label(str(self.weights))

    def focus(self, name: str = "run", label: str = "Run in focus") -> Run:
        """One of the runs in view, for what can only be shown of a single one; the last first."""
        names = list(self.run_names)
        chosen = self.choice(name, label, names, names[-1])
        return self.library.run(chosen)

    def setting(self, name: str, default: Any, parse: Callable[[str], tuple[Any, bool]]) -> Any:
        """A setting without a widget of its own, such as a clicked cell; see `change`."""
        return self.value_of(name, default, parse)

    def change(self, **texts: str) -> None:
        """Set settings as the user would, from a callback; the link follows."""
        if went_back():
            return
        stored = self.held.settings.setdefault(self.page, {})
        self.held.settings[self.page] = {**self.shown, **stored, **texts}
        self.held.unchecked.difference_update(texts)
        self.push()

    def choose(self, runs: Sequence[str] | None = None, weights: str | None = None) -> None:
        """Set runs or weights for all pages, from a callback; the link follows."""
        if went_back():
            return
        self.held.runs = self.held.runs if runs is None else tuple(runs)
        self.held.weights = self.held.weights if weights is None else weights
        self.push()

    def push(self) -> None:
        """Make what is held the browser's address, as a step that Back undoes."""
        self.held.turn += 1
        self.held.notes.clear()
        link = self.held.link(self.page)
        self.held.known_links.add(link.query())
        self.held.address = link.query()
        st.query_params.from_dict(link.parameters())

    def complete(self) -> Link:
        """The page has asked for all its settings; returns the whole view as a link."""
        held = self.held
        if self.turn != held.turn:
            return held.link(self.page)
        stored = held.settings.get(self.page, {})
        if not self.waiting:
            unknown = sorted(held.unchecked & set(stored))
            if unknown:
                held.note(f"This page has no setting called {listed(unknown)}; the link names it.")
            held.unchecked.clear()
            stored = {}
        held.settings[self.page] = {**self.shown, **stored, **self.shown}
        held.address = held.link(self.page).query()
        held.known_links.add(held.address)
        return held.link(self.page)


def held_view() -> Held:
    """What this session remembers."""
    return st.session_state.setdefault(_HELD, Held())


def went_back() -> bool:
    """Whether the browser's back or forward button started this run: the address alone counts.

    The browser still sends what its widgets show; to a callback that looks like a click."""
    return bool(getattr(get_script_run_ctx(), "is_history_navigation", False))


def open_view(page: str, library: Library) -> View:
    """The view of this script run: from the link where that is news, else from the session."""
    held = held_view()
    link = read_link(st.query_params.to_dict())
    another_page, held.page = held.page != page, page
    if another_page or went_back():
        held.notes.clear()
    if another_page or went_back() or link.query() not in held.known_links:
        _adopt(held, page, link, went_back())
    view = _resolved(held, page, library)
    view.came_from = (link.query(), held.address)
    return view


def _adopt(held: Held, page: str, link: Link, back: bool) -> None:
    # An address that was left before it was completed, and is gone back to, showed the defaults.
    held.runs = held.runs if link.runs is None and not back else link.runs
    held.weights = held.weights if link.weights is None and not back else link.weights
    if link.settings or back:
        held.settings[page] = dict(link.settings)
        held.unchecked = set(link.settings)
    held.known_links.add(link.query())


def _resolved(held: Held, page: str, library: Library) -> View:
    names, missing = nearest_runs(held.runs, library.names)
    runs = tuple(library.run(name) for name in names)
    weights, impossible = nearest_weights(held.weights, runs)
    held.runs, held.weights = names, weights
    held.turn += 1
    held.note(missing)
    held.note(impossible)
    return View(page, library, runs, Weights.parse(weights), held, held.turn)
