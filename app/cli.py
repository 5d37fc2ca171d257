"""The command `mpdit`: what can be asked for. How it is done stands in `app/commands`.

Nothing heavy is imported here, so that every `--help` answers at once.
"""

import os
import sys
import traceback
from pathlib import Path

import typer

from app import options
from mpdit_core.errors import MPDiTError

TRACEBACK = "MPDIT_TRACEBACK"

commands = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train magnitude-preserving diffusion transformers, and look inside their checkpoints. "
    "A run is a folder: what was trained, its weights, its averages.",
)


@commands.command()
def dashboard(
    folders: options.Folders = None,
    port: options.Port = 8501,
    host: options.Host = "localhost",
    browser: options.Browser = True,
) -> None:
    """Open the dashboard on your runs in a browser."""
    from app.commands.dashboard import open_dashboard

    open_dashboard(folders or [], port, host, browser)


@commands.command()
def train(
    out: options.RunOut = None,
    preset: options.Preset = "E",
    modulation: options.Modulation = None,
    final_modulation: options.FinalModulation = None,
    on: options.On = None,
    off: options.Off = None,
    data: options.Data = "digits",
    steps: options.Updates = None,
    batch: options.Batch = 128,
    learning_rate: options.LearningRate = None,
    warmup: options.Warmup = 66,
    decay_start: options.DecayStart = 1000,
    seed: options.TrainingSeed = 0,
    depth: options.Depth = 6,
    width: options.Width = 64,
    heads: options.Heads = 4,
    patch: options.Patch = 2,
    save_every: options.SaveEvery = 1000,
    ema_every: options.EmaEvery = 1000,
) -> None:
    """Train a run. Killed at any moment, the same command goes on where it was."""
    from app.commands.training import Wanted, train_run

    train_run(
        Wanted(
            out=out,
            preset=preset,
            modulation=modulation,
            final_modulation=final_modulation,
            on=tuple(on or ()),
            off=tuple(off or ()),
            data=data,
            sizes={"depth": depth, "width": width, "heads": heads, "patch": patch},
            steps=steps,
            learning_rate=learning_rate,
            training={
                "batch": batch,
                "warmup": warmup,
                "decay_start": decay_start,
                "seed": seed,
                "save_every": save_every,
                "ema_every": ema_every,
            },
        )
    )


@commands.command()
def sample(
    run: options.RunFolder,
    out: options.PictureOut = Path("grid.png"),
    weights: options.WeightsOption = None,
    labels: options.SampledLabels = None,
    guidance: options.Guidance = 5.0,
    sampler: options.SamplerOption = "ddpm",
    steps: options.StepsOption = 250,
    seed: options.Seed = 0,
) -> None:
    """Draw images from a run into a PNG."""
    from app.commands.sampling import sample_grid

    settings = {"guidance": guidance, "sampler": sampler, "steps": steps, "seed": seed}
    sample_grid(run, weights, labels, settings, out)


@commands.command()
def probe(
    run: options.RunFolder,
    out: options.TableOut = Path("probe.parquet"),
    weights: options.WeightsOption = None,
    points: options.Points = "blocks.*.in,blocks.*.resid",
    timesteps: options.Timesteps = None,
    labels: options.ProbedLabels = None,
    samples: options.Samples = 8,
    source: options.Source = "noised",
    guidance: options.ProbeGuidance = 1.0,
    seed: options.ProbeSeed = 0,
    channels: options.Channels = False,
) -> None:
    """Record magnitudes inside a run, per point, timestep and label, into a table."""
    from app.commands.choosing import numbers
    from app.commands.probing import probe_run

    settings = {
        "timesteps": None if timesteps is None else numbers(timesteps, "timesteps"),
        "labels": None if labels is None else numbers(labels, "labels"),
        "samples": samples,
        "source": source,
        "guidance": guidance,
        "seed": seed,
    }
    probe_run(run, weights, points, settings, channels, out)


@commands.command()
def evaluate(
    runs: options.Runs,
    weights: options.WeightsList = None,
    images: options.Images = 360,
    seeds: options.Seeds = "0,1,2",
    guidance: options.Guidances = "1",
    over: options.Over = None,
    sampler: options.SamplerOption = "ddpm",
    steps: options.StepsOption = 250,
    out: options.MarksOut = None,
) -> None:
    """Judge samples of digit runs: are they recognized, like real digits, and new?"""
    from app.commands.evaluating import evaluate_runs

    settings = {"n": images, "seeds": seeds, "sampler": sampler, "steps": steps}
    evaluate_runs(runs, weights, guidance, over, settings, out)


@commands.command()
def report(
    runs: options.Runs,
    out: options.ReportOut,
    weights: options.WeightsOption = None,
    pages: options.Pages = None,
    quality: options.Quality = False,
) -> None:
    """Write what the dashboard shows first into a folder: tables, figures, and an index."""
    from app.commands.report import report_runs

    report_runs(runs, out, weights, pages, quality)


@commands.command()
def ema(
    run: options.RunFolder,
    sigma_rel: options.SigmaRel = 0.15,
    out: options.AverageOut = None,
) -> None:
    """Put together the average of any width from a run's snapshots, and check its averages."""
    from app.commands.averaging import average_run

    average_run(run, sigma_rel, out)


@commands.command()
def dynamics(
    folder: options.Folder,
    normalization: options.Normalization = None,
    max_growth: options.MaxGrowth = 3.0,
    max_spread: options.MaxSpread = 5.0,
    top: options.Top = 10,
    out: options.LayersOut = None,
) -> None:
    """Rank layers by growth between saved steps, and raise alarms; works for any model."""
    from app.commands.dynamics import show_dynamics

    limits = {"growth": max_growth, "spread": max_spread}
    show_dynamics(folder, normalization, limits, top, out)


@commands.command(name="import")
def import_(
    source: options.ImportSource,
    destination: options.Destination,
) -> None:
    """Convert a run of the authors' code into a run folder of this project."""
    from app.commands.reading import convert

    convert(source, destination)


@commands.command()
def inspect(
    run: options.Run,
) -> None:
    """Print what a run is: layout, config, parameters, sha256 of each checkpoint, EMA health."""
    from app.commands.reading import show

    show(run)


def main() -> None:
    """The command line. An error is one sentence on stderr and exit code 1."""
    try:
        commands(prog_name="mpdit")
    except Exception as error:
        print(f"Error: {_one_sentence(error)}", file=sys.stderr)
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        sys.exit(1)


def _one_sentence(error: Exception) -> str:
    """Errors of this project explain themselves; others are named, with the way to see more."""
    if isinstance(error, MPDiTError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'The system'}: {error.strerror}"
    said = " ".join(str(error).split())[:200]
    return (
        f"Something unexpected happened ({type(error).__name__}: {said}); "
        f"{TRACEBACK}=1 before the command shows where"
    )
