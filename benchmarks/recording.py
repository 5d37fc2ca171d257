"""What recording costs: DiT-S/4, batch 8, two threads; a forward pass with and without a recorder.

Both are run in turn, so that a busy machine slows both alike; the numbers are medians of the
ratio of neighbours: in seconds of the clock, and in seconds of the processor, which other
programs disturb less.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from mpdit_core.config import preset
from mpdit_core.model import MPDiT
from mpdit_core.points import visiting
from mpdit_core.recorder import Recorder

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
BATCH, THREADS, REPETITIONS = 8, 2, 15


def seconds(forward: Callable[[], object], recorder: Recorder | None) -> tuple[float, float]:
    """Clock and processor seconds of one pass; what was recorded is merged by the next pass."""
    clock, processor = time.perf_counter(), time.process_time()
    with visiting(recorder) if recorder else nullcontext():
        forward()
    return time.perf_counter() - clock, time.process_time() - processor


def ratios(forward: Callable[[], object], recorder: Recorder, repetitions: int) -> list[float]:
    """Median ratio of recorded to bare, by the clock and by the processor."""
    for warm_up in (None, recorder, recorder):
        seconds(forward, warm_up)
    pairs = [(seconds(forward, None), seconds(forward, recorder)) for _ in range(repetitions)]
    return [statistics.median(after[k] / before[k] for before, after in pairs) for k in (0, 1)]


@torch.no_grad()
def main(repetitions: int = REPETITIONS) -> None:
    """Print one line per config and set of points."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    print("config, points, recorded / bare by the clock, by the processor")
    for name in ("A", "E"):
        config = preset(name, **SIZES)
        model = MPDiT(config).eval().requires_grad_(False)
        x = torch.randn(BATCH, config.channels, config.size, config.size)
        t, y = torch.randint(1000, (BATCH,)), torch.randint(1000, (BATCH,))
        for words, patterns in PATTERNS.items():
            recorder = Recorder(config, patterns)
            clock, processor = ratios(lambda: model(x, t, y), recorder, repetitions)  # noqa: B023
            print(f"{name}, {words} ({len(recorder.points)}): {clock:.3f}, {processor:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REPETITIONS)
