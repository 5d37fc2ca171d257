"""What is looked at, kept in the link: runs and weights for all pages, settings for one page.

The link is read when it can be news: at the first run of a session, after the browser's back
button, on another page, or when it is one this session never wrote. Otherwise the session's own
memory counts, because a browser that is clicked fast sends links that are already outdated.
A change by the user goes into the browser's history; what the program fills in replaces the
address quietly (`components/address.py`). `bind="query-params"` of Streamlit 1.67 does neither:
it leaves defaults out, and loses a page's own parameters on the way back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.library import Library
from app.link import Link, listed, read_link
from app.selection import nearest_runs, nearest_weights, weights_label
from mpdit_core.runs import Run, Weights

_HELD = "view held"


@dataclass
class Held:
    """What a session remembers. settings: page -> name -> text; unchecked: those from a link."""

    runs: tuple[str, ...] | None = None
    weights: str | None = None
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    page: str = ""
    unchecked: set[str] = field(default_factory=set)
    shown: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    known_links: set[str] = field(default_factory=set)

    def note(self, sentence: str) -> None:
        """Keep a sentence about what the link asked for in vain, until the user changes a thing."""
        if sentence and sentence not in self.notes:
            self.notes.append(sentence)

    def link(self, page: str) -> Link:
        """The whole view of that page: all that was shown, and what is not shown yet."""
        return Link(self.runs or (), self.weights, dict(self.settings.get(page, {})))


@dataclass
class View:
    """What one page shows now: `runs`, `weights`, and the page's own settings by `choice` etc."""

    page: str
    library: Library
    runs: tuple[Run, ...]
    weights: Weights
    held: Held
    waiting: bool = False
    """The page has not asked for all its settings yet: it broke off, or a result is awaited."""
    results_awaited: bool = False

    @property
    def run_names(self) -> tuple[str, ...]:
        return tuple(run.name for run in self.runs)

    @property
    def weights_name(self) -> str:
        """The weights in words: "EMA 10 %"."""
        return weights_label(str(self.weights))

    def choice(
        self,
        name: str,
        label: str,
        options: Sequence[Any],
        default: Any = None,
        *,
        kind: str = "list",
        words: Callable[[Any], str] = str,
        help: str | None = None,
    ) -> Any:
        """One of the options, which are told apart in the link by `str`.

        kind: "list" (a select box), "buttons" (a row, for up to five), "slider" (ordered ones).
        A link's number that is no option opens the nearest one. default: the first option."""
        default = options[0] if default is None or default not in options else default
        value = self._value(name, default, lambda text: _nearest_option(text, options))
        key = self._seed(name, value)
        common = {"format_func": words, "help": help, **self._changing(name)}
        if kind == "slider" and len(options) > 1:
            return st.select_slider(label, options, key=key, **common)
        if kind == "buttons":
            chosen = st.segmented_control(label, options, key=key, **common)
            return value if chosen is None else chosen
        return st.selectbox(label, options, key=key, **common)

    def several(
        self,
        name: str,
        label: str,
        options: Sequence[Any],
        default: Sequence[Any],
        *,
        words: Callable[[Any], str] = str,
        help: str | None = None,
    ) -> list[Any]:
        """Any number of the options; in the link they stand with commas between."""

        def parse(text: str) -> tuple[list[Any], bool]:
            wanted = [part for part in text.split(",") if part]
            found = [option for option in options if str(option) in wanted]
            return found, len(found) == len(wanted)

        value = self._value(name, [item for item in default if item in options], parse, _joined)
        key = self._seed(name, value)
        changing = self._changing(name, _joined)
        return st.multiselect(label, options, key=key, format_func=words, help=help, **changing)

    def slider(
        self,
        name: str,
        label: str,
        low: float,
        high: float,
        default: float,
        step: float = 1,
        *,
        format: str | None = None,
        help: str | None = None,
    ) -> Any:
        """A number from low to high; all four of one type, int or float."""
        value = self._value(name, default, lambda text: _nearest_number(text, low, high, step))
        key = self._seed(name, value)
        options = {"format": format, "help": help, **self._changing(name)}
        return st.slider(label, low, high, step=step, key=key, **options)

    def number(
        self,
        name: str,
        label: str,
        low: float,
        high: float,
        default: float,
        step: float = 1,
        *,
        format: str | None = None,
        help: str | None = None,
    ) -> Any:
        """Like `slider`, but typed in: for seeds and counts."""
        value = self._value(name, default, lambda text: _nearest_number(text, low, high, step))
        key = self._seed(name, value)
        options = {"format": format, "help": help, **self._changing(name)}
        return st.number_input(label, low, high, step=step, key=key, **options)

    def toggle(self, name: str, label: str, default: bool, *, help: str | None = None) -> bool:
        """On or off; `1` or `0` in the link."""
        value = self._value(name, default, _parse_switch, _switch_text)
        key = self._seed(name, value)
        return st.toggle(label, key=key, help=help, **self._changing(name, _switch_text))

    def focus(self, name: str = "run", label: str = "Run in focus") -> Run:
        """One of the runs in view, for what can only be shown of a single one; the last first."""
        names = list(self.run_names)
        chosen = self.choice(name, label, names, names[-1])
        return self.library.run(chosen)

    def setting(self, name: str, default: Any, parse: Callable[[str], tuple[Any, bool]]) -> Any:
        """A setting without a widget of its own, such as a clicked cell; see `change`."""
        return self._value(name, default, parse)

    def change(self, **texts: str) -> None:
        """Set settings as the user would, from a callback; the link follows."""
        self.held.settings.setdefault(self.page, {}).update(self.held.shown)
        self.held.settings[self.page].update(texts)
        self.held.unchecked.difference_update(texts)
        self.push()

    def push(self) -> None:
        """Make what is held the browser's address, as a step that Back undoes."""
        self.held.notes.clear()
        link = self.held.link(self.page)
        self.held.known_links.add(_fingerprint(link))
        st.query_params.from_dict(link.parameters())

    def complete(self) -> Link:
        """The page has asked for all its settings; returns the whole view as a link."""
        held = self.held
        stored = held.settings.setdefault(self.page, {})
        if not self.waiting:
            unknown = sorted(held.unchecked & set(stored))
            if unknown:
                held.note(f"This page has no setting called {listed(unknown)}; the link names it.")
            held.settings[self.page] = stored = dict(held.shown)
            held.unchecked.clear()
        stored.update(held.shown)
        held.known_links.add(_fingerprint(held.link(self.page)))
        return held.link(self.page)

    def _value(
        self,
        name: str,
        default: Any,
        parse: Callable[[str], tuple[Any, bool]],
        write: Callable[[Any], str] = str,
    ) -> Any:
        """The setting's value: what is held if it is possible, else the nearest, with a note."""
        text = self.held.settings.get(self.page, {}).get(name)
        value, exact = (default, True) if text is None else parse(text)
        if value is None:
            value = default
        if not exact and name in self.held.unchecked:
            sentence = f"{name} = {text[:40] if text else ''} is not possible here"
            self.held.note(f"{sentence}; {write(value)} is shown instead.")
        self.held.unchecked.discard(name)
        self.held.shown[name] = write(value)
        return value

    def _seed(self, name: str, value: Any) -> str:
        """Give the widget its value, only if it has another: setting it again would fight drags."""
        key = f"{self.page}/{name}"
        if key not in st.session_state or st.session_state[key] != value:
            st.session_state[key] = value
        return key

    def _changing(self, name: str, write: Callable[[Any], str] = str) -> dict[str, Any]:
        def changed() -> None:
            value = st.session_state[f"{self.page}/{name}"]
            if value is not None:  # a row of buttons without a pressed one keeps its last
                self.change(**{name: write(value)})

        return {"on_change": changed}


