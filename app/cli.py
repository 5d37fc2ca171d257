"""The command `mpdit`: what can be asked for. How it is done stands in `app/commands`.

Nothing heavy is imported here, so that every `--help` answers at once.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

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

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHICH",
        help="initial, final, step-2500 (a saved step), or ema-0.100 (average of that sigma_rel). "
        "Default: ema-0.100 where averages are saved, else final.",
    ),
]
SamplerOption = Annotated[
    str, typer.Option(help="ddpm (draws noise in every step), ddim, or dpmpp (good in few steps).")
]
StepsOption = Annotated[int, typer.Option(help="Denoising steps per image.")]


@commands.command()
def dashboard(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDERS]...",
            help="Folders of runs, or runs. Default: the checkpoints that ship with the project.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the address that the browser opens.")] = 8501,
    host: Annotated[
        str,
        typer.Option("--host", "--address", help="Address to listen on; others than localhost let "
                     "everyone in your network look."),
    ] = "localhost",
    browser: Annotated[bool, typer.Option(help="Open the browser at once.")] = True,
) -> None:  # fmt: skip
    """Open the dashboard on your runs in a browser."""
    from app.commands.dashboard import open_dashboard

    open_dashboard(folders or [], port, host, browser)


@commands.command()
def train(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: runs/NAME.", metavar="FOLDER")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="Config of the ladder: A (plain), B (cosine attention), C (normalized weights), "
            "D (forced to stay so), E (everything magnitude-preserving)."
        ),
    ] = "E",
    modulation: Annotated[
        str | None,
        typer.Option(
            metavar="SIGNALS",
            help="What the condition does in the blocks: any of scale, shift, rotation, gate, "
            "joined by commas, or none. The gate then has the form 1 + gate.",
        ),
    ] = None,
    final_modulation: Annotated[
        str | None,
        typer.Option(metavar="SIGNALS", help="The same for the final layer, which has no gate."),
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(metavar="FLAG", help="Switch one flag of the ladder on; repeat for more."),
    ] = None,
    off: Annotated[
        list[str] | None,
        typer.Option(metavar="FLAG", help="Switch one flag of the ladder off; repeat for more."),
    ] = None,
    data: Annotated[
        str,
        typer.Option(help="digits, or a folder of latents with posterior_means.pt, "
                     "posterior_stds.pt, labels.pt, stats.pt."),
    ] = "digits",
    steps: Annotated[
        int | None, typer.Option(help="Optimizer updates. Default: as the shipped runs.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Images per update.")] = 128,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Default: 0.002, or 0.02 where weights are normalized."),
    ] = None,
    warmup: Annotated[int, typer.Option(help="Updates until the learning rate is reached.")] = 66,
    decay_start: Annotated[
        int, typer.Option(help="Update from which it falls as 1/sqrt(update).")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Fixes initial weights, batches and noise.")] = 0,
    depth: Annotated[int, typer.Option(help="Number of blocks.")] = 6,
    width: Annotated[int, typer.Option(help="Channels of a token.")] = 64,
    heads: Annotated[int, typer.Option(help="Attention heads.")] = 4,
    patch: Annotated[int, typer.Option(help="Side of a patch, in pixels or latents.")] = 2,
    save_every: Annotated[
        int, typer.Option(help="Keep raw weights this often; 0: first and last only.")
    ] = 1000,
    ema_every: Annotated[
        int, typer.Option(help="Keep a snapshot of the averages this often.")
    ] = 1000,
) -> None:  # fmt: skip
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
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("grid.png"),
    weights: WeightsOption = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Labels, joined by commas, an image each. Default: every label once."),
    ] = None,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance; 1 is none.")] = 5.0,
    sampler: SamplerOption = "ddpm",
    steps: StepsOption = 250,
    seed: Annotated[
        int, typer.Option(help="Fixes the noise: the same for every run, whatever its config.")
    ] = 0,
) -> None:
    """Draw images from a run into a PNG."""
    from app.commands.sampling import sample_grid

    settings = {"guidance": guidance, "sampler": sampler, "steps": steps, "seed": seed}
    sample_grid(run, weights, labels, settings, out)


@commands.command()
def probe(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Table to write: .parquet, or .csv.")] = Path(
        "probe.parquet"
    ),
    weights: WeightsOption = None,
    points: Annotated[
        str,
        typer.Option(
            help="Probe points, joined by commas; * stands for anything, as in blocks.*.gate."
        ),
    ] = "blocks.*.in,blocks.*.resid",
    timesteps: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Timesteps, joined by commas; 0 is the image, 999 the noisiest. "
            "Default: 21, spread evenly.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Labels, joined by commas. Default: ten of them, and the null label.",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Images per timestep and label.")] = 8,
    source: Annotated[
        str,
        typer.Option(
            help="What the model is shown: noised (held-out images), or trajectory (its own "
            "path from noise to image)."
        ),
    ] = "noised",
    guidance: Annotated[float, typer.Option(help="Guidance of the trajectory; 1 is none.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Fixes the noise: the same for every run.")] = 0,
    channels: Annotated[
        bool, typer.Option("--channels", help="A row per channel in place of token magnitudes.")
    ] = False,
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
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUNS...", help="Runs, or folders of runs.")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH",
            help="initial, final, step-2500, ema-0.100, ema-0.100-step-2500 (that average at an "
            "earlier step); several joined by commas. Default: ema-0.100 where averages are "
            "saved, else final.",
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(help="Images per seed, at most 360, the number held out.")
    ] = 360,
    seeds: Annotated[str, typer.Option(help="Sampling seeds, joined by commas.")] = "0,1,2",
    guidance: Annotated[
        str,
        typer.Option(
            metavar="NUMBERS", help="Classifier-free guidance, joined by commas; 1 is none."
        ),
    ] = "1",
    over: Annotated[
        str | None,
        typer.Option(
            metavar="SWEEP",
            help="Judge a run at many points: steps (every saved one, raw and averaged), guidance "
            "(1 to 5), or sigma (averages of many widths). --sampler dpmpp --steps 20 is quick, "
            "and finds what the dashboard computed.",
        ),
    ] = None,
    sampler: SamplerOption = "ddpm",
    steps: StepsOption = 250,
    out: Annotated[
        Path | None, typer.Option(help="Write every number too: .parquet, or .csv.")
    ] = None,
) -> None:
    """Judge samples of digit runs: are they recognized, like real digits, and new?"""
    from app.commands.evaluating import evaluate_runs

    settings = {"n": images, "seeds": seeds, "sampler": sampler, "steps": steps}
    evaluate_runs(runs, weights, guidance, over, settings, out)


@commands.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUNS...", help="Runs, or folders of runs.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="New or empty folder, or one with an earlier report."),
    ],
    weights: WeightsOption = None,
    pages: Annotated[
        str | None,
        typer.Option(
            metavar="PAGES",
            help="Pages of the dashboard, joined by commas, as their addresses call them: "
            "magnitudes,theory. Default: all.",
        ),
    ] = None,
    quality: Annotated[
        bool,
        typer.Option(
            help="Draw images where none are stored, for quality, samples and interventions: "
            "minutes a run. Without it only those are shown that were drawn before."
        ),
    ] = False,
) -> None:
    """Write what the dashboard shows first into a folder: tables, figures, and an index."""
    from app.commands.report import report_runs

    report_runs(runs, out, weights, pages, quality)


@commands.command()
def ema(
    run: RunFolder,
    sigma_rel: Annotated[
        float,
        typer.Option(help="Width of the average relative to training time, above 0, up to 0.288."),
    ] = 0.15,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the averaged weights to this .safetensors file."),
    ] = None,
) -> None:
    """Put together the average of any width from a run's snapshots, and check its averages."""
    from app.commands.averaging import average_run

    average_run(run, sigma_rel, out)


