"""What does one side of a comparison do, image by image? The statistics of the other pages at once.

Each side is asked by itself; `analysis.compare_difference` pairs two such tables. Both sides are
shown the same held-out images with the same noise, so a pair is one image seen twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analysis.attention import of_images
from analysis.attention_pass import AttentionHeads, patch_distances
from analysis.channels_pass import reduce_tokens
from analysis.defaults import Default
from analysis.modulation_change import TOGETHER, StepMagnitudes, magnitude
from analysis.probing import ProbeSettings, probe_inputs, run_through
from analysis.question import question
from analysis.tables import of_run
from mpdit_core.model import MPDiT
from mpdit_core.points import visiting
from mpdit_core.probes import points
from mpdit_core.runs import Run, Weights


@dataclass(frozen=True)
class Statistic:
    """words: its name; family: what it is about; of_label: it is the same for all images of a
    label, so that there are as many pairs as labels; part: a share, whose difference is in
    percentage points; angle: in radians, said in degrees."""

    words: str
    family: str
    of_label: bool = False
    part: bool = False
    angle: bool = False


STATISTICS = {
    "stream": Statistic("stream magnitude", "tokens"),
    "input": Statistic("input magnitude", "tokens"),
    "output": Statistic("output magnitude, before the gate", "tokens"),
    "written": Statistic("output magnitude, after the gate", "tokens"),
    "scale": Statistic("scale magnitude", "modulation", of_label=True),
    "shift": Statistic("shift magnitude", "modulation", of_label=True),
    "gate": Statistic("gate magnitude", "modulation", of_label=True),
    "angle": Statistic("mean absolute angle", "modulation", of_label=True, angle=True),
    "change": Statistic("magnitude after / before modulation", "modulation"),
    "entropy": Statistic("attention entropy", "attention"),
    "logit": Statistic("typical attention logit", "attention"),
    "logit_largest": Statistic("largest attention logit", "attention"),
    "channel": Statistic("top channel's share of the stream", "channels", part=True),
    "kurtosis": Statistic("kurtosis over the stream's channels", "channels"),
    "token_mean": Statistic("share of the output that all tokens get", "channels", part=True),
}
"""In the order in which pages list them."""

FAMILIES = ("tokens", "modulation", "attention", "channels")
_TOKENS = {"resid": "stream", "in": "input", "out": "output", "gated": "written"}
_SIGNALS = ("scale", "shift", "gate")


class CompareSettings(ProbeSettings):
    """Held-out images noised to five timesteps; three images of every label and the null label."""

    timesteps: tuple[int, ...] = (999, 749, 499, 249, 0)
    samples: int = Field(default=3, ge=1)


@question(version=1)
def compared_statistics(
    run: Run, weights: Weights | str, settings: CompareSettings
) -> pd.DataFrame:
    """What is every statistic, image by image? A row per (block, branch, statistic, t, sample).

    Columns: run, weights, block (from 0), branch (attn, mlp), statistic (a key of STATISTICS:
    magnitudes are root mean squares over channels and means over tokens; `change` is what enters
    the branch over the normed stream; entropy in nats and logits are over all heads of the block;
    `channel` is the share of the square in the image's largest channel; `token_mean` the share of
    the square that is the mean over tokens), timestep, sample (from 0; a pair is known by it),
    label, seen (a fingerprint of the noisy image), value. Statistics that depend on the label
    alone have one row a label, its first sample. Raises BadData without held-out images."""
    model, parts = run.model(weights), []

    def look(noisy: Tensor, timesteps: Tensor, labels: Tensor) -> None:
        parts.append(_seen(model, noisy, timesteps, labels))

    with torch.no_grad():
        probed = probe_inputs(run, model, settings)
        run_through(model, probed, look)
    return of_run(_numbered(parts, len(probed[0].labels)), run, weights)


DEFAULTS = (Default(compared_statistics, CompareSettings()),)


def _seen(model: MPDiT, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> pd.DataFrame:
    """All statistics of a batch; sample: the image's place in it."""
    look = _Look(model)
    with visiting(look):
        model(noisy, timesteps, labels)
    common = {"timestep": timesteps.numpy(), "sample": np.arange(len(labels)),
              "label": labels.numpy(), "seen": fingerprint(noisy)}  # fmt: skip
    tables = [
        pd.DataFrame({"block": block, "branch": branch, "statistic": name, **common,
                      "value": np.asarray(values, dtype=np.float32)})
        for (block, branch, name), values in look.values().items()
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def fingerprint(noisy: Tensor) -> np.ndarray:
    """A number per image that tells it from others, (batch,): a fixed projection of its pixels.

    Compared with a tolerance, because another machine rounds differently."""
    flat = noisy.double().flatten(1)
    waves = torch.cos(torch.arange(flat.shape[1], dtype=torch.float64) ** 2)
    return (flat @ waves).numpy().astype(np.float32)


def _numbered(batches: list[pd.DataFrame], images: int) -> pd.DataFrame:
    """All batches; sample is the image's number among those of its timestep, `images` each.

    Small types, and statistics of a label once per label."""
    before, parts = 0, []
    for batch in batches:
        parts.append(batch.assign(sample=(batch["sample"] + before) % images))
        before += int(batch["sample"].max()) + 1
    table = pd.concat(parts, ignore_index=True)
    of_label = [name for name, statistic in STATISTICS.items() if statistic.of_label]
    first = table.groupby("label")["sample"].transform("min")
    kept = ~table["statistic"].isin(of_label) | (table["sample"] == first)
    small = {name: np.int16 for name in ("block", "timestep", "sample")} | {"label": np.int32}
    return table[kept].astype(small).reset_index(drop=True)


class _Look:
    """A visitor of one batch: (block, branch, statistic) -> a value per image."""

    def __init__(self, model: MPDiT) -> None:
        config = model.config
        self.config = config
        self.places = {point.name: point for point in points(config)}
        self.distances = patch_distances(config.size // config.patch)
        self.steps = StepMagnitudes(model)
        self.heads = AttentionHeads(self._head, range(config.depth), range(config.heads))
        self.found: dict[tuple[int, str, str], np.ndarray] = {}

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        self.steps.begin(timesteps, labels)
        self.heads.begin(timesteps, labels)
        self.found = {}

    def wants(self, name: str) -> bool:
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        self.steps.visit(name, tensor)
        self.heads.visit(name, tensor)
        point = self.places[name]
        if point.block is not None:
            for statistic, values in _measured(point.word, tensor):
                self.found[point.block, point.branch, statistic] = values
        return tensor

    def _head(self, block: int, head: int, logits: Tensor, timesteps: Tensor) -> None:
        entropy, _, largest, square = of_images(logits, self.distances).unbind(dim=1)
        share = 1 / self.config.heads
        for name, values in (("entropy", entropy * share), ("logit", square * share)):
            self.found[block, "attn", name] = (
                self.found.get((block, "attn", name), 0.0) + values.numpy()
            )
        before = self.found.get((block, "attn", "logit_largest"), -np.inf)
        self.found[block, "attn", "logit_largest"] = np.maximum(before, largest.numpy())

    def values(self) -> dict[tuple[int, str, str], np.ndarray]:
        """All statistics of the pass that is over."""
        changes = {
            (int(place.split(".")[1]), place.split(".")[2], "change"): after / before
            for (place, step), (before, after) in self.steps.kept.items()
            if step == TOGETHER and place.startswith("blocks.")
        }
        logits = {key: np.sqrt(values) for key, values in self.found.items() if key[2] == "logit"}
        return self.found | logits | changes


def _measured(word: str, tensor: Tensor) -> Iterator[tuple[str, np.ndarray]]:
    """(statistic, value per image) of a tensor inside a block; word: the point's last."""
    if word in _SIGNALS:
        yield word, tensor.double().square().mean(dim=-1).sqrt().numpy()
    elif word == "angle":
        yield "angle", tensor.double().abs().mean(dim=-1).numpy()
    elif word in _TOKENS:
        yield _TOKENS[word], magnitude(tensor)
    if word in ("resid", "out"):
        sums = reduce_tokens(tensor.double())
        squares = sums.squares.sum(dim=1)
        if word == "out":
            yield "token_mean", (sums.of_mean.sum(dim=1) / squares).numpy()
        else:
            yield "channel", (sums.squares.amax(dim=1) / squares).numpy()
            yield "kurtosis", sums.kurtosis.numpy()
