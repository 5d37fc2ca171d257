"""A list of interventions that is put together on the page; in the link it is their short text."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.view import View
from mpdit_core.config import ModelConfig
from mpdit_core.errors import MPDiTError
from mpdit_core.interventions import AnyIntervention, parse_interventions, written

SETTING = "do"
OPEN = "draft/open"
MOST = 5
"""Interventions in a list: more are no longer told apart."""

KINDS = {
    "angle*": "multiply rotation angles",
    "=": "set a signal of the modulation",
    "skip": "skip a branch",
    "branch*": "multiply a branch's output",
    "zero": "zero channels",
}
SIGNALS = {"scale": "scale", "shift": "shift", "angle": "rotation angles", "gate": "gate"}
SOURCES = {
    "none": "no effect",
    "null": "as for the null label",
    "y": "as for a label",
    "t": "as for a timestep",
}
PLACES = {"stream": "the stream", "in": "the branch's input", "out": "the branch's output"}
BRANCHES = {"": "both", ":attn": "attention", ":mlp": "MLP"}
HALVES = {"": "both halves", ":label": "half with the label", ":null": "half with the null label"}
HELP = {
    "angle*": "0 leaves no rotation, 1 changes nothing.",
    "=": "Without effect: shift and angles 0, scale and gate a factor of 1. To remove a branch, "
    "skip it. Values for another label or timestep are computed from the model's own condition.",
    "skip": "The stream passes as if the branch were not there.",
    "branch*": "What the branch adds to the stream, after the gate. With 0, a magnitude-preserving "
    "sum still shrinks the stream by 0.919; skipping does not.",
    "zero": "Channels are counted from 0.",
}


def composed(
    view: View, config: ModelConfig, example: Sequence[AnyIntervention]
) -> tuple[AnyIntervention, ...]:
    """Draw the list with a button to remove each, and the form that adds one; returns the list.

    config: of the run in focus, whose blocks and signals are offered; example: where the link
    does not say."""
    text = view.setting(SETTING, written(example), _readable)
    chosen = parse_interventions(text)
    for place, one in enumerate(chosen):
        rest = written([*chosen[:place], *chosen[place + 1 :]])
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Remove", key=f"remove/{place}", type="tertiary", icon=":material/close:",
                on_click=_set, args=(view, rest),
            )  # fmt: skip
            st.markdown(f"{place + 1}\\. {one.name} `{one.text}`", width="content")
    if not chosen:
        st.markdown("Nothing is changed yet.")
    if len(chosen) < MOST:
        icon = ":material/add:"
        with st.popover("Add an intervention", icon=icon, key=OPEN, on_change="rerun"):
            _form(view, config, chosen)
    return chosen


def _readable(text: str) -> tuple[str | None, bool]:
    """The text if all of it can be read, so that a link with a mistake opens the example."""
    try:
        return written(parse_interventions(text)[:MOST]), True
    except MPDiTError:
        return None, False


def _set(view: View, text: str) -> None:
    st.session_state[OPEN] = False
    view.change(**{SETTING: text})


def _form(view: View, config: ModelConfig, chosen: Sequence[AnyIntervention]) -> None:
    """The fields of one more intervention; they are a draft and stand in no link."""
    kinds = [kind for kind in KINDS if kind != "angle*" or "rotation" in config.block_modulation]
    kinds = [kind for kind in kinds if kind != "=" or config.block_modulation]
    kind = st.selectbox("What", kinds, format_func=KINDS.__getitem__, key="draft/kind")
    st.caption(HELP[kind])
    what = _what(kind, config)
    text = what + _where(config)
    try:
        (one,) = parse_interventions(text)
        one.check(config)
        st.markdown(f"**{one.name}**")
        _button(view, written([*chosen, one]), disabled=False)
    except MPDiTError as error:
        st.caption(f"{error}.")
        _button(view, written(chosen), disabled=True)


def _button(view: View, text: str, *, disabled: bool) -> None:
    st.button("Add", type="primary", disabled=disabled, on_click=_set, args=(view, text))


def _what(kind: str, config: ModelConfig) -> str:
    if kind in ("angle*", "branch*"):
        factor = st.number_input(
            "Factor", -100.0, 100.0, 0.0, 0.25, format="%.2f", key="draft/factor"
        )
        return f"{kind}{float(factor)!r}"
    if kind == "=":
        return _signal(config)
    if kind == "zero":
        place = _pick("Of", PLACES, "place")
        channels = st.text_input("Channels", "0", key="draft/channels", help="Such as 3,8-10.")
        return f"zero.{place}={channels.replace(' ', '')}"
    return kind


def _signal(config: ModelConfig) -> str:
    points = ["angle" if name == "rotation" else name for name in config.block_modulation]
    signal = st.selectbox("Signal", points, format_func=SIGNALS.__getitem__, key="draft/signal")
    source = _pick("To its value", SOURCES, "source")
    if source == "y":
        return f"{signal}=y{_number('Label', config.classes - 1, 'label')}"
    if source == "t":
        return f"{signal}=t{_number('Timestep', config.timesteps - 1, 'timestep')}"
    return f"{signal}={source}"


def _where(config: ModelConfig) -> str:
    """Blocks, branches, timesteps and half as they stand in the text."""
    blocks = st.multiselect(
        "Blocks", list(range(1, config.depth + 1)), key="draft/blocks", placeholder="all blocks"
    )
    branch = st.segmented_control(
        "Branch", list(BRANCHES), default="", format_func=BRANCHES.__getitem__, key="draft/branch"
    )
    last = config.timesteps - 1
    low, high = st.slider(
        f"Timesteps ({last} = noise, 0 = image)", 0, last, (0, last), key="draft/timesteps"
    )
    half = _pick("Of guidance", HALVES, "half",
                 help="With guidance, every image is predicted with its label and with the null "
                 "label.")  # fmt: skip
    text = f"@{','.join(map(str, blocks))}" if blocks else ""
    times = "" if (low, high) == (0, last) else f":t{low}-{high}"
    return text + (branch or "") + times + half


def _pick(label: str, options: dict[str, str], name: str, **more: Any) -> str:
    return st.selectbox(
        label, list(options), format_func=options.__getitem__, key=f"draft/{name}", **more
    )


def _number(label: str, last: int, name: str) -> int:
    return int(st.number_input(label, 0, last, 0, 1, key=f"draft/{name}"))
