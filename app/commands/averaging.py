"""`mpdit ema`."""

from collections.abc import Iterator
from pathlib import Path

import typer

from app.commands.choosing import new_file
from app.commands.health import ema_lines
from mpdit_core.runs import Run, Weights, load_run
from mpdit_core.runs.files import write_tensors
from mpdit_core.runs.weights import sigma_text

SHORTER_ROWS = (
    "This run's weights are not normalized: an average of them has shorter rows, which changes "
    "what the network computes."
)


def average_run(folder: Path, sigma_rel: float, out: Path | None) -> None:
    """Say how the average of this width is put together, and write its weights if asked to."""
    if out is not None:
        new_file(out, "average", ".safetensors")
    run = load_run(folder)
    weights = Weights("ema", sigma_rel=sigma_rel)
    state = run.state_dict(weights)
    width = sigma_text(weights.sigma_rel or 0)
    last = max(step for _, step, _ in run.snapshots())
    typer.echo(f"{run.name}, EMA of sigma_rel {width} at step {last}")
    for line in _origin(run, weights):
        typer.echo(line)
    for line in ema_lines(run):
        typer.echo(f"health: {line}")
    if not run.config.weight_normalization:
        typer.echo(SHORTER_ROWS)
    if out is not None:
        about = {"kind": "ema", "sigma_rel": width, "step": str(last), "run": run.name}
        write_tensors(out, state, about)
        typer.echo(f"{out}: {len(state)} tensors")


def _origin(run: Run, weights: Weights) -> Iterator[str]:
    """Where the weights of an average come from: one snapshot, or a mix of all."""
    if tracked := run.tracked(weights):
        yield f"tracked, not mixed: {tracked[2].relative_to(run.folder)}"
        return
    mix = run.reconstruction(weights.sigma_rel or 0)
    for share, (sigma, step, _) in zip(mix.coefficients, run.snapshots(), strict=True):
        yield f"  {share:+.6f} x snapshot of sigma_rel {sigma_text(sigma)} at step {step}"
    yield f"sum of the coefficients {mix.raw_sum:.9f} before they are divided by it, then 1"
    yield f"fit error {mix.error:.3%} of the norm of the ideal profile"
