"""The options of `mpdit`, one name each, with the help a newcomer reads."""

from pathlib import Path
from typing import Annotated

import typer

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

Folders = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FOLDERS]...",
        help="Folders of runs, or runs. Default: the checkpoints that ship with the project.",
    ),
]
Port = Annotated[int, typer.Option(help="Port of the address that the browser opens.")]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        "--address",
        help="Address to listen on; others than localhost let everyone in your network look.",
    ),
]
Browser = Annotated[bool, typer.Option(help="Open the browser at once.")]
RunOut = Annotated[
    Path | None, typer.Option(help="Folder of the run. Default: runs/NAME.", metavar="FOLDER")
]
Preset = Annotated[
    str,
    typer.Option(
        help="Config of the ladder: A (plain), B (cosine attention), C (normalized weights), "
        "D (forced to stay so), E (everything magnitude-preserving)."
    ),
]
Modulation = Annotated[
    str | None,
    typer.Option(
        metavar="SIGNALS",
        help="What the condition does in the blocks: any of scale, shift, rotation, gate, "
        "joined by commas, or none. The gate then has the form 1 + gate.",
    ),
]
FinalModulation = Annotated[
    str | None,
    typer.Option(metavar="SIGNALS", help="The same for the final layer, which has no gate."),
]
On = Annotated[
    list[str] | None,
    typer.Option(metavar="FLAG", help="Switch one flag of the ladder on; repeat for more."),
]
Off = Annotated[
    list[str] | None,
    typer.Option(metavar="FLAG", help="Switch one flag of the ladder off; repeat for more."),
]
Data = Annotated[
    str,
    typer.Option(
        help="digits, or a folder of latents with posterior_means.pt, "
        "posterior_stds.pt, labels.pt, stats.pt."
    ),
]
Updates = Annotated[
    int | None, typer.Option(help="Optimizer updates. Default: as the shipped runs.")
]
Batch = Annotated[int, typer.Option(help="Images per update.")]
LearningRate = Annotated[
    float | None,
    typer.Option(help="Default: 0.002, or 0.02 where weights are normalized."),
]
Warmup = Annotated[int, typer.Option(help="Updates until the learning rate is reached.")]
DecayStart = Annotated[int, typer.Option(help="Update from which it falls as 1/sqrt(update).")]
TrainingSeed = Annotated[int, typer.Option(help="Fixes initial weights, batches and noise.")]
Depth = Annotated[int, typer.Option(help="Number of blocks.")]
Width = Annotated[int, typer.Option(help="Channels of a token.")]
Heads = Annotated[int, typer.Option(help="Attention heads.")]
Patch = Annotated[int, typer.Option(help="Side of a patch, in pixels or latents.")]
SaveEvery = Annotated[
    int, typer.Option(help="Keep raw weights this often; 0: first and last only.")
]
EmaEvery = Annotated[int, typer.Option(help="Keep a snapshot of the averages this often.")]
PictureOut = Annotated[Path, typer.Option(help="PNG file to write.")]
SampledLabels = Annotated[
    str | None,
    typer.Option(help="Labels, joined by commas, an image each. Default: every label once."),
]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance; 1 is none.")]
Seed = Annotated[
    int, typer.Option(help="Fixes the noise: the same for every run, whatever its config.")
]
TableOut = Annotated[Path, typer.Option(help="Table to write: .parquet, or .csv.")]
Points = Annotated[
    str,
    typer.Option(
        help="Probe points, joined by commas; * stands for anything, as in blocks.*.gate."
    ),
]
Timesteps = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBERS",
        help="Timesteps, joined by commas; 0 is the image, 999 the noisiest. "
        "Default: 21, spread evenly.",
    ),
]
ProbedLabels = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBERS",
        help="Labels, joined by commas. Default: ten of them, and the null label.",
    ),
]
Samples = Annotated[int, typer.Option(help="Images per timestep and label.")]
Source = Annotated[
    str,
    typer.Option(
        help="What the model is shown: noised (held-out images), or trajectory (its own "
        "path from noise to image)."
    ),
]
ProbeGuidance = Annotated[float, typer.Option(help="Guidance of the trajectory; 1 is none.")]
ProbeSeed = Annotated[int, typer.Option(help="Fixes the noise: the same for every run.")]
Channels = Annotated[
    bool, typer.Option("--channels", help="A row per channel in place of token magnitudes.")
]
Runs = Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Runs, or folders of runs.")]
WeightsList = Annotated[
    str | None,
    typer.Option(
        metavar="WHICH",
        help="initial, final, step-2500, ema-0.100, ema-0.100-step-2500 (that average at an "
        "earlier step); several joined by commas. Default: ema-0.100 where averages are "
        "saved, else final.",
    ),
]
Images = Annotated[int, typer.Option(help="Images per seed, at most 360, the number held out.")]
Seeds = Annotated[str, typer.Option(help="Sampling seeds, joined by commas.")]
Guidances = Annotated[
    str,
    typer.Option(metavar="NUMBERS", help="Classifier-free guidance, joined by commas; 1 is none."),
]
Over = Annotated[
    str | None,
    typer.Option(
        metavar="SWEEP",
        help="Judge a run at many points: steps (every saved one, raw and averaged), guidance "
        "(1 to 5), or sigma (averages of many widths). --sampler dpmpp --steps 20 is quick, "
        "and finds what the dashboard computed.",
    ),
]
MarksOut = Annotated[Path | None, typer.Option(help="Write every number too: .parquet, or .csv.")]
ReportOut = Annotated[
    Path,
    typer.Option(metavar="FOLDER", help="New or empty folder, or one with an earlier report."),
]
Pages = Annotated[
    str | None,
    typer.Option(
        metavar="PAGES",
        help="Pages of the dashboard, joined by commas, as their addresses call them: "
        "magnitudes,theory. Default: all.",
    ),
]
Quality = Annotated[
    bool,
    typer.Option(
        help="Draw images where none are stored, for quality, samples and interventions: "
        "minutes a run. Without it only those are shown that were drawn before."
    ),
]
SigmaRel = Annotated[
    float,
    typer.Option(help="Width of the average relative to training time, above 0, up to 0.288."),
]
AverageOut = Annotated[
    Path | None,
    typer.Option(help="Write the averaged weights to this .safetensors file."),
]
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="A run, or any folder of .safetensors or .pt files of one model; the last number "
        "of a file's name is its step.",
    ),
]
Normalization = Annotated[
    str | None,
    typer.Option(
        metavar="SCHEME",
        help="What training does to the rows of weights: none, weight (unit norm where they "
        "are used), or forced (norm sqrt(n_in) after every update). Default: as the run says, "
        "none for other folders.",
    ),
]
MaxGrowth = Annotated[
    float,
    typer.Option(help="Alarm when a layer has grown more times than this and still grows."),
]
MaxSpread = Annotated[
    float,
    typer.Option(
        help="Alarm when the 90th percentile of the layers' effective learning rates is more "
        "times the 10th than this."
    ),
]
Top = Annotated[int, typer.Option(help="How many layers of the ranking to print.")]
LayersOut = Annotated[
    Path | None,
    typer.Option(help="Write every layer and step to this table: .parquet, or .csv."),
]
ImportSource = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="Run directory of the authors' code (map-dit).")
]
Destination = Annotated[
    Path, typer.Argument(metavar="DESTINATION", help="New folder; it must not exist.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run of any known layout.")]
