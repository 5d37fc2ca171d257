"""How good are the samples: over training, guidance, averages and modulation, and are they new?"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.figures.panels import panels_height
from analysis.figures.quality import (
    by_run_height,
    quality_by_parameters,
    quality_by_run,
    ringed,
    sweep_panels,
)
from analysis.figures.samples import grid_height, samples_grid
from analysis.quality import FRECHET, EvaluateSettings, sample_quality
from analysis.quality_answers import (
    MARKS,
    agreement,
    agreement_sentence,
    modulation_table,
    outside_sentence,
    parameters_sentence,
    quality_sentence,
    sweep_sentence,
    undiverged,
)
from analysis.quality_sweeps import (
    QUICK,
    SWEEPS,
    Sweep,
    expected_cost,
    floors,
    marks_at,
    over_runs,
    widths_left_out,
)
from analysis.samples import SampleSettings, grey_range, sampled_images
from analysis.sweep_point import SweepPoint
from app.components import (
    Results,
    View,
    answer,
    built,
    derived,
    empty,
    is_stored,
    plain,
    question,
    results_at,
    results_of,
    scrolling,
    show,
)
from app.components.cards import seconds_in_words
from app.components.learning import learning
from app.components.quality_tabs import copies, losses
from mpdit_core.runs import Run
from mpdit_core.words import capital

FULL = {"sampler": EvaluateSettings().sampler, "steps": EvaluateSettings().steps}
CARD = 130
"""Height in pixels of what stands for runs that are not judged yet, beside those that are."""
MODULATION = "modulation"
BY_RUN = (
    "Filled: mean over sampling seeds with their standard deviation; small dots: each seed; open: "
    "drawn by DDPM; dotted: as many real images. Recognized: share of samples that a support "
    "vector machine reads as their label."
)
FORMULA = r"""Fréchet distance between Gaussians fitted to the features of a small digit network:
$|\mu-\mu'|^2 + \mathrm{tr}(S + S' - 2\sqrt{S S'})$, of $n$ images and $n$ held-out ones; it falls
as $n$ grows, so only equal $n$ are compared. Kernel distance: squared maximum mean discrepancy with
the kernel $(x\cdot y/d + 1)^3$, which has no such bias; two sets of real digits come out below 0
because both hold each label equally often. Bars: standard deviation over sampling seeds."""
PARAMETERS = (
    "One mark a run of the folder: parameters of the whole network, and quality of its samples; "
    "dotted: as many real images. Colours tell the sets of signals that modulate a block."
)


def page(view: View) -> None:
    question("How good are the samples, and are they new?")
    place = st.container()
    runs = _digits(view.runs)
    for run in view.runs:
        if run not in runs:
            words = f"Left out: {run.name} draws no digits, and only digits have a judge here."
            st.caption(plain(words))
    if not runs:
        empty("None of the chosen runs draws digits; quality is measured for runs trained on them.")
    settings = _settings(view) if runs else QUICK
    if runs and _side_by_side(view, place, runs, settings):
        _sweeps(view, runs, settings)
    by_step, by_timestep, by_distance = view.tabs(
        "tab", ["Learning curves", "Loss by timestep", "Copies of training images"]
    )
    with by_step:
        learning(view)
    with by_timestep:
        losses(view)
    with by_distance:
        if runs:
            copies(view, runs, settings)


def _digits(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.data.name == "digits"]


def _settings(view: View) -> EvaluateSettings:
    with st.expander("How samples are drawn"):
        left, middle, right = st.columns(3)
        with left:
            steps = view.number("steps", "Steps of DPM-Solver++", 1, 250, QUICK.steps, 1)
        with middle:
            n = view.number("n", "Images a seed", 2, QUICK.n, QUICK.n, 1,
                            help="They are compared with as many held-out images.")  # fmt: skip
        with right:
            seeds = view.number("seeds", "Sampling seeds", 3, 20, len(QUICK.seeds), 1)
    return QUICK.model_copy(update={"steps": steps, "n": n, "seeds": tuple(range(seeds))})


def _side_by_side(
    view: View, place: DeltaGenerator, runs: list[Run], settings: EvaluateSettings
) -> bool:
    """The runs side by side; whether they are there, so that the page can go on."""
    results = _at(view, over_runs(runs, view.weights, settings), by_run_height(len(runs)))
    if not results:
        return False
    marks, floor = derived(_marks, results)
    with place:
        drawn = f"{view.weights_name}, no guidance, {_drawn(settings)}"
        answer(quality_sentence(marks, floor, FRECHET, drawn))
    full = _stored(view, runs, settings.model_copy(update=FULL))
    other = None if full is None else derived(marks_at, [full])
    shown = None if other is None else undiverged(other)
    seeds = derived(_of_samples, results)
    title = f"Quality of samples of {view.weights_name}, {_drawn(settings)}"
    figure = built(quality_by_run, marks, seeds, floor, shown, title)
    made_from = results if full is None else [*results, full]
    show(figure, marks, "by-run", made_from, definition=BY_RUN, formula=FORMULA)
    st.caption(plain(_samplers(marks, other, settings)))
    return True


def _samplers(marks: pd.DataFrame, other: pd.DataFrame | None, settings: EvaluateSettings) -> str:
    """Whether the quick sampler tells the same as the one of the Runs page."""
    full = f"DDPM with {FULL['steps']} steps"
    if other is None:
        return f"{full} was not drawn for these runs and weights, so samplers are not compared."
    quick = f"DPM-Solver++ with {settings.steps} steps"
    parts = [agreement_sentence(agreement(marks, undiverged(other)), FRECHET, quick, full)]
    parts += [outside_sentence(marks, quick), outside_sentence(other, full)]
    return " ".join(part for part in parts if part)


def _sweeps(view: View, runs: list[Run], settings: EvaluateSettings) -> None:
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    names = {**{name: sweep.name for name, sweep in SWEEPS.items()}, MODULATION: "modulation"}
    with left:
        over = view.choice(
            "over", "Quality over", list(names), kind="buttons", words=names.__getitem__
        )
    with right:
        statistic = view.choice(
            "mark", "Measured by", list(MARKS), words=lambda name: MARKS[name].title
        )
    if over == MODULATION:
        _modulation(view, settings, statistic)
    else:
        _sweep(view, runs, settings, statistic, over)


def _sweep(
    view: View, runs: list[Run], settings: EvaluateSettings, statistic: str, over: str
) -> None:
    sweep = SWEEPS[over]
    for sentence in widths_left_out(runs) if over == "sigma" else []:
        st.caption(plain(sentence))
    points = [point for run in runs for point in sweep.points(run, view.weights, settings)]
    if not points:
        empty("No chosen run keeps averages (EMA); training saves them as it goes.",
              "mpdit train --out runs/mine --ema-every 500")  # fmt: skip
        return
    results = _at(view, points, panels_height(len(runs)))
    if not results:
        return
    marks, floor = derived(_marks, results)
    spoken = sweep.spoken_of(marks)
    st.markdown(plain(sweep_sentence(spoken, statistic, sweep.where, sweep.name)))
    title = f"{capital(MARKS[statistic].title)} over {sweep.name}, {_drawn(settings)}"
    figure = built(sweep_panels, marks, statistic, floor, sweep, title)
    chosen = _chosen(view, points, over)
    ringed(figure, chosen.run.name, str(chosen.columns["line"]), float(str(chosen.columns["at"])))
    key = f"sweep-{over}"
    show(figure, marks, key, results, formula=FORMULA, select=lambda: _clicked(view, key, over),
         definition=f"{sweep.note} Grey: the other runs; dotted: as many real images. A click on a "
         "point shows samples.")  # fmt: skip
    _samples(view, chosen, sweep)


def _chosen(view: View, points: list[SweepPoint], over: str) -> SweepPoint:
    """The clicked point of the sweep; in the link it is run, line and place."""
    texts = {_point_text(point.columns, point.run.name): point for point in points}
    last = list(texts)[-1]
    text = view.setting(f"at-{over}", last, lambda text: (text, text in texts))
    return texts.get(text, texts[last])


def _point_text(columns: Mapping[str, Any], run: str) -> str:
    return f"{run}|{columns['line']}|{float(columns['at']):g}"


def _clicked(view: View, key: str, over: str) -> None:
    """A click on a sweep: its point goes into the link."""
    points = st.session_state[f"figure/{key}"]["selection"]["points"]
    found = [point["customdata"] for point in points if point.get("customdata")]
    if found:
        run, line, at = found[0][:3]
        view.change(**{f"at-{over}": _point_text({"line": line, "at": at}, run)})


def _samples(view: View, point: SweepPoint, sweep: Sweep) -> None:
    """What the run draws there."""
    asked = EvaluateSettings.model_validate(point.settings)
    settings = SampleSettings(
        sampler=asked.sampler, steps=asked.steps, guidance=asked.guidance, frames=1
    )
    results = results_of(
        sampled_images, view, settings, runs=[point.run], weights=point.weights,
        height=grid_height(1),
    )  # fmt: skip
    if results is None:
        return
    where = sweep.where(float(str(point.columns["at"])))
    title = f"Samples of {point.run.name}, {point.columns['line']}, {where}"
    figure = samples_grid(results.table, grey_range(point.run.data), title)
    with scrolling("quality-samples"):
        show(figure, results.table.drop(columns="pixels"), "samples", results,
             definition="One image a label, from the same noise at every point.")  # fmt: skip


def _modulation(view: View, settings: EvaluateSettings, statistic: str) -> None:
    """All runs of the folder: the sets of signals are what runs differ in."""
    runs = _digits(view.library.runs)
    results = _at(view, over_runs(runs, view.weights, settings), 420)
    if not results:
        return
    marks, floor = derived(_marks, results)
    st.markdown(plain(parameters_sentence(runs, marks, statistic)))
    title = f"{capital(MARKS[statistic].title)} against parameters, {_drawn(settings)}"
    figure = built(quality_by_parameters, marks, statistic, floor, title)
    show(figure, marks, "parameters", results, definition=PARAMETERS, formula=FORMULA)
    rows = modulation_table(runs, marks)
    columns = {name: f"{mark.title}{' (%)' * (mark.factor == 100)}" for name, mark in MARKS.items()}
    shares = st.column_config.NumberColumn("beside the reference", format="percent")
    counts = st.column_config.NumberColumn(format="localized")
    st.dataframe(
        rows.rename(columns=columns), hide_index=True, width="stretch",
        column_config={"relative": shares, "parameters": counts},
    )  # fmt: skip


def _at(view: View, points: list[SweepPoint], height: int) -> list[Results] | None:
    """Results of the runs that have them at all their points; a button offers the others."""
    lacking = {point.run.name for point in points if not _there(view, point)}
    ready = [point for point in points if point.run.name not in lacking]
    asked = [point for point in points if point.run.name in lacking]
    found = results_at(sample_quality, view, ready, cost="", height=height) or []
    if asked:
        images = sum(len(point.settings.seeds) * point.settings.n for point in asked)  # type: ignore
        cost = f"Sample up to {images:,} images, {seconds_in_words(expected_cost(asked))}"
        card = CARD if ready else height
        found += results_at(sample_quality, view, asked, cost=cost, height=card) or []
    return found or None


def _there(view: View, point: SweepPoint) -> bool:
    return is_stored(view, sample_quality, point.settings, point.run, point.weights)


def _stored(view: View, runs: list[Run], settings: EvaluateSettings) -> Results | None:
    """Results of the runs that have them; nothing is computed for the others."""
    stored = [run for run in runs if is_stored(view, sample_quality, settings, run)]
    return results_of(sample_quality, view, settings, runs=stored) if stored else None


def _marks(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    return marks_at(table), floors(table)


def _of_samples(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["images"] == "samples"].reset_index(drop=True)


def _drawn(settings: EvaluateSettings) -> str:
    return f"DPM-Solver++, {settings.steps} steps"
