"""Are the averages what they are called, and how well is any other width reconstructed?"""

import pandas as pd
import streamlit as st

from analysis.ema_health import HealthSettings, ema_health, health_line, width_words
from analysis.ema_profiles import (
    CoefficientSettings,
    DecaySettings,
    LengthSettings,
    ProfileSettings,
    compared_samples,
    ema_coefficients,
    ema_decay,
    ema_length,
    ema_profile,
)
from analysis.figures import ema as figures
from analysis.figures.samples import grid_height, samples_grid
from analysis.samples import grey_range, sampled_images
from app.components import Results, View, answer, built, empty, plain, question, results_of, show
from mpdit_core.runs import Run, Weights

WIDTHS = [round(0.02 + 0.005 * place, 3) for place in range(54)]
"""Stops of the slider."""

SIGMA_REL = (
    "sigma_rel: the standard deviation of the averaging profile, as a share of training so far; "
    "0.05 and 0.10 are usually tracked, any other is mixed afterwards from saved snapshots."
)
PROFILE = (
    "How much each training step counts in the average; the reconstruction adds up the profiles "
    "of snapshots."
)
PROFILE_FORMULA = r"""$p(\tau) = (\gamma+1)\,\tau^\gamma / t^{\gamma+1}$,
$\sigma_\text{rel}^2 = (\gamma+1) / ((\gamma+2)^2(\gamma+3))$; drawn times $t$. The error is
$\lVert\hat p - p\rVert / \lVert p\rVert$ [EDM2 appendix C]."""
DECAY = (
    "The share of the average that a training step keeps; the rest is taken from the weights of "
    "that step."
)
DECAY_FORMULA = (
    r"$\theta_\text{ema} \leftarrow \beta\,\theta_\text{ema} + (1-\beta)\,\theta$, "
    r"$\beta = (1 - 1/t)^{\gamma+1}$"
)
COEFFICIENTS = (
    "What each snapshot is multiplied by; chosen so that the profiles come nearest to the ideal "
    "one, then divided by their sum, so that weights which never changed stay as they are."
)
LENGTH = (
    "Root mean square norm of the rows of each weight matrix, averaged relative to raw. Directions "
    "that disagree shorten an average."
)
HEALTH = (
    "Width of the profile that explains each file best from the raw checkpoints of its step and "
    "of earlier ones, relative to the width in its name; bars show the range it can lie in."
)
HEALTH_FORMULA = r"""Between raw checkpoints the weights are taken to move in straight lines. For
every width the average along that path is compared with the file by least squares, tensor by
tensor: median, and 10 to 90 % range of the tensors, widened by what leaving out every second
checkpoint changes. With one earlier checkpoint only a lower limit can be told."""
LENGTH_MATTERS = (
    "{run} has no weight normalization: an average has shorter weights than the raw ones, and its "
    "layers are weaker by as much (tab Length of the weights)."
)
LENGTH_DOES_NOT_MATTER = (
    "{run} normalizes its weights in every forward pass: that averaged weights are shorter does "
    "not matter (tab Length of the weights)."
)
SAMPLES = "Images drawn with the averaged and with the raw final weights, from the same noise."


def page(view: View) -> None:
    question("Are the averages what they are called, and how well is any other reconstructed?")
    place = st.container()
    with_averages = [run for run in view.runs if run.ema_files]
    if not with_averages:
        empty(
            "The chosen runs keep no EMA (averaged weights); training saves them as it goes.",
            "mpdit train my-run --preset E",
        )
        return
    st.caption(SIGMA_REL)
    run, sigma = _chosen(view, with_averages)
    average = str(Weights("ema", sigma_rel=sigma))
    profile = None
    if run.ema_trap is None:  # near-copies are not mixed or drawn as if they were averages
        profile = _profiles(view, run, average)
        _samples(view, run, average)
    health = results_of(ema_health, view, HealthSettings(), runs=with_averages, weights="final")
    if health is not None:
        _health_lines(health)
    _details(view, run, average, health)
    with place:
        _answer(run, profile, health)


def _chosen(view: View, runs: list[Run]) -> tuple[Run, float]:
    left, right = st.columns([1, 2])
    names = [run.name for run in runs]
    with left:
        name = view.choice("run", "Run in focus", names, names[-1])
    with right:
        sigma = view.choice(
            "sigma", "sigma_rel", WIDTHS, 0.15, kind="slider", words=lambda width: f"{width:.3f}"
        )
    return view.library.run(name), sigma


