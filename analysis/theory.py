"""Do the claims of the paper [MP] hold on these weights, and are their assumptions met?

Every claim is checked where it speaks: on the tensors of a forward pass of noised held-out images,
block by block. The formulas are in `theory_attention`, `theory_layers`, `theory_stream` and
`theory_modulation`, the claims' words in `theory_claims`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis.defaults import SHOWN, Default
from analysis.probing import NUMBERS_AT_ONCE, ProbeInput, ProbeSettings, probe_inputs
from analysis.question import question
from analysis.theory_attention import (
    attention_measured,
    attention_sums,
    cosine_measured,
    cosine_sums,
)
from analysis.theory_layers import linear_measured, linear_sums, silu_measured, silu_sums
from analysis.theory_modulation import (
    rotation_measured,
    rotation_sums,
    scale_measured,
    scale_sums,
    shift_measured,
    shift_sums,
)
from analysis.theory_stream import gates_measured, gates_sums, sum_measured, sum_sums
from analysis.theory_sums import Measured, Sums, added
from mpdit_core.config import ModelConfig
from mpdit_core.layers import STREAM_BALANCE, rotate_adjacent
from mpdit_core.model import MPDiT
from mpdit_core.modulation import Affine, MagnitudePreservingSum
from mpdit_core.points import visiting
from mpdit_core.probes import BRANCHES
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights

NO_TIMESTEP = -1
"""Timestep of what is checked on weights alone, or over all timesteps."""

COLUMNS = (
    "run", "weights", "claim", "block", "branch", "part", "timestep", "statistic", "value", "n"
)  # fmt: skip

FIVE = (999, 749, 499, 249, 0)

Place = tuple[str, int, str, str]
"""Claim, block (from 0), branch, part."""


class TheorySettings(ProbeSettings):
    """What the model is shown while its claims are checked."""

    timesteps: tuple[int, ...] = FIVE


class Totals:
    """Sums over all samples of one timestep, by place."""

    def __init__(self) -> None:
        self.sums: dict[Place, Sums] = {}

    def add(self, place: Place, more: Sums) -> None:
        """Add one batch's sums."""
        self.sums[place] = added(self.sums.get(place, {}), more)


class Witness:
    """Visitor that keeps the tensors of one branch, and when it is complete adds them to `totals`.

    examine: called with (branch module, tensors by point word, stream before, stream at the start),
    it yields (claim, part, sums)."""

    def __init__(self, model: MPDiT, examine: Callable[..., Iterator[tuple[str, str, Sums]]]):
        self.parts: dict[str, Any] = {
            f"blocks.{index}.{kind}": getattr(block, kind)
            for index, block in enumerate(model.blocks)
            for kind in BRANCHES
        }
        self.examine, self.totals = examine, Totals()
        self.seen: dict[str, Tensor] = {}
        self.start = self.stream = torch.empty(0)

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        self.seen = {}

    def wants(self, name: str) -> bool:
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        place, _, word = name.rpartition(".")
        if name == "embed":
            self.start = self.stream = tensor.double()
        elif place in self.parts:
            self.seen[word] = tensor.double()
            if word == "resid":
                self._examine(place)
        return tensor

    def _examine(self, place: str) -> None:
        _, block, branch = place.split(".")
        found = self.examine(self.parts[place], self.seen, self.stream, self.start)
        for claim, part, sums in found:
            self.totals.add((claim, int(block), branch, part), sums)
        self.stream, self.seen = self.seen["resid"], {}


