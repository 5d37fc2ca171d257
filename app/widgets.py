"""Widgets whose values live in the link: the settings of a page.

Each is an ordinary Streamlit widget, drawn where it is called. Its value comes from what the
session holds as text; what is impossible there opens the nearest possible value.

A widget gets its value twice: in the session's state, which counts, and as its default. A browser
that is sent two drawings in short order, as by a card that redraws its page, only sees the second,
which no longer says that the state was set. It then starts from the default, and sends that back
as if the user had chosen it.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.held import Held


class Widgets(ABC):
    """The part of a `View` that draws controls. name: short, the parameter in the link."""

    page: str
    held: Held
    shown: dict[str, str]

    @abstractmethod
    def change(self, **texts: str) -> None:
        """Set settings as the user would; the link follows."""

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
        value = self.value_of(name, default, lambda text: nearest_option(text, options))
        key = self._seed(name, value)
        common = {"format_func": words, "help": help, **self._changing(name)}
        if kind == "slider" and len(options) > 1:
            return st.select_slider(label, options, value=value, key=key, **common)
        if kind == "buttons":
            chosen = st.segmented_control(label, options, default=value, key=key, **common)
            return value if chosen is None else chosen
        place = list(options).index(value)
        return st.selectbox(label, options, index=place, key=key, **common)

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

        value = self.value_of(name, [item for item in default if item in options], parse, _joined)
        key = self._seed(name, value)
        common = {"format_func": words, "help": help, **self._changing(name, _joined)}
        return st.multiselect(label, options, default=value, key=key, **common)

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
        value = self.value_of(name, default, lambda text: nearest_number(text, low, high, step))
        key = self._seed(name, value)
        options = {"format": format, "help": help, **self._changing(name)}
        return st.slider(label, low, high, value=value, step=step, key=key, **options)

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
        value = self.value_of(name, default, lambda text: nearest_number(text, low, high, step))
        key = self._seed(name, value)
        options = {"format": format, "help": help, **self._changing(name)}
        return st.number_input(label, low, high, value=value, step=step, key=key, **options)

    def toggle(self, name: str, label: str, default: bool, *, help: str | None = None) -> bool:
        """On or off; `1` or `0` in the link."""
        value = self.value_of(name, default, _parse_switch, _switch_text)
        key = self._seed(name, value)
        return st.toggle(
            label, value=value, key=key, help=help, **self._changing(name, _switch_text)
        )

    def tabs(self, name: str, titles: Sequence[str]) -> Sequence[DeltaGenerator]:
        """Containers of which one is seen at a time; in the link its title in small letters."""
        by_slug = {_slug(title): title for title in titles}
        slugs = list(by_slug)
        open_one = by_slug[self.value_of(name, slugs[0], lambda text: nearest_option(text, slugs))]
        key = self._seed(name, open_one)
        return st.tabs(titles, default=open_one, key=key, **self._changing(name, _slug))

    def value_of(
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
        self.shown[name] = write(value)
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


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _joined(values: Sequence[Any]) -> str:
    return ",".join(map(str, values))


def _switch_text(value: bool) -> str:
    return "1" if value else "0"


def _parse_switch(text: str) -> tuple[bool | None, bool]:
    return ({"1": True, "0": False}.get(text), text in ("0", "1"))


def nearest_option(text: str, options: Sequence[Any]) -> tuple[Any, bool]:
    by_text = {str(option): option for option in options}
    if text in by_text:
        return by_text[text], True
    numbers = [option for option in options if isinstance(option, int | float)]
    wanted = _number(text)
    if wanted is None or not numbers:
        return None, False
    return min(numbers, key=lambda option: abs(option - wanted)), False


def nearest_number(text: str, low: float, high: float, step: float) -> tuple[Any, bool]:
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
