"""What changes when a part of the forward pass is changed?"""

import pandas as pd
import streamlit as st

from analysis.figures.interventions import (
    GRID_HEIGHT,
    before_after_grid,
    recognized_dumbbells,
    recognized_height,
    stream_panels,
)
from analysis.figures.theme import HEIGHT
from analysis.interventions import (
    InterventionSettings,
    StreamSettings,
    example,
    expected_seconds,
    fitting,
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
from analysis.question import Question
from analysis.samples import grey_range
from app.components import (
    Results,
    View,
    answer,
    built,
    empty,
    plain,
    question,
    results_of,
    scrolling,
    show,
)
from app.components.intervention_builder import composed
from mpdit_core.interventions import AnyIntervention
from mpdit_core.runs import Run
from mpdit_core.sampling import SAMPLERS

FIRST, MOST = "first", "most"
PICKS = {FIRST: "one per label", MOST: "those that changed most"}
ALL = "all"
INTERVENTION = (
    "An intervention changes the forward pass while the weights stay: it shows what a part does, "
    "not what a model trained without it would do. Blocks are counted from 1."
)
GRID = (
    "The same images before and after, drawn from the same noise, and the difference: brown where "
    "a pixel became lighter, blue where darker, full colour for the whole grey range."
)
DUMBBELLS = (
    "Recognized: the share of images that a support vector machine, trained on the training "
    "images, reads as their label."
)
RECOGNIZED_FORMULA = r"""Every image is drawn twice from its noise. $b$ images are recognized
before only, $c$ after only, of $n$. The interval of the change is Agresti and Min's for paired
shares (2005): with $b' = b + \frac12$, $c' = c + \frac12$, $n' = n + 2$ it is $\frac{c' - b'}{n'}
\pm 1.96\,\frac1{n'}\sqrt{b' + c' - (c' - b')^2 / n'}$."""
STREAM = (
    "Magnitude of the stream (root mean square over the channels of a token) after every branch "
    "while the images are drawn; open grey before, filled after; right their ratio. At the "
    "noisiest timestep both start from the same noise; later what was drawn so far differs as well."
)
STREAM_FORMULA = r"""Mean over tokens, and over the timesteps where not one is chosen; geometric
mean over images. The interval is Student's $t$ of the paired differences of logarithms, exponential
taken. With guidance, of the half with the label."""


def page(view: View) -> None:
    question("What changes when a part of the network is changed?")
    place = st.container()
    st.caption(INTERVENTION)
    left, right = st.columns([2, 5])
    with left:
        run = view.focus()
    with right:
        chosen = composed(view, run.config, example(run.config))
    settings, stream = _settings(view, chosen)
    if not chosen:
        empty("Add an intervention to see the samples before and after it.")
        return
    able, reasons = fitting(view.runs, chosen)
    if run not in able:
        empty(next(sentence for sentence in reasons if sentence.startswith(f"{run.name}:")))
        return
    cost = _cost([run], settings, stream)
    samples = _both(view, intervened_samples, settings, [run], cost, GRID_HEIGHT)
    if samples is None:
        return
    streams = _both(view, intervened_stream, stream, [run], cost, HEIGHT)
    pairs = paired(*(side.table for side in samples))
    changes = None if streams is None else stream_change(*(side.table for side in streams))
    with place:
        answer(change_sentence(chosen, pairs, changes))
    _grid(view, run, chosen, pairs, samples)
    magnitudes, runs = view.tabs("tab", ["Stream by block", "Recognized, all runs in view"])
    with magnitudes:
        if streams is not None and changes is not None:
            _stream(view, run, changes, streams)
    with runs:
        _recognized(view, able, reasons, settings, chosen)


def _settings(
    view: View, chosen: tuple[AnyIntervention, ...]
) -> tuple[InterventionSettings, StreamSettings]:
    """What is drawn for the samples, and for the magnitudes of the stream."""
    columns = st.columns([3, 4, 3, 3, 3])
    with columns[0]:
        guidance = view.number("guidance", "Guidance", 0.0, 50.0, 1.0, 0.5, format="%.1f",
                               help="1 is none: the label's prediction alone.")  # fmt: skip
    with columns[1]:
        first = InterventionSettings().sampler
        sampler = view.choice(
            "sampler", "Sampler", list(SAMPLERS), first, words=SAMPLERS.__getitem__
        )
    with columns[2]:
        steps = view.number("steps", "Steps", 1, 1000, 25, 1)
    with columns[3]:
        n = view.number("n", "Images", 10, 2000, 200, 10, help="Images before, and as many after.")
    with columns[4]:
        seed = view.number("seed", "Seed", 0, 999_999, 0, 1, help="Fixes the starting noise.")
    common = {"guidance": guidance, "sampler": sampler, "steps": steps, "seed": seed}
    samples = InterventionSettings.checked({**common, "n": n, "interventions": chosen})
    return samples, StreamSettings.checked({**common, "interventions": chosen})


def _cost(runs: list[Run], samples: InterventionSettings, stream: StreamSettings) -> str:
    seconds = 2 * (expected_seconds(runs, samples) + expected_seconds(runs, stream))
    return f"Sample before and after, about {max(1, round(seconds)):,} s"


def _both(
    view: View,
    asked: Question,
    settings: InterventionSettings,
    runs: list[Run],
    cost: str,
    height: int,
) -> tuple[Results, Results] | None:
    """Results before and after; one press of the button computes both, one after the other."""
    samples = asked is intervened_samples
    after = results_of(asked, view, settings, runs=runs, start="button" if samples else "now",
                       cost=cost, height=height)  # fmt: skip
    if after is None:
        return None
    without = settings.model_copy(update={"interventions": ()})
    before = results_of(asked, view, without, runs=runs, height=height)
    return None if before is None else (before, after)


def _grid(
    view: View,
    run: Run,
    chosen: tuple[AnyIntervention, ...],
    pairs: pd.DataFrame,
    samples: tuple[Results, Results],
) -> None:
    pick = view.choice("pick", "Shown", list(PICKS), kind="buttons", words=PICKS.__getitem__)
    images = chosen_images(pairs, pick == MOST)
    title = f"{run.name}, {view.weights_name}: {names_of(chosen)[:90]}"
    with scrolling("before-after"):
        figure = before_after_grid(images, grey_range(run.data), title)
        show(figure, _spread(pairs), "images", samples, definition=GRID)


def _stream(view: View, run: Run, changes: pd.DataFrame, streams: tuple[Results, Results]) -> None:
    timesteps = sorted(changes["timestep"].dropna().astype(int).unique().tolist(), reverse=True)
    options = [ALL, *timesteps]
    timestep = view.choice(
        "t", "Timestep (999 = noise, 0 = image)", options, timesteps[0], kind="slider"
    )
    rows = at_timestep(changes, None if timestep == ALL else timestep)
    when = "mean over timesteps" if timestep == ALL else f"t = {timestep}"
    title = f"{run.name}: magnitude of the stream, {when}"
    figure = built(stream_panels, rows, changes, title)
    show(figure, rows, "stream", streams, definition=STREAM, formula=STREAM_FORMULA)


def _recognized(
    view: View,
    able: list[Run],
    reasons: list[str],
    settings: InterventionSettings,
    chosen: tuple[AnyIntervention, ...],
) -> None:
    for sentence in reasons:
        st.caption(plain(f"Left out: {sentence}"))
    digits = [run for run in able if run.data.name == "digits"]
    if not digits:
        empty("No run in view draws digits; only digits can be recognized.")
        return
    seconds = max(1, round(2 * expected_seconds(digits, settings)))
    cost = f"Sample {len(digits)} runs before and after, about {seconds:,} s"
    height = recognized_height(len(digits))
    samples = _both(view, intervened_samples, settings, digits, cost, height)
    if samples is None:
        return
    changes = recognized_change(paired(*(side.table for side in samples)))
    figure = built(recognized_dumbbells, changes, f"Recognized: {names_of(chosen)[:90]}")
    show(figure, changes, "recognized", samples, definition=DUMBBELLS, formula=RECOGNIZED_FORMULA)


def _spread(pairs: pd.DataFrame) -> pd.DataFrame:
    """What a spreadsheet can read: without the pixels."""
    return pairs.drop(columns=["pixels_before", "pixels_after"])