@question(version=2)
@torch.no_grad()
def theory(run: Run, weights: Weights | str, settings: TheorySettings) -> pd.DataFrame:
    """Claim against measurement, on the tensors of a forward pass.

    One row per (claim, block, branch, part, timestep, statistic). Columns: run, weights, claim (see
    `theory_claims.CLAIMS`: attention, rotation, linear, sum, silu, modulation, cosine, gates),
    block (from 0), branch (attn, mlp), part (of linear: qkv, out, up, down; of modulation: scale,
    shift; else empty), timestep, statistic, value, n (tokens; of cosine: logits). Statistics of
    every claim: claimed, measured (magnitudes, or factors on one), departure (how far apart: the
    larger over the smaller minus 1; of a bound: by how much it is exceeded; of rotation: largest
    relative error of a token or pair). The others measure the assumption, see `..._measured`.

    Raises BadData where held-out images are asked for and are not at hand."""
    model = run.model(weights)
    rows = []
    for part, witness in watched(run, model, settings, examined):
        for (claim, block, branch, piece), sums in witness.totals.sums.items():
            found = measured(claim, piece, sums, run.config, 2 * block + 1 + (branch == "mlp"))
            place = (run.name, str(weights), claim, block, branch, piece, part.timestep)
            rows += rows_of(place, found)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def watched(
    run: Run,
    model: MPDiT,
    settings: ProbeSettings,
    examine: Callable[..., Iterator[tuple[str, str, Sums]]],
) -> Iterator[tuple[ProbeInput, Witness]]:
    """Pass the inputs of one timestep after the other through the model; what was seen of each."""
    config = model.config
    size = max(1, NUMBERS_AT_ONCE // (config.tokens * config.mlp_ratio * config.width))
    for part in track(probe_inputs(run, model, settings), "Checking claims"):
        witness = Witness(model, examine)
        for noisy, labels in zip(part.noisy.split(size), part.labels.split(size), strict=True):
            with visiting(witness):
                model(noisy, torch.full_like(labels, part.timestep), labels)
        yield part, witness


def rows_of(place: tuple[Any, ...], found: Measured) -> list[tuple[Any, ...]]:
    """One row per statistic; place: the columns up to the timestep."""
    n = int(found["n"])
    return [(*place, name, value, n) for name, value in found.items() if name != "n"]


def examined(
    branch: Any, seen: dict[str, Tensor], stream: Tensor, start: Tensor
) -> Iterator[tuple[str, str, Sums]]:
    """Claim, part and sums of everything that one branch can tell."""
    core = branch.core
    if "q" in seen:
        q, k, v = (seen[word] for word in "qkv")
        yield "attention", "", attention_sums(q, k, v)
        yield "cosine", "", cosine_sums(q, k)
        mixed = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
        yield "linear", "qkv", linear_sums(seen["in"], _used(core.qkv))
        yield "linear", "out", linear_sums(mixed.transpose(1, 2).flatten(2), _used(core.out))
    else:
        before = preactivations(branch, seen)
        yield "silu", "", silu_sums(before, seen["act"])
        yield "linear", "up", linear_sums(seen["in"], _used(core.up))
        yield "linear", "down", linear_sums(seen["act"], _used(core.down))
    yield from _modulated(branch, seen, stream)
    yield "sum", "", sum_sums(stream, seen["gated"], seen["resid"])
    yield "gates", "", gates_sums(start, stream, seen["resid"], seen.get("gate"))


def preactivations(branch: Any, seen: dict[str, Tensor]) -> Tensor:
    """What enters the nonlinearity of an MLP, (batch, tokens, hidden)."""
    return seen["in"] @ _used(branch.core.up).T


def _used(linear: Any) -> Tensor:
    return linear.effective().double()


def _modulated(
    branch: Any, seen: dict[str, Tensor], stream: Tensor
) -> Iterator[tuple[str, str, Sums]]:
    """Scale, shift and rotation one after the other, from the normed stream on."""
    tokens, modulate = branch.norm(stream), branch.modulate
    keep, join, plus = _weights_of(modulate)
    if "scale" in seen:
        factor = plus + seen["scale"]
        yield "modulation", "scale", scale_sums(tokens, factor)
        tokens = tokens * factor[:, None, :]
    if "shift" in seen:
        tokens, shift = keep * tokens, join * seen["shift"]
        yield "modulation", "shift", shift_sums(tokens, shift)
        tokens = tokens + shift[:, None, :]
    if "angle" in seen:
        pairing = "adjacent" if modulate.turn is rotate_adjacent else "half"
        yield "rotation", "", rotation_sums(tokens, seen["in"], pairing)


def _weights_of(modulate: Affine) -> tuple[float, float, float]:
    """Factors of tokens and of the shift in their sum, and what is added to the scale."""
    if not isinstance(modulate, MagnitudePreservingSum):
        return 1.0, 1.0, 1.0
    share = float(modulate.share)
    length = ((1 - share) ** 2 + share**2) ** 0.5
    return (1 - share) / length, share / length, 0.0


def measured(claim: str, part: str, sums: Sums, config: ModelConfig, branches: int) -> Measured:
    """Statistics of one place; branches: how many the stream has passed, this one among them."""
    if claim == "sum":
        return sum_measured(sums, STREAM_BALANCE, config.mp_residual)
    if claim == "gates":
        return gates_measured(sums, STREAM_BALANCE, config.mp_residual, branches)
    if claim == "silu":
        return silu_measured(sums, config.mp_silu)
    return _PLAIN[claim, part if claim == "modulation" else ""](sums)


_PLAIN: dict[tuple[str, str], Callable[[Sums], Measured]] = {
    ("attention", ""): attention_measured,
    ("cosine", ""): cosine_measured,
    ("linear", ""): linear_measured,
    ("rotation", ""): rotation_measured,
    ("modulation", "scale"): scale_measured,
    ("modulation", "shift"): shift_measured,
}

DEFAULTS = (Default(theory, TheorySettings(), weights=("initial", SHOWN)),)
