"""The sidebar: pages in their groups, and what is compared on all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import streamlit as st

from app.link import Link
from app.selection import NARROWEST, weights_label, weights_of
from app.view import View
from mpdit_core.ema import WIDEST
from mpdit_core.runs import Weights

OTHER_WIDTH = "other"


@dataclass(frozen=True)
class Place:
    """A page in the sidebar: its group, its path in the address, and Streamlit's page."""

    group: str
    path: str
    page: Any


def sidebar(view: View, places: Sequence[Place]) -> None:
    """Draw it; the links carry the view, so that a page opened in a new tab shows the same."""
    with st.sidebar:
        for group, members in groupby(places, lambda place: place.group):
            st.caption(group)
            for place in members:
                link = Link(view.run_names, str(view.weights), view.held.link(place.path).settings)
                query = link.parameters()
                st.page_link(place.page, query_params=query, width="stretch")
        st.divider()
        _choose_runs(view)
        _choose_weights(view)
        _tell_of_unusable(view, places)


def _choose_runs(view: View) -> None:
    key = "shared/runs"
    if tuple(st.session_state.get(key, ("",))) != view.run_names:
        st.session_state[key] = list(view.run_names)

    def changed() -> None:
        view.choose(runs=st.session_state[key])

    chosen = list(view.run_names)
    st.multiselect("Runs", view.library.names, default=chosen, key=key, on_change=changed)


def _choose_weights(view: View) -> None:
    """A list of what is saved; any other width of average is typed in under it."""
    key, saved = "shared/weights", list(weights_of(view.runs))
    can_average = any(text.startswith("ema") for text in saved)
    options = saved + [OTHER_WIDTH] if can_average else saved
    if not options:
        return
    current = str(view.weights) if str(view.weights) in saved else OTHER_WIDTH
    if current not in options:
        options.append(current)
    if st.session_state.get(key) != current:
        st.session_state[key] = current

    def changed() -> None:
        chosen = st.session_state[key]
        view.choose(weights="ema-0.075" if chosen == OTHER_WIDTH else chosen)

    def words(option: str) -> str:
        return "EMA of another width" if option == OTHER_WIDTH else weights_label(option)

    help = "EMA: the average of the weights over training; 10 % is its width relative to training."
    common = {"format_func": words, "help": help, "on_change": changed}
    st.selectbox("Weights", options, index=options.index(current), key=key, **common)
    if st.session_state[key] == OTHER_WIDTH:
        _choose_width(view)


def _choose_width(view: View) -> None:
    key, held = "shared/sigma_rel", view.weights.sigma_rel or 0.1
    if key not in st.session_state or st.session_state[key] != held:
        st.session_state[key] = held

    def changed() -> None:
        view.choose(weights=str(Weights("ema", sigma_rel=st.session_state[key])))

    low, high = NARROWEST, round(WIDEST - 0.0005, 3)
    help = "sigma_rel: the standard deviation of the average's profile, as a share of training."
    common = {"step": 0.005, "format": "%.3f", "on_change": changed, "help": help}
    st.number_input("sigma_rel", low, high, value=held, key=key, **common)


def _tell_of_unusable(view: View, places: Sequence[Place]) -> None:
    count = len(view.library.unusable)
    if count:
        folders = "One folder is" if count == 1 else f"{count} folders are"
        if view.page == places[0].path:
            st.caption(f"{folders} not shown; the reason stands on this page.")
            return
        link = Link(view.run_names, str(view.weights)).parameters()
        label = f":small[{folders} not shown: see why]"
        st.page_link(places[0].page, label=label, query_params=link)
