"""Chapters of the page Channels and tokens."""

import pandas as pd

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
from analysis.figures.channels import channel_bars, place_maps, scale_of, token_map
from analysis.figures.token_mean import MEAN_SCALE, mean_over_training
from analysis.report.chapter import Chapter, Figure, Part, Shown, asked, nearest
from analysis.token_mean import (
    TokenMeanSettings,
    TrainingSettings,
    token_mean,
    token_mean_by_step,
)

SPREAD = asked(channel_concentration, ChannelSettings())
TOP = asked(top_channels, ChannelSettings())
MEANS = asked(token_mean, TokenMeanSettings())
TRAINING = asked(token_mean_by_step, TrainingSettings(), weights=("final",))
STATISTIC, POINT, BRANCH = "share", next(iter(POINTS)), "mlp"


def _maps(shown: Shown) -> Figure:
    every = at(shown.table(SPREAD), statistic=STATISTIC)
    rows = with_words(at(every, point=POINT, branch=BRANCH))
    title = f"{STATISTICS[STATISTIC].capitalize()}: {POINTS[POINT]}, {BRANCHES[BRANCH]}"
    return place_maps(rows, scale_of(STATISTIC, every), title)


def _answer(shown: Shown) -> str:
    return f"{shown.weights}: {concentration_sentence(shown.table(SPREAD))}"


def _place(shown: Shown) -> tuple[int, int]:
    """Block (from 0) and timestep where one channel holds most."""
    rows = at(shown.own(SPREAD), point=POINT, branch=BRANCH, statistic=STATISTIC)
    first = rows.sort_values("value", ascending=False, kind="stable").iloc[0]
    return int(first["block"]), int(first["timestep"])


def _listed(shown: Shown) -> pd.DataFrame:
    block, t = _place(shown)
    return at(shown.own(TOP), point=POINT, branch=BRANCH, block=block, timestep=t)


def _rank(rows: pd.DataFrame) -> int:
    return list(channel_words(rows))[1]


def _bars(shown: Shown) -> Figure:
    block, t = _place(shown)
    rows = _listed(shown)
    everything = at(shown.own(TOP), point=POINT)[["over_median"]]
    title = f"{shown.run.name}: {place_words(POINT, BRANCH, block)}, t = {t}"
    return channel_bars(rows.drop(columns="tokens"), everything, _rank(rows), title)


def _tokens(shown: Shown) -> Figure:
    rows = _listed(shown)
    words = channel_words(rows)[_rank(rows)].capitalize()
    title = f"{shown.run.name}: {words}, where in the image, t = {_place(shown)[1]}"
    return token_map(on_the_image(rows, _rank(rows)), title)


def _means(shown: Shown) -> Figure:
    rows = with_words(at(shown.table(MEANS), branch=BRANCH))
    title = "How much of what the MLP writes is the same for every token"
    return place_maps(rows, MEAN_SCALE, title)


def _means_answer(shown: Shown) -> str:
    return f"{shown.weights}: {mean_sentence(shown.table(MEANS))}"


def _training(shown: Shown) -> Figure:
    table = shown.own(TRAINING)
    t = nearest(table["timestep"].unique(), _place(shown)[1])
    title = f"{shown.run.name}: share of the mean over training, t = {t}"
    return mean_over_training(at(table, timestep=t), title)


PART = Part(
    "channels",
    "Channels and tokens",
    "Do a few channels or tokens carry the activations, and where do they sit?",
    (
        Chapter("channels-maps", "The top channel's share of the stream", (SPREAD,), _maps,
                _answer),
        Chapter("channels-bars", "The largest channels", (SPREAD, TOP), _bars, each_run=True),
        Chapter("channels-tokens", "Where the largest channel sits", (SPREAD, TOP), _tokens,
                each_run=True),
        Chapter("channels-means", "Mean over tokens", (MEANS,), _means, _means_answer),
        Chapter("channels-training", "Mean over tokens, over training", (SPREAD, TRAINING),
                _training, each_run=True),
    ),
)  # fmt: skip