@commands.command()
def dynamics(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="A run, or any folder of .safetensors or .pt files of one model; the last number "
            "of a file's name is its step.",
        ),
    ],
    normalization: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="What training does to the rows of weights: none, weight (unit norm where they "
            "are used), or forced (norm sqrt(n_in) after every update). Default: as the run says, "
            "none for other folders.",
        ),
    ] = None,
    max_growth: Annotated[
        float,
        typer.Option(help="Alarm when a layer has grown more times than this and still grows."),
    ] = 3.0,
    max_spread: Annotated[
        float,
        typer.Option(
            help="Alarm when the 90th percentile of the layers' effective learning rates is more "
            "times the 10th than this."
        ),
    ] = 5.0,
    top: Annotated[int, typer.Option(help="How many layers of the ranking to print.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(help="Write every layer and step to this table: .parquet, or .csv."),
    ] = None,
) -> None:
    """Rank layers by growth between saved steps, and raise alarms; works for any model."""
    from app.commands.dynamics import show_dynamics

    limits = {"growth": max_growth, "spread": max_spread}
    show_dynamics(folder, normalization, limits, top, out)


@commands.command(name="import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Run directory of the authors' code (map-dit).")
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help="New folder; it must not exist.")
    ],
) -> None:
    """Convert a run of the authors' code into a run folder of this project."""
    from app.commands.reading import convert

    convert(source, destination)


@commands.command()
def inspect(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run of any known layout.")],
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
