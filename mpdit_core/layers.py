"""The formulas of a magnitude-preserving network, one function or layer each.

Sources: [MP] arXiv 2505.19122, [EDM2] arXiv 2312.02696. The magnitude of a vector is its root
mean square. Nothing here has a bias; a constant-one input channel stands in for one.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPS = 1e-4
"""Added to norms before dividing; makes `normalize` not quite idempotent ([EDM2] sec. 2.3)."""

SILU_MAGNITUDE = 0.596
"""Magnitude of silu(x) for x ~ N(0, 1) ([EDM2] eq. 81)."""

STREAM_BALANCE = 0.3
"""Share s of the branch in the sum of residual stream and branch ([EDM2] eq. 88)."""


def normalize(vectors: Tensor) -> Tensor:
    """Scale the last dimension to magnitude 1 (norm sqrt(n)) ([EDM2] eq. 66).

    vectors (..., n); zero vectors stay zero."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (math.sqrt(vectors.shape[-1]) / (norm + NORM_EPS))


def mp_silu(tensor: Tensor) -> Tensor:
    """silu(x) / 0.596: keeps magnitude 1 for standard normal x ([EDM2] eq. 81)."""
    # A product in place: a quotient takes a fifth of a training step of a small model on a CPU.
    return functional.silu(tensor).mul_(1 / SILU_MAGNITUDE)


def mp_sum(first: Tensor, second: Tensor, share: float | Tensor) -> Tensor:
    """((1-s) a + s b) / sqrt((1-s)^2 + s^2), s the share of the second ([EDM2] eq. 88).

    Keeps magnitude 1 if both have it and are uncorrelated. Shapes broadcast."""
    rest = 1 - share
    scale = 1 / (rest**2 + share**2) ** 0.5
    return first * (rest * scale) + second * (share * scale)


def rotate(tokens: Tensor, angle: Tensor) -> Tensor:
    """Turn channels i and j = i + width/2: (x_i cos - x_j sin, x_i sin + x_j cos) [MP].

    tokens (batch, tokens, width); angle (batch, width/2), radians. Token magnitudes stay."""
    near, far = tokens.chunk(2, dim=-1)
    cos, sin = angle.cos().unsqueeze(1), angle.sin().unsqueeze(1)
    return torch.cat([near * cos - far * sin, near * sin + far * cos], dim=-1)


def rotate_adjacent(tokens: Tensor, angle: Tensor) -> Tensor:
    """As `rotate`, but channel 2i is paired with 2i + 1 ([MP] eq. 6 as written)."""
    near, far = tokens[..., 0::2], tokens[..., 1::2]
    cos, sin = angle.cos().unsqueeze(1), angle.sin().unsqueeze(1)
    turned = torch.stack([near * cos - far * sin, near * sin + far * cos], dim=-1)
    return turned.flatten(-2)


class NormalizedWeight(nn.Module):
    """A weight matrix whose rows may be used at unit norm; the rule is fixed at construction.

    `effective()` is computed anew while gradients flow to it, and otherwise once per update of
    the weight: evaluation forwards share it until the weight changes.
    """

    def __init__(self, rows: int, columns: int, *, normalized: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.normalized = normalized
        self._folded: tuple[tuple[int, int], Tensor] | None = None

    def effective(self) -> Tensor:
        """The matrix that the layer uses, (rows, columns)."""
        if not self.normalized:
            return self.weight
        if self.training or (torch.is_grad_enabled() and self.weight.requires_grad):
            return self._compute()
        # In-place updates raise the version, a replaced storage has another address.
        state = (self.weight._version, self.weight.data_ptr())
        folded = self._folded
        if folded is None or folded[0] != state:
            with torch.no_grad():
                folded = (state, self._compute())
            self._folded = folded
        return folded[1]

    def _compute(self) -> Tensor:
        raise NotImplementedError

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_folded": None}  # a copy starts without the folded weight


class Linear(NormalizedWeight):
    """y = W x, or y = W_hat x with rows of unit norm ([EDM2] eq. 47).

    (..., inputs) -> (..., outputs). Starts standard normal if normalized, else Kaiming-uniform;
    `zero_start` (only without normalization) starts at zero.
    """

    def __init__(
        self, inputs: int, outputs: int, *, normalized: bool, zero_start: bool = False
    ) -> None:
        super().__init__(outputs, inputs, normalized=normalized)
        if self.weight.is_meta:
            return  # only shapes are wanted; a draw on meta loads torch's compiler, for seconds
        if normalized:
            nn.init.normal_(self.weight)
        elif zero_start:
            nn.init.zeros_(self.weight)
        else:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, tensor: Tensor) -> Tensor:
        return functional.linear(tensor, self.effective())

    def _compute(self) -> Tensor:
        return normalize(self.weight) / math.sqrt(self.weight.shape[1])


class Embedding(NormalizedWeight):
    """A table of vectors, used as they are or at magnitude 1. (batch,) -> (batch, width)."""

    def __init__(self, rows: int, width: int, *, normalized: bool) -> None:
        super().__init__(rows, width, normalized=normalized)
        if not self.weight.is_meta:  # see Linear
            nn.init.normal_(self.weight)

    def forward(self, index: Tensor) -> Tensor:
        if not self.training and self.normalized:
            return functional.embedding(index, self.effective())
        rows = functional.embedding(index, self.weight)
        return normalize(rows) if self.normalized else rows

    def _compute(self) -> Tensor:
        return normalize(self.weight)


@torch.no_grad()
def force_norms(module: nn.Module) -> None:
    """Set every row of every linear to norm sqrt(n_in), as after each optimizer step [MP config D].

    Weights then cannot grow, and the effective learning rate is the optimizer's alone."""
    for part in module.modules():
        if isinstance(part, NormalizedWeight) and (part.normalized or isinstance(part, Linear)):
            part.weight.copy_(normalize(part.weight))
