"""Which runs are there, how did their training go, and how good are their samples?"""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.figures.samples import picture, strip_png
from analysis.quality import EvaluateSettings, sample_quality, summary
from analysis.quality_answers import outside_sentence, undiverged
from analysis.question import Question
from analysis.runs_overview import (
    Difference,
    largest_difference,
    log_trouble,
    overview,
    with_quality,
)
from analysis.samples import STRIP, expected_seconds, grey_range, sampled_images
from app.components import Results, View, answer, empty, is_stored, plain, question, results_of
from app.components.findings import show_findings
from app.components.learning import learning
from app.components.runs_table import MEASURES, runs_table
from mpdit_core.config import Settings
from mpdit_core.errors import MPDiTError
from mpdit_core.runs import Run
from mpdit_core.sampling import SAMPLERS

QUALITY = EvaluateSettings()
CARD = 130
"""Height in pixels of what stands in for marks and samples that are not computed yet."""

DIFFERING = ("frechet_distance", "heldout_loss")


def page(view: View) -> None:
    question("Which runs are here, and how good are they?")
    _tell_broken(view)
    if not view.library.runs:
        empty("There are no runs in the folder yet; train one.", "mpdit train my-run --preset E")
        return
    place = st.container()
    show_findings(view)
    order = st.container()
    marks = _marks(view)
    strips = _strips(view)
    quality = None if marks is None else summary(marks.table)
    table = with_quality(overview(view.library.runs), quality)
    with place:
        answer(_answer(table[table["run"].isin(view.run_names)], quality))
    with order:
        st.html(runs_table(_ordered(view, table), strips, view.run_names, _strip_words(view)))
        st.caption(_words_of_table(quality, view))
    if view.runs:
        learning(view, [] if marks is None else [marks])


def _tell_broken(view: View) -> None:
    for broken in view.library.unusable:
        st.warning(plain(f"{broken.name} is not shown: {broken.reason}"))
    for run in view.library.runs:
        if reason := log_trouble(run):
            st.warning(plain(f"{run.name} is shown without its training log: {reason}"))


def _ordered(view: View, table: pd.DataFrame) -> pd.DataFrame:
    """The rows sorted as the reader wants; best first where one end is better."""
    known = [measure for measure in MEASURES if measure.column in table]
    titles = {"run": "run", **{measure.column: measure.title for measure in known}}
    with st.columns([1, 3])[0]:
        column = view.choice("sort", "Sorted by", list(titles), words=titles.__getitem__)
    if column == "run":
        return table
    better = {measure.column: measure.better for measure in known}[column]
    return table.sort_values(column, ascending=better == "low", na_position="last", kind="stable")


def _marks(view: View) -> Results | None:
    """Marks of the runs that have them, and a button for the others."""
    runs = [run for run in view.library.runs if run.data.name == "digits"]
    images = QUALITY.n * len(QUALITY.seeds)
    per_run = f"Judge {images:,} samples of each of {{count}} runs, about {{time}}"
    return _stored_or_offered(view, sample_quality, QUALITY, runs, per_run, images)


def _strips(view: View) -> dict[str, bytes]:
    """Six samples a run as one picture, for the runs that have them."""
    words = "Sample six images of each of {count} runs, about {time}"
    results = _stored_or_offered(view, sampled_images, STRIP, view.library.runs, words, 6)
    if results is None:
        return {}
    greys = {run.name: grey_range(run.data) for run in view.library.runs}
    return {
        str(name): strip_png([picture(row) for row in rows.to_dict("records")], greys[str(name)])
        for name, rows in results.table.groupby("run", sort=False)
    }


def _stored_or_offered(
    view: View,
    asked: Question,
    settings: Settings,
    runs: Sequence[Run],
    words: str,
    images: int,
) -> Results | None:
    """The results that are stored, with a button for what is not; all of them once computed."""
    able = [run for run in runs if _can(run, view)]
    stored = [run for run in able if is_stored(view, asked, settings, run)]
    missing = [run for run in able if run not in stored]
    if missing:
        cost = words.format(count=len(missing), time=_duration(missing, images))
        computed = results_of(
            asked, view, settings, runs=missing, start="button", cost=cost, height=CARD
        )
        stored = able if computed is not None else stored
    return results_of(asked, view, settings, runs=stored) if stored else None


