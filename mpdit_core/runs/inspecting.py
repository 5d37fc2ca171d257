"""What a run is, in words: layout, configuration, weights with their sha256, health of its EMA."""

import math
from collections.abc import Iterator

from mpdit_core.config import ModelConfig
from mpdit_core.ema_health import examine
from mpdit_core.errors import UnreadableRun
from mpdit_core.runs.files import sha256_of
from mpdit_core.runs.run import Run
from mpdit_core.runs.shapes import expected_shapes, parameter_count, parameter_shapes
from mpdit_core.runs.weights import sigma_text


def describe(run: Run) -> Iterator[str]:
    """Lines of text about a run; reads all of its files once for their sha256.

    The health of its averages is told by `health_lines`."""
    yield from (f"run        {run.name}", f"layout     {run.layout}", f"folder     {run.folder}")
    yield f"status     {run.status}"
    yield from (f"{key:<10} {value}" for key, value in run.notes.items() if isinstance(value, str))
    yield from _settings("config", run.config.model_dump(mode="json"))
    yield from _settings("data", run.data.model_dump(mode="json"))
    if run.training is not None:
        yield from _settings("training", run.training.model_dump(mode="json"))
    yield from _parameters(run.config)
    yield from _checkpoints(run)


def _settings(title: str, values: dict[str, object]) -> Iterator[str]:
    yield from ("", title)
    width = max(len(name) for name in values)
    for name, value in values.items():
        text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        yield f"  {name:<{width}}  {text}"


def _parameters(config: ModelConfig) -> Iterator[str]:
    trained = parameter_shapes(config)
    yield from ("", f"parameters  {parameter_count(config):,} in {len(trained)} tensors")
    width = max(map(len, expected_shapes(config)))
    for name, shape in expected_shapes(config).items():
        size = " x ".join(map(str, shape)) or "scalar"
        note = "" if name in trained else "  buffer, not trained"
        yield f"  {name:<{width}}  {size:>16}  {math.prod(shape):>12,}{note}"


def _checkpoints(run: Run) -> Iterator[str]:
    yield from ("", "checkpoints (sha256 of the file's bytes)")
    for step, file in sorted(run.raw_files.items()):
        yield f"  step {step:>9}  {sha256_of(file)}  {file.relative_to(run.folder)}"
    for sigma, step, file in run.snapshots():
        yield f"  EMA {sigma_text(sigma)} at step {step:>9}  {sha256_of(file)}  " + str(
            file.relative_to(run.folder)
        )


def health_lines(run: Run) -> list[str]:
    """One sentence for each tracked EMA: is it an average, or a near-copy of the raw weights?"""
    if not run.ema_files:
        return ["no EMA snapshots are saved"]
    try:
        lines = [str(health) for health in examine(run)]
    except UnreadableRun as error:
        lines = [str(error)]
    if run.ema_trap is not None:
        lines.append(f"not offered as averages: {run.ema_trap}")
    return lines or ["cannot be checked: no raw weights are saved at the step of a snapshot"]
