"""Where does every head look? Attention maps, averaged over images or of a single one.

A map holds a weight for every pair of tokens, so its size grows with the fourth power of the
image's side: a table never holds more than `LARGEST` weights, and `fitting` chooses which.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.attention_pass import AttentionSettings, see_attention
from analysis.defaults import Default
from analysis.probing import probe_inputs
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.config import ModelConfig
from mpdit_core.errors import InvalidConfig
from mpdit_core.runs import Run, Weights

LARGEST = 1 << 20
"""Weights in one table, about 2 MB on disk; the maps of a shipped run have 67,584."""

BITS = 9
"""Binary digits of a stored weight; it is within 0.2 % of the computed one."""

EXAMPLE = 3
"""The label whose first held-out image is looked at first."""


class MapSettings(AttentionSettings):
    """What the model is shown, and of which blocks and heads (from 0; empty: all) maps are kept.

    One image is asked for by one label and `samples=1`."""

    blocks: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()

    def chosen_blocks(self, config: ModelConfig) -> tuple[int, ...]:
        """The blocks, each once. Raises InvalidConfig for one that the model does not have."""
        return _chosen("blocks", self.blocks, config.depth)

    def chosen_heads(self, config: ModelConfig) -> tuple[int, ...]:
        """The heads, each once. Raises InvalidConfig for one that the model does not have."""
        return _chosen("heads", self.heads, config.heads)

    def weights_kept(self, config: ModelConfig) -> int:
        """How many attention weights the table will hold."""
        maps = len(self.chosen_blocks(config)) * len(self.chosen_heads(config))
        return maps * len(self.chosen_timesteps(config)) * config.tokens**2


def _chosen(name: str, wanted: tuple[int, ...], count: int) -> tuple[int, ...]:
    impossible = [place for place in wanted if not 0 <= place < count]
    if impossible:
        raise InvalidConfig(f"{name} held {impossible[0]}; this model has 0 to {count - 1}")
    return tuple(sorted(set(wanted))) if wanted else tuple(range(count))


def fitting(config: ModelConfig, settings: MapSettings, block: int, head: int) -> MapSettings:
    """The settings if their table is within `LARGEST`; else those of this block, then of this head,
    then of fewer timesteps, evenly spaced."""
    of_block = settings.model_copy(update={"blocks": (block,)})
    of_head = of_block.model_copy(update={"heads": (head,)})
    for candidate in (settings, of_block, of_head):
        if candidate.weights_kept(config) <= LARGEST:
            return candidate
    timesteps = settings.chosen_timesteps(config)
    room = min(max(1, LARGEST // config.tokens**2), len(timesteps))
    places = np.linspace(0, len(timesteps) - 1, room + 2 if room == 1 else room).round().astype(int)
    kept = places[1:2] if room == 1 else places  # a single one is that in the middle
    return of_head.model_copy(update={"timesteps": tuple(timesteps[place] for place in kept)})


@question(version=1)
def attention_maps(run: Run, weights: Weights, settings: MapSettings) -> pd.DataFrame:
    """Which tokens does each token look at? One row per (block, head, timestep, query, key).

    Columns: run, weights, block, head, timestep, query, key (tokens from 0, row by row over the
    image), value (attention weight, mean over images, within 0.2 %), n (images). Raises
    InvalidConfig where that is more than `LARGEST` weights."""
    config = run.config
    _check_size(run, settings)
    blocks, heads = settings.chosen_blocks(config), settings.chosen_heads(config)
    sums: dict[tuple[int, int, int], Tensor] = {}
    counts: dict[tuple[int, int, int], int] = {}

    def add(block: int, head: int, logits: Tensor, timesteps: Tensor) -> None:
        maps = logits.softmax(dim=-1)
        for timestep in timesteps.unique().tolist():
            here = maps[timesteps == timestep]
            place = (block, head, timestep)
            sums[place] = sums.get(place, 0) + here.sum(dim=0)
            counts[place] = counts.get(place, 0) + len(here)

    shown = see_attention(run, weights, settings, add, blocks, heads)
    places = [(block, head, t) for block in blocks for head in heads for t in shown]
    values = torch.stack([sums[place] / counts[place] for place in places])
    return of_run(_tidy(places, values.numpy(), counts[places[0]]), run, weights)


def _check_size(run: Run, settings: MapSettings) -> None:
    kept = settings.weights_kept(run.config)
    if kept > LARGEST:
        raise InvalidConfig(
            f"The maps of run {run.name!r} asked for hold {kept:,} weights "
            f"({run.config.tokens:,} tokens); at most {LARGEST:,} are kept, so name fewer blocks, "
            "heads or timesteps"
        )


def _tidy(places: Iterable[tuple[int, int, int]], values: np.ndarray, n: int) -> pd.DataFrame:
    """values (places, queries, keys)."""
    maps, tokens, _ = values.shape
    block, head, timestep = np.array(list(places), dtype=np.int16).T
    token = np.arange(tokens, dtype=np.int16)
    each = tokens**2
    return pd.DataFrame(
        {
            "block": np.repeat(block, each),
            "head": np.repeat(head, each),
            "timestep": np.repeat(timestep, each),
            "query": np.tile(np.repeat(token, tokens), maps),
            "key": np.tile(token, maps * tokens),
            "value": _coarse(values).ravel(),
            "n": n,
        }
    )


def _coarse(values: np.ndarray) -> np.ndarray:
    """Rounded to `BITS` binary digits: few distinct numbers take less space on disk."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**BITS) / 2**BITS, exponent).astype(np.float32)


@question(version=1)
def probed_images(run: Run, weights: Weights, settings: AttentionSettings) -> pd.DataFrame:
    """What is the model shown? One row per (timestep, row, column), the mean over the images.

    Columns: run, weights, timestep, row, column (pixels from 0), value (the model's units, mean 0
    and standard deviation 1; mean over channels), n (images)."""
    with torch.no_grad():
        probed = probe_inputs(run, run.model(weights), settings)
    pixels = torch.stack([part.noisy.mean(dim=(0, 1)) for part in probed]).numpy()
    row, column = np.indices(pixels.shape[1:])
    parts = [
        pd.DataFrame(
            {"timestep": part.timestep, "row": row.ravel(), "column": column.ravel(),
             "value": image.ravel(), "n": len(part.labels)}
        )
        for part, image in zip(probed, pixels, strict=True)
    ]  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    return of_run(table, run, weights)


def at_nearest(table: pd.DataFrame, timestep: int) -> tuple[pd.DataFrame, int]:
    """The rows of the timestep nearest to this one that the table has, and which it is."""
    there = table["timestep"].unique()
    nearest = int(there[np.abs(there - timestep).argmin()])
    return table[table["timestep"] == nearest].reset_index(drop=True), nearest


def of_head(table: pd.DataFrame, block: int, head: int) -> pd.DataFrame:
    """The rows of one block and head."""
    chosen = (table["block"] == block) & (table["head"] == head)
    return table[chosen].reset_index(drop=True)


def one_image(settings: AttentionSettings, label: int) -> AttentionSettings:
    """The first image of one label in place of all images."""
    return settings.model_copy(update={"labels": (label,), "samples": 1})


def maps_of(settings: AttentionSettings) -> MapSettings:
    """Maps of every block and head for what these settings show."""
    return MapSettings(**settings.model_dump())


_SHOWN = (AttentionSettings(), one_image(AttentionSettings(), EXAMPLE))

DEFAULTS = (
    *(Default(attention_maps, maps_of(settings)) for settings in _SHOWN),
    *(Default(probed_images, settings) for settings in _SHOWN),
)