def _can(run: Run, view: View) -> bool:
    try:
        run.checkpoint_sha256(view.weights)
    except MPDiTError:
        return False
    return True


def _duration(runs: Sequence[Run], images: int) -> str:
    labels = tuple(0 for _ in range(images))
    seconds = expected_seconds(runs, STRIP.model_copy(update={"labels": labels}))
    return f"{max(1, seconds):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _answer(table: pd.DataFrame, quality: pd.DataFrame | None) -> str:
    """What differs most between the runs in view."""
    found = largest_difference(_measures(table))
    if found is None:
        return f"{len(table)} of the runs below are chosen; at least two with a log can differ."
    titles = {measure.column: measure for measure in MEASURES}
    measure = titles[found.measure]
    ends = [
        f"{name} {value * measure.factor:{measure.digits}}"
        for name, value in ((found.low, found.low_value), (found.high, found.high_value))
    ]
    sentence = (
        f"Of {len(table)} runs, what differs most is the {measure.title}: {' to '.join(ends)}"
    )
    return f"{sentence}{_certainty(found, quality)}."


def _certainty(found: Difference, quality: pd.DataFrame | None) -> str:
    if found.spread == 0 or quality is None:
        return " (one training each)"
    judged = quality[quality["images"] == "samples"].iloc[0]
    than = "more" if found.beyond_spread else "no more"
    return (
        f" ({judged['seeds']} sampling seeds of {judged['n']} images), "
        f"{than} than twice the spread over seeds (±\u00a0{found.spread:.2g})"
    )


def _measures(table: pd.DataFrame) -> pd.DataFrame:
    """One row a run and measure, for `largest_difference`."""
    parts = [
        pd.DataFrame(
            {
                "run": table["run"],
                "measure": column,
                "value": table[column],
                "spread": table.get(f"{column}_spread", float("nan")),
            }
        )
        for column in DIFFERING
        if column in table
    ]
    return pd.concat(parts, ignore_index=True)


def _strip_words(view: View) -> str:
    labels = ", ".join(map(str, STRIP.labels))
    return f"labels {labels}; seed {STRIP.seed}, no guidance, {view.weights_name}"


def _words_of_table(quality: pd.DataFrame | None, view: View) -> str:
    """What the columns mean, and what real images get: the marks to measure samples against."""
    words = (
        "Loss: mean squared error of the predicted noise at the last step; held-out: of the EMA "
        "10 % where it was tracked. MP: magnitude-preserving. Bold: best. Shaded: chosen in the "
        "sidebar. "
    )
    if quality is None:
        return words
    judged = quality[quality["images"] == "samples"]
    drawn = f"{SAMPLERS[QUALITY.sampler]} with {QUALITY.steps} steps"
    outside = outside_sentence(judged, drawn)
    judged = undiverged(judged)
    real = quality.drop_duplicates(["images", "statistic"]).set_index(["images", "statistic"])
    near = judged.loc[judged["statistic"] == "nearest_distance", "value"]
    read = 100 * real.loc[("held-out", "recognized"), "value"]
    return words + (
        f"Recognized: share of samples ({view.weights_name}, no guidance) that a support vector "
        f"machine reads as their label; it reads {read:.1f} % of held-out digits. Fréchet distance "
        f"to held-out digits, {judged['n'].iloc[0]} against as many; training images have "
        f"{real.loc[('training', 'frechet_distance'), 'value']:.1f}. ±: standard deviation over "
        f"{judged['seeds'].iloc[0]} sampling seeds. Distance to the nearest training image: "
        f"{near.min():.2f} to {near.max():.2f} for the samples, "
        f"{real.loc[('held-out', 'nearest_distance'), 'value']:.2f} for held-out digits; samples "
        f"nearer than these would be copies. {outside}"
    )
