"""`mpdit ema`."""

from pathlib import Path

import typer

from app.commands.health import ema_lines
from mpdit_core.errors import InvalidConfig
from mpdit_core.runs import Weights, load_run
from mpdit_core.runs.files import write_tensors

SHORTER_ROWS = (
    "This run's weights are not normalized: an average of them has shorter rows, which changes "
    "what the network computes."
)


def average_run(folder: Path, sigma_rel: float, out: Path | None) -> None:
    """Say how the average of this width is put together, and write its weights if asked to."""
    if out is not None and out.suffix != ".safetensors":
        raise InvalidConfig(f"The weights' file was {out}; it should end in .safetensors")
    run = load_run(folder)
    weights = Weights("ema", sigma_rel=round(sigma_rel, 4))
    state = run.state_dict(weights)
    mix = run.reconstruction(sigma_rel)
    last = max(step for _, step, _ in run.snapshots())
    typer.echo(f"{run.name}, EMA of sigma_rel {sigma_rel:g} at step {last}")
    for share, (sigma, step, _) in zip(mix.coefficients, run.snapshots(), strict=True):
        typer.echo(f"  {share:+.6f} x snapshot of sigma_rel {sigma:.3f} at step {step}")
    typer.echo(f"sum of the coefficients {mix.raw_sum:.9f} before they are divided by it, then 1")
    typer.echo(f"fit error {mix.error:.3%} of the norm of the ideal profile")
    for line in ema_lines(run):
        typer.echo(f"health: {line}")
    if not run.config.weight_normalization:
        typer.echo(SHORTER_ROWS)
    if out is not None:
        about = {"kind": "ema", "sigma_rel": str(sigma_rel), "step": str(last), "run": run.name}
        write_tensors(out, state, about)
        typer.echo(f"{out}: {len(state)} tensors")