def _profiles(view: View, run: Run, average: str) -> Results | None:
    left, right = st.columns(2)
    with left:
        profile = results_of(ema_profile, view, ProfileSettings(), runs=[run], weights=average)
        if profile is not None:
            figure = built(figures.profiles, profile.table)
            show(figure, profile.table, "profile", profile, definition=PROFILE,
                 formula=PROFILE_FORMULA)  # fmt: skip
    with right:
        decay = results_of(ema_decay, view, DecaySettings(), runs=[run], weights=average)
        if decay is not None:
            figure = built(figures.decay_factors, decay.table)
            show(figure, decay.table, "decay", decay, definition=DECAY, formula=DECAY_FORMULA)
    return profile


def _samples(view: View, run: Run, average: str) -> None:
    """Samples of the average above those of the raw weights, or a card while they are drawn."""
    settings = compared_samples(run.config.classes)
    parts = [
        results_of(sampled_images, view, settings, runs=[run], weights=weights,
                   height=grid_height(1))
        for weights in (average, "final")
    ]  # fmt: skip
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return
    table = pd.concat([part.table for part in found], ignore_index=True)
    rows = table.assign(run=run.name + ", " + table["weights"].map(_row_name))
    title = f"Samples of {run.name}: average of {average.removeprefix('ema-')} and raw weights"
    figure = samples_grid(rows, grey_range(run.data), title)
    show(figure, rows.drop(columns="pixels"), "samples", found, definition=SAMPLES)
    note = LENGTH_DOES_NOT_MATTER if run.config.weight_normalization else LENGTH_MATTERS
    st.caption(plain(note.format(run=run.name)))


def _row_name(weights: str) -> str:
    return "raw" if weights == "final" else f"EMA {weights.removeprefix('ema-')}"


def _health_lines(health: Results) -> None:
    st.subheader("Health of every EMA file", anchor=False)
    lines = [
        {
            "run": row["run"],
            "called": f"{row['sigma_rel']:.3f}",
            "step": row["step"],
            "real width (range)": width_words(row),
            "what it is": health_line(row),
        }
        for row in _doubted_first(health.table).to_dict("records")
    ]
    st.dataframe(pd.DataFrame(lines), hide_index=True, width="stretch", height=250)


def _doubted_first(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("verdict", key=lambda verdicts: verdicts == "as named", kind="stable")


def _details(view: View, run: Run, average: str, health: Results | None) -> None:
    widths, mixed, long = view.tabs("tab", ["Real widths", "Coefficients", "Length of the weights"])
    with widths:
        if health is not None and health.table["width"].notna().any():
            show(built(figures.real_widths, health.table), health.table, "widths", health,
                 definition=HEALTH, formula=HEALTH_FORMULA)  # fmt: skip
        elif health is not None:
            st.caption("No file has earlier raw checkpoints beside it; its width is not known.")
    with mixed:
        mix = results_of(ema_coefficients, view, CoefficientSettings(), runs=[run], weights=average)
        if mix is not None:
            figure = built(figures.coefficients, mix.table)
            show(figure, mix.table, "coefficients", mix, definition=COEFFICIENTS)
    with long:
        length = results_of(ema_length, view, LengthSettings(), weights=average)
        if length is not None:
            st.markdown(length_words(length.table))
            show(
                built(figures.lengths, length.table),
                length.table,
                "length",
                length,
                definition=LENGTH,
            )


def length_words(table: pd.DataFrame) -> str:
    """Whether it matters that averages are shorter, run by run."""
    sentences = []
    for run, rows in table.groupby("run", sort=False):
        shorter = figures.percent(max(0.0, 1 - rows["value"].median()))
        kept = rows["normalized"].mean()
        if kept > 0.5:
            effect = "its forward pass normalizes them, so this does not matter"
        else:
            effect = "it uses them as they are, so its layers are weaker by as much"
        told = f"{shorter} shorter (median of {len(rows)}); {effect}"
        sentences.append(f"**{plain(str(run))}**: {told}.")
    return "  \n".join(sentences)


def _answer(run: Run, profile: Results | None, health: Results | None) -> None:
    parts = []
    if profile is not None:
        row = profile.table.iloc[0]
        error = figures.percent(float(row["error"]))
        parts.append(
            f"{run.name}: the average of sigma_rel {row['sigma_rel']:.3f}, mixed from "
            f"{row['n']} snapshots, is {error} off its ideal profile"
        )
    if health is not None:
        good, total = (health.table["verdict"] == "as named").sum(), len(health.table)
        parts.append(f"{good} of {total} EMA files in view are averages of the width in their name")
    if parts:
        answer("; ".join(parts) + ".")
    if run.ema_trap is not None:
        st.warning(plain(f"{run.name}: {run.ema_trap}"))
