"""Chapters of the page Interventions: without the MLP in the middle, and without rotation."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from analysis.figures.interventions import before_after_grid, recognized_dumbbells, stream_panels
from analysis.interventions import (
    NO_ROTATION,
    InterventionSettings,
    StreamSettings,
    intervened_samples,
    intervened_stream,
)
from analysis.interventions_change import (
    at_timestep,
    change_sentence,
    chosen_images,
    names_of,
    paired,
    recognized_change,
    stream_change,
)
from analysis.report.chapter import Chapter, Figure, Part, Shown, Source, asked
from analysis.report.modulation import no_rotation
from analysis.samples import grey_range
from mpdit_core.interventions import AnyIntervention, SkipBranch
from mpdit_core.runs import Run

Change = tuple[AnyIntervention, ...]


def _no_middle(run: Run) -> Change:
    return (SkipBranch(blocks=((run.config.depth - 1) // 2,), branches=("mlp",)),)


CHANGES: dict[str, tuple[str, Callable[[Run], Change]]] = {
    "skip": ("without the MLP in the middle", _no_middle),
    "rotation": ("without rotation", lambda run: NO_ROTATION),
}


def _samples(name: str) -> Source:
    _, change = CHANGES[name]
    return asked(
        intervened_samples, lambda run: InterventionSettings(interventions=change(run)),
        name=f"intervened-samples-{name}", sampled=True,
        lacking=no_rotation if name == "rotation" else lambda run: "",
    )  # fmt: skip


def _stream(name: str) -> Source:
    _, change = CHANGES[name]
    return asked(
        intervened_stream, lambda run: StreamSettings(interventions=change(run)),
        name=f"intervened-stream-{name}", sampled=True,
        lacking=no_rotation if name == "rotation" else lambda run: "",
    )  # fmt: skip


BEFORE = asked(intervened_samples, InterventionSettings(), name="intervened-samples-before",
               sampled=True)  # fmt: skip
STREAM = asked(intervened_stream, StreamSettings(), name="intervened-stream-before",
               sampled=True)  # fmt: skip
AFTER = {name: _samples(name) for name in CHANGES}
STREAM_AFTER = {name: _stream(name) for name in CHANGES}


def _pairs(name: str, shown: Shown) -> pd.DataFrame:
    return paired(shown.own(BEFORE), shown.own(AFTER[name]))


def _grid(name: str, shown: Shown) -> Figure:
    run = shown.run
    title = f"{run.name}, {shown.weights}: {names_of(CHANGES[name][1](run))[:90]}"
    images = chosen_images(_pairs(name, shown), False)
    return before_after_grid(images, grey_range(run.data), title)


def _answer(name: str, shown: Shown) -> str:
    stream = shown.own(STREAM), shown.own(STREAM_AFTER[name])
    changes = None if any(part.empty for part in stream) else stream_change(*stream)
    return change_sentence(CHANGES[name][1](shown.run), _pairs(name, shown), changes)


def _magnitudes(name: str, shown: Shown) -> Figure:
    changes = stream_change(shown.own(STREAM), shown.own(STREAM_AFTER[name]))
    first = int(changes["timestep"].dropna().max())
    title = f"{shown.run.name}: magnitude of the stream, t = {first}"
    return stream_panels(at_timestep(changes, first), changes, title)


def _changes(name: str, shown: Shown) -> pd.DataFrame:
    return recognized_change(paired(shown.table(BEFORE), shown.table(AFTER[name])))


def _unread(name: str, shown: Shown) -> str:
    return "" if len(_changes(name, shown)) else "Only digits can be recognized; no run draws any."


def _recognized(name: str, shown: Shown) -> Figure:
    return recognized_dumbbells(_changes(name, shown), f"Recognized: {CHANGES[name][0]}")


def _chapters(name: str, words: str) -> tuple[Chapter, ...]:
    after, stream = AFTER[name], STREAM_AFTER[name]
    return (
        Chapter(f"interventions-{name}-images", f"Samples {words}", (BEFORE, after),
                partial(_grid, name), partial(_answer, name), beside=(STREAM, stream),
                each_run=True),
        Chapter(f"interventions-{name}-stream", f"The stream {words}", (STREAM, stream),
                partial(_magnitudes, name), each_run=True),
        Chapter(f"interventions-{name}-recognized", f"Recognized {words}", (BEFORE, after),
                partial(_recognized, name), rows=partial(_changes, name),
                lacking=partial(_unread, name)),
    )  # fmt: skip


PART = Part(
    "interventions",
    "Interventions",
    "What changes when a part of the network is changed?",
    tuple(
        chapter for name, (words, _) in CHANGES.items() for chapter in _chapters(name, words)
    ),
)  # fmt: skip