def open_view(page: str, library: Library) -> View:
    """The view of this script run: from the link where that is news, else from the session."""
    held = st.session_state.setdefault(_HELD, Held())
    link = read_link(st.query_params.to_dict())
    another_page, held.page = held.page != page, page
    context = get_script_run_ctx()
    went_back = bool(getattr(context, "is_history_navigation", False))
    if another_page or went_back:
        held.notes.clear()
    if another_page or went_back or _fingerprint(link) not in held.known_links:
        _adopt(held, page, link, went_back)
    return _resolved(held, page, library)


def _adopt(held: Held, page: str, link: Link, went_back: bool) -> None:
    held.runs = held.runs if link.runs is None else link.runs
    held.weights = held.weights if link.weights is None else link.weights
    if link.settings or went_back:  # an address without settings, gone back to, had the defaults
        held.settings[page] = dict(link.settings)
        held.unchecked = set(link.settings)
    held.known_links.add(_fingerprint(link))


def _resolved(held: Held, page: str, library: Library) -> View:
    names, missing = nearest_runs(held.runs, library.names)
    runs = tuple(library.run(name) for name in names)
    weights, impossible = nearest_weights(held.weights, runs)
    held.runs, held.weights = names, weights
    held.shown = {}
    held.note(missing)
    held.note(impossible)
    return View(page, library, runs, Weights.parse(weights), held)


def _fingerprint(link: Link) -> str:
    return link.query()


def _joined(values: Sequence[Any]) -> str:
    return ",".join(map(str, values))


def _switch_text(value: bool) -> str:
    return "1" if value else "0"


def _parse_switch(text: str) -> tuple[bool | None, bool]:
    return ({"1": True, "0": False}.get(text), text in ("0", "1"))


def _nearest_option(text: str, options: Sequence[Any]) -> tuple[Any, bool]:
    by_text = {str(option): option for option in options}
    if text in by_text:
        return by_text[text], True
    numbers = [option for option in options if isinstance(option, int | float)]
    wanted = _number(text)
    if wanted is None or not numbers:
        return None, False
    return min(numbers, key=lambda option: abs(option - wanted)), False


def _nearest_number(text: str, low: float, high: float, step: float) -> tuple[Any, bool]:
    wanted = _number(text)
    if wanted is None:
        return None, False
    inside = min(max(wanted, low), high)
    value = type(step)(inside) if isinstance(step, float) else round(inside)
    return value, value == wanted


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) < 1e15 else None
