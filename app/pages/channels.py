"""Do a few channels or tokens carry the activations, and is a branch more than its mean?"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from analysis.channels import (
    BRANCHES,
    POINTS,
    STATISTICS,
    ChannelSettings,
    channel_concentration,
    top_channels,
)
from analysis.channels_answer import (
    at,
    channel_words,
    concentration_sentence,
    mean_sentence,
    on_the_image,
    place_words,
    with_words,
)
from analysis.figures.channels import (
    Scale,
    channel_bars,
    maps_height,
    mark_place,
    place_maps,
    scale_of,
    token_map,
)
from analysis.figures.theme import HEIGHT
from analysis.figures.token_mean import MEAN_SCALE, mean_over_training
from analysis.token_mean import (
    TokenMeanSettings,
    TrainingSettings,
    token_mean,
    token_mean_by_step,
)
from app.components import Results, View, answer, built, empty, question, results_of, show
from app.components.zeroed import zeroed
from mpdit_core.runs import Run

SOURCES = {"noised": "held-out images, noised", "trajectory": "the sampler's own path"}
PATH_COST = "Follow the sampler's own path of each run, about 10 s a run"
MAPS, BARS = "maps", "bars"

DEFINITIONS = {
    "share": (
        "Share of the summed square of all channels that the largest one holds; white is an even "
        "spread, darkest a single channel with everything. Click a cell to see its channels below."
    ),
    "kurtosis": (
        "Kurtosis over the channels of a token: mean fourth power over squared mean square; 1 for "
        "channels of equal size, 3 for a Gaussian, the width for a single channel. Click a cell to "
        "see its channels below."
    ),
    "token": (
        "Share of the summed square of all tokens that the largest position in the image holds; "
        "white is an even spread. Click a cell to see its channels below."
    ),
}
FORMULA = r"""Share of channel $c$: $\sum_{i,n} x_{inc}^2 / \sum_{i,n,c'} x_{inc'}^2$ over images
$i$ and tokens $n$, labels together; the interval is that of a ratio of means over images (delta
method, Student's $t$). Kurtosis of a token: $\frac1D\sum_c x_c^4 / (\frac1D\sum_c x_c^2)^2$, about
0, mean over tokens. Noised: the same held-out images and noise for every run."""
CHANNELS = (
    "Mean |x|, beside that of the median channel; at the bar the channel's share of the square. "
    "Click a bar to see its tokens."
)
TOKENS = (
    "Mean |x| at every patch of the image, divided by its mean over patches: a channel that is 1 "
    "everywhere is the same for every token."
)
MEAN = (
    "Share of the square of what a branch writes, before its gate, that is its mean over the "
    "tokens of an image: at 1 every token gets the same, and the branch tells them apart no longer."
)
MEAN_FORMULA = r"""$\sum_{i,c} \bar x_{ic}^2 / \sum_{i,c} \overline{x^2}_{ic}$, bars over the $N$
tokens of image $i$; the rest is the square of $x - \bar x$. Independent tokens have $1/N$.
"Without" leaves out the channel with the largest square, which alone can make a branch look
constant."""
TRAINING = (
    "The same at every saved step, raw weights. At the start attention is nearly uniform, so "
    "every token gets about the same; a share that stays at 1 or returns to it is a branch that "
    "collapsed."
)


@dataclass(frozen=True)
class Chosen:
    """What the controls say. block from 0; rank: of the channel, 0 for all together."""

    run: Run
    point: str
    branch: str
    block: int
    timestep: int

    def here(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of this run, place and timestep."""
        return at(
            table, run=self.run.name, point=self.point, branch=self.branch, block=self.block,
            timestep=self.timestep,
        )  # fmt: skip

    @property
    def words(self) -> str:
        return place_words(self.point, self.branch, self.block)


def page(view: View) -> None:
    question("Do a few channels or tokens carry the activations, and where do they sit?")
    place = st.container()
    with st.container(horizontal=True, gap="medium"):
        source, statistic, point, branch = _shown(view)
    asked: dict[str, Any] = {"start": "now" if source == "noised" else "button", "cost": PATH_COST}
    settings, height = ChannelSettings.checked({"source": source}), maps_height(view.run_names)
    spread = results_of(channel_concentration, view, settings, height=height, **asked)
    if spread is None:
        return
    with place:
        answer(f"{view.weights_name}: {concentration_sentence(spread.table)}")
    maps, below = st.container(), st.container()
    with below:
        chosen = _chosen(view, spread.table, point, branch)
    if chosen is None:
        return
    with maps:
        _maps(view, spread, chosen, statistic)
    listed = results_of(top_channels, view, settings)
    which, zero, mean = view.tabs("tab", ["Which channels, which tokens", "Set them to 0",
                                 "Mean over tokens"])  # fmt: skip
    if listed is not None:
        rows = chosen.here(listed.table)
        with which:
            _channels(view, listed, rows, chosen)
        with zero:
            zeroed(view, chosen.run, rows, (chosen.point, chosen.branch, chosen.block))
    with mean:
        _means(view, chosen, source)


def _shown(view: View) -> tuple[str, str, str, str]:
    """What the model is shown; which statistic of which tensors the maps show."""
    source = view.choice(
        "source", "Shown to the model", list(SOURCES), kind="buttons", words=SOURCES.__getitem__
    )
    statistic = view.choice(
        "of", "Quantity", list(STATISTICS), kind="buttons", words=STATISTICS.__getitem__
    )
    point = view.choice(
        "point", "Where", list(POINTS), kind="buttons", words=POINTS.__getitem__,
        help="Stream: after the branch was added. Modulated input: what enters the branch. "
        "Output: what it writes, before its gate.",
    )  # fmt: skip
    branch = view.choice(
        "branch", "Branch", ["mlp", "attn"], kind="buttons", words=BRANCHES.__getitem__
    )
    return source, statistic, point, branch


def _chosen(view: View, table: pd.DataFrame, point: str, branch: str) -> Chosen | None:
    """Run, block and timestep in focus; at first the last run's block and timestep of most."""
    left, middle, right = st.columns([2, 2, 5], vertical_alignment="bottom")
    with left:
        run = view.focus()
    rows = at(table, run=run.name, point=point, branch=branch, statistic="share")
    if rows.empty:
        empty(f"{run.name} is not in the table, for the reason above; choose another run.")
        return None
    first = rows.sort_values("value", ascending=False, kind="stable").iloc[0]
    with middle:
        blocks = sorted((rows["block"] + 1).unique().tolist())
        block = view.choice("block", "Block", blocks, int(first["block"]) + 1)
    with right:
        timesteps = sorted(rows["timestep"].unique().tolist(), reverse=True)
        timestep = view.choice(
            "t", "Timestep (999 = noise, 0 = image)", timesteps, int(first["timestep"]),
            kind="slider",
        )  # fmt: skip
    return Chosen(run, point, branch, block - 1, timestep)


def _maps(view: View, spread: Results, chosen: Chosen, statistic: str) -> None:
    every = at(spread.table, statistic=statistic)
    rows = with_words(at(every, point=chosen.point, branch=chosen.branch))
    scale: Scale = scale_of(statistic, every)
    title = f"{STATISTICS[statistic].capitalize()}: {POINTS[chosen.point]}, "
    figure = built(place_maps, rows, scale, title + BRANCHES[chosen.branch])
    mark_place(figure, chosen.run.name, chosen.timestep, chosen.block)
    show(figure, rows, MAPS, spread, definition=DEFINITIONS[statistic], formula=FORMULA,
         select=lambda: _cell_clicked(view))  # fmt: skip


def _cell_clicked(view: View) -> None:
    """A click on a map: its run, block and timestep go into the link."""
    points = st.session_state[f"figure/{MAPS}"]["selection"]["points"]
    if points and points[0].get("customdata"):
        first = points[0]
        view.change(run=first["customdata"][0], block=str(first["y"]), t=str(first["x"]))


def _channels(view: View, listed: Results, rows: pd.DataFrame, chosen: Chosen) -> None:
    if rows.empty:
        empty(f"The table has no channels of {chosen.run.name} here.")
        return
    words = channel_words(rows)
    everything = at(listed.table, run=chosen.run.name, point=chosen.point)[["over_median"]]
    with st.columns([3, 7])[0]:
        rank = view.choice(
            "rank", "Channel shown", [*list(words)[1:], 0],
            words=lambda r: words[r] if r == 0 else f"{words[r]} (rank {r})",
            help="Rank 1 has the largest mean |x| here. Channels are counted from 0.",
        )  # fmt: skip
    left, right = st.columns(2)
    with left:
        title = f"{chosen.run.name}: {chosen.words}, t = {chosen.timestep}"
        drawn = rows.drop(columns="tokens")
        figure = built(channel_bars, drawn, everything, rank, title)
        show(figure, drawn, BARS, listed, definition=CHANNELS,
             formula=FORMULA, select=lambda: _bar_clicked(view))  # fmt: skip
    with right:
        tokens = on_the_image(rows, rank)
        title = f"{words[rank].capitalize()}: where in the image, t = {chosen.timestep}"
        show(built(token_map, tokens, title), tokens, "tokens", listed, definition=TOKENS)


def _bar_clicked(view: View) -> None:
    """A click on a bar: its rank goes into the link."""
    points = st.session_state[f"figure/{BARS}"]["selection"]["points"]
    if points:
        view.change(rank=str(int(points[0]["point_index"]) + 1))


def _means(view: View, chosen: Chosen, source: str) -> None:
    settings, height = TokenMeanSettings.checked({"source": source}), maps_height(view.run_names)
    means = results_of(token_mean, view, settings, height=height)
    if means is None:
        return
    answer(f"{view.weights_name}: {mean_sentence(means.table)}")
    rows = with_words(at(means.table, branch=chosen.branch))
    writer = "attention" if chosen.branch == "attn" else "the MLP"
    title = f"How much of what {writer} writes is the same for every token"
    figure = built(place_maps, rows, MEAN_SCALE, title)
    mark_place(figure, chosen.run.name, chosen.timestep, chosen.block)
    show(figure, rows, "means", means, definition=MEAN, formula=MEAN_FORMULA)
    every_step = TrainingSettings.checked({"source": source})
    training = results_of(
        token_mean_by_step, view, every_step, runs=[chosen.run], weights="final", height=HEIGHT
    )
    if training is None:
        return
    saved = sorted(training.table["timestep"].unique().tolist(), key=lambda t: -t)
    nearest = min(saved, key=lambda t: abs(t - chosen.timestep))
    rows = at(training.table, timestep=nearest)
    title = f"{chosen.run.name}: share of the mean over training, t = {nearest}"
    figure = built(mean_over_training, rows, title)
    show(figure, rows, "training", training, definition=TRAINING, formula=MEAN_FORMULA)
