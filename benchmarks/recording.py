"""What recording costs: DiT-S/4, batch 8, two threads; a forward pass with and without a recorder.

Each pass is run in turn with the others, so that a busy machine slows all alike; the numbers are
medians of the ratio to the bare passes beside it: in seconds of the clock, and in seconds of the
processor, which other programs disturb less. What waits is merged within the passes that are
timed, in as many as it takes to fill what may wait. `sums alone` is the floor of this design:
the same reductions of the same tensors into buffers that are always the same, without checks,
cells or merging. One timestep for the whole batch is how the analyses probe; eight are harder.

On two idle cores (AMD EPYC, AVX2): recorded 1.19 to 1.28 at all 216 points, 1.14 to 1.16 at the 96
of stream and branches, 1.05 to 1.07 at the 24 of the stream; floor 1.08 to 1.21, 1.10 to 1.13,
1.02 to 1.06. A single pass over each tensor, compiled by numba and nothing else done, costs 1.08 to
1.09 at all points: a forward pass of this size leaves 1.05 no room there, whatever reduces it.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from mpdit_core.config import preset
from mpdit_core.model import MPDiT
from mpdit_core.points import Visitor, visiting
from mpdit_core.probes import PointInfo
from mpdit_core.recorder import WAITING, Recorder

SIZES = {
    "depth": 12, "width": 384, "heads": 6, "patch": 4, "size": 32, "channels": 4, "classes": 1000
}  # fmt: skip
PATTERNS = {
    "every point of the blocks": ["blocks.*"],
    "every stream and branch point": [
        f"blocks.*.{word}" for word in ("in", "out", "gated", "resid")
    ],
    "the stream": ["blocks.*.resid"],
}
BATCH, THREADS, REPETITIONS = 8, 2, 3
PASSES = WAITING // BATCH
"""Passes in a repetition: one merge falls in each."""


class SumsAlone:
    """The recorder's reductions and nothing else: what no bookkeeping could undercut."""

    def __init__(self, points: Sequence[PointInfo]) -> None:
        self.points = {point.name: point for point in points}
        shapes = {(point.vectors, point.features) for point in points}
        self.buffers = {shape: _buffers(*shape) for shape in shapes}

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        """Nothing to note."""

    def wants(self, name: str) -> bool:
        """False: no point on request is measured."""
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        """Sum the tensor; returns it unchanged."""
        point = self.points.get(name)
        if point is not None and point.vectors > 1:
            tokens = tensor.transpose(1, 2) if point.kind == "heads" else tensor
            self._sum(tokens, point)
        return tensor

    def _sum(self, tokens: Tensor, point: PointInfo) -> None:
        squared, over_features, over_vectors, squares, sums = self.buffers[
            point.vectors, point.features
        ]
        torch.mul(tokens, tokens, out=squared.view(tokens.shape))
        torch.mv(squared.view(-1, point.features), over_features, out=squares)
        torch.amax(squared, 1, True, out=sums)
        if point.has_channels:
            torch.bmm(over_vectors, squared, out=sums)
            torch.bmm(over_vectors, tokens, out=sums)


def _buffers(vectors: int, features: int) -> list[Tensor]:
    return [
        torch.empty(BATCH, vectors, features),
        torch.ones(features),
        torch.ones(BATCH, 1, vectors),
        torch.empty(BATCH * vectors),
        torch.empty(BATCH, 1, features),
    ]


def seconds(forward: Callable[[], object], visitor: Visitor | None) -> list[float]:
    """Clock and processor seconds of one pass."""
    clock, processor = time.perf_counter(), time.process_time()
    with visiting(visitor) if visitor else nullcontext():
        forward()
    return [time.perf_counter() - clock, time.process_time() - processor]


def ratios(
    forward: Callable[[], object], visitors: Sequence[Visitor], repetitions: int
) -> list[list[float]]:
    """For each visitor the ratio to the bare pass, by the clock and by the processor.

    A ratio is one of `PASSES` passes together; the median of the repetitions is returned."""
    for warm_up in (None, *visitors):
        for _ in range(2):
            seconds(forward, warm_up)
    turns = [_turn(forward, visitors) for _ in range(repetitions)]
    return [
        [statistics.median(turn[1 + v][k] / turn[0][k] for turn in turns) for k in (0, 1)]
        for v in range(len(visitors))
    ]


def _turn(forward: Callable[[], object], visitors: Sequence[Visitor]) -> list[list[float]]:
    total = [[0.0, 0.0] for _ in range(1 + len(visitors))]
    for _ in range(PASSES):
        for so_far, visitor in zip(total, (None, *visitors), strict=True):
            for k, more in enumerate(seconds(forward, visitor)):
                so_far[k] += more
    return total


@torch.no_grad()
def main(repetitions: int = REPETITIONS) -> None:
    """Print one line per config and set of points."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    print("each: recorded / bare by the clock, by the processor")
    for name in ("A", "E"):
        config = preset(name, **SIZES)
        model = MPDiT(config).eval().requires_grad_(False)
        x, y = torch.randn(BATCH, config.channels, config.size, config.size), torch.arange(BATCH)
        eight, one = torch.randint(1000, (BATCH,)), torch.full((BATCH,), 500)
        for words, patterns in PATTERNS.items():
            _report(f"{name}, {words}, 8 timesteps", model, (x, eight, y), patterns, repetitions)
        words, patterns = next(iter(PATTERNS.items()))
        _report(f"{name}, {words}, 1 timestep", model, (x, one, y), patterns, repetitions)


def _report(
    words: str, model: MPDiT, inputs: Sequence[Tensor], patterns: list[str], repetitions: int
) -> None:
    recorder = Recorder(model.config, patterns)
    floor = SumsAlone(recorder.points)
    found = ratios(lambda: model(*inputs), [recorder, floor], repetitions)
    recorded, alone = (", ".join(f"{value:.3f}" for value in pair) for pair in found)
    print(f"{words} ({len(recorder.points)}): {recorded}; sums alone {alone}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REPETITIONS)
