"""How does quality change over training, guidance, width of the average, and modulation?

A sweep is a list of points, each one stored result of `sample_quality`. Its table has the columns
of that question, and `at` (place on the sweep's axis) and `line` (which curve of the run).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy.stats import t as student

from analysis.defaults import SHOWN, Default
from analysis.quality import FRECHET, KERNEL, NEAREST, RECOGNIZED, EvaluateSettings, sample_quality
from analysis.samples import SampleSettings, expected_seconds
from analysis.sweep_point import SweepPoint
from mpdit_core.runs import Run, Weights
from mpdit_core.runs.shapes import parameter_count
from mpdit_core.shipped import DENSE

QUICK = EvaluateSettings(sampler="dpmpp", steps=20)
"""Settings of every point: twelve times cheaper than DDPM in 250 steps, and close to it."""

GUIDANCE = (1.0, 1.5, 2.0, 3.0, 5.0)
WIDTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25)
LARGEST_ERROR = 0.4
"""Averages whose profile the snapshots miss by more, relative to its norm, are no such averages."""

RAW = "raw weights"
NO_EMA = "no EMA is kept"
FLOORS = {FRECHET: "training", KERNEL: "training", RECOGNIZED: "held-out", NEAREST: "held-out"}
"""The real images whose mark is the floor of each statistic; the same number of them."""


def over_steps(run: Run, settings: EvaluateSettings = QUICK) -> list[SweepPoint]:
    """Every saved step after the first, raw and averaged; at: the training step."""
    steps = [step for step in run.steps if step > 0]
    last = max(steps, default=0)
    raw = {step: "final" if step == last else f"step-{step}" for step in steps}
    points = [_point(run, weights, settings, step, RAW) for step, weights in raw.items()]
    sigma = _tracked(run)
    if sigma is None:
        return points
    saved, width = run.ema_steps[sigma], Weights("ema", sigma_rel=sigma)
    line = _words(width)
    return points + [
        _point(run, str(width) if step == max(saved) else f"{width}-step-{step}", settings, step,
               line)
        for step in saved
    ]  # fmt: skip


def over_guidance(run: Run, weights: Weights | str, settings: EvaluateSettings = QUICK,
                  scales: Sequence[float] = GUIDANCE) -> list[SweepPoint]:  # fmt: skip
    """The same weights under each guidance; at: the guidance, 1 = none."""
    return [
        _point(
            run,
            str(weights),
            settings.model_copy(update={"guidance": scale}),
            scale,
            _words(weights),
        )
        for scale in scales
    ]


def over_widths(run: Run, settings: EvaluateSettings = QUICK,
                widths: Sequence[float] = WIDTHS) -> list[SweepPoint]:  # fmt: skip
    """Averages of each width that the snapshots can give; at: sigma_rel; and error (of the
    reconstructed profile, relative; 0 = tracked)."""
    return [
        _point(run, str(Weights("ema", sigma_rel=width)), settings, width, "EMA", error=error)
        for width, error in reconstruction_errors(run, widths).items()
        if error <= LARGEST_ERROR
    ]


def over_runs(runs: Sequence[Run], weights: Weights | str,
              settings: EvaluateSettings = QUICK) -> list[SweepPoint]:  # fmt: skip
    """The runs themselves; at: their parameters, line: the signals of their modulation."""
    return [
        _point(run, str(weights), settings, parameter_count(run.config),
               " ".join(run.config.block_modulation) or "none")
        for run in runs
    ]  # fmt: skip


def reconstruction_errors(run: Run, widths: Sequence[float] = WIDTHS) -> dict[float, float]:
    """sigma_rel -> how far the reconstructed profile is from the ideal one; {} without averages."""
    if run.ema_trap is not None or not run.ema_steps:
        return {}
    return {width: run.reconstruction(width).error for width in widths}


def widths_left_out(runs: Sequence[Run], widths: Sequence[float] = WIDTHS) -> list[str]:
    """One sentence for each reason why runs lack some of these averages."""
    reasons: dict[str, list[str]] = {}
    for run in runs:
        reason = _why_left_out(run, reconstruction_errors(run, widths))
        if reason:
            reasons.setdefault(reason, []).append(run.name)
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _why_left_out(run: Run, errors: Mapping[float, float]) -> str:
    if not errors:
        return f"no curve, because {'EMA files are no averages' if run.ema_trap else NO_EMA}."
    poor = {width: error for width, error in errors.items() if error > LARGEST_ERROR}
    missed = ", ".join(f"{width:g} by {100 * error:.0f} %" for width, error in poor.items())
    count = len(run.snapshots())
    words = f"{count} snapshots miss the averaging profile of sigma_rel {missed}; left out."
    return words if poor else ""


@dataclass(frozen=True)
class Sweep:
    """One way to vary what is sampled, and how its axis is told.

    points: of a run, the weights in view and settings; axis: its title; unit: before a place in
    words; log: equal factors are equally far; main: the line that a sentence speaks of."""

    name: str
    points: Callable[[Run, Weights | str, EvaluateSettings], list[SweepPoint]]
    axis: str
    unit: str
    note: str
    log: bool = False
    ticks: tuple[float, ...] = ()
    main: str = ""

    def where(self, at: float) -> str:
        """A place on the axis in words.

        >>> SWEEPS["steps"].where(4000.0), SWEEPS["guidance"].where(1.0)
        ('step 4,000', 'guidance 1')
        """
        return f"{self.unit} {at:,.0f}" if at >= 100 else f"{self.unit} {at:g}"

    def spoken_of(self, marks: pd.DataFrame) -> pd.DataFrame:
        """The marks of one line a run: the main one where there is one."""
        lines = set(marks["line"])
        return marks[marks["line"] == self.main] if self.main in lines else marks


SWEEPS = {
    "steps": Sweep(
        "training",
        lambda run, _, settings: over_steps(run, settings),
        "training step",
        "step",
        "Solid: the average (EMA), as it was at that step; open and dotted: the raw weights.",
        main="EMA 10 %",
    ),
    "guidance": Sweep(
        "guidance",
        over_guidance,
        "guidance (1 = none)",
        "guidance",
        "Guidance exaggerates what the label adds to the predicted noise; 1 is none.",
        log=True,
        ticks=GUIDANCE,
    ),
    "sigma": Sweep(
        "EMA width",
        lambda run, _, settings: over_widths(run, settings),
        "sigma_rel (width of the average, share of training)",
        "sigma_rel",
        "Averages (EMA) at the end of training, mixed afterwards from saved snapshots; sigma_rel: "
        "standard deviation of the averaging profile, as a share of training.",
        ticks=(0.05, 0.1, 0.15, 0.2, 0.25),
    ),
}
"""What a page offers and a command line takes, by short name."""


def expected_cost(points: Iterable[SweepPoint]) -> float:
    """Rough seconds on one core; see `analysis.samples.expected_seconds`."""
    return sum(_seconds(point) for point in points)


def marks_at(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over sampling seeds at every point; table: points of a sweep.

    Columns: run, weights, line, at, statistic; value (mean over seeds), spread (standard deviation
    over seeds, nan for one), low, high (95 % interval of the mean, Student's t over seeds), seeds,
    n (images a seed); error where the table has it."""
    drawn = table[table["images"] == "samples"]
    keys = [*(name for name in ("run", "weights", "line", "at", "error") if name in drawn),
            "statistic"]  # fmt: skip
    groups = drawn.groupby(keys, sort=False, dropna=False)
    means = groups.agg(
        value=("value", "mean"), spread=("value", "std"), seeds=("value", "size"), n=("n", "first")
    ).reset_index()
    half = means["spread"] * student.ppf(0.975, means["seeds"] - 1) / means["seeds"] ** 0.5
    return means.assign(low=means["value"] - half, high=means["value"] + half)


def floors(table: pd.DataFrame) -> dict[str, float]:
    """Statistic -> mean of the real images it is measured against; table: any points."""
    return {
        statistic: float(rows["value"].mean())
        for statistic, images in FLOORS.items()
        if len(rows := table[(table["images"] == images) & (table["statistic"] == statistic)])
    }


def _tracked(run: Run) -> float | None:
    """The tracked width nearest to the one every page starts with."""
    if run.ema_trap is not None:
        return None
    wanted = Weights.parse(SHOWN).sigma_rel or 0.0
    return min(run.ema_steps, key=lambda sigma: abs(sigma - wanted), default=None)


def _words(weights: Weights | str) -> str:
    """Weights as a line is called.

    >>> _words("ema-0.100"), _words("final")
    ('EMA 10 %', 'final')
    """
    sigma = Weights.parse(weights).sigma_rel
    return str(weights) if sigma is None else f"EMA {sigma * 100:.3g} %"


def _point(
    run: Run, weights: str, settings: EvaluateSettings, at: float, line: str, **more: Any
) -> SweepPoint:
    return SweepPoint(run, weights, settings, {"at": float(at), "line": line, **more})


def _seconds(point: SweepPoint) -> float:
    asked = EvaluateSettings.model_validate(point.settings)
    images = tuple(0 for _ in range(asked.n * len(asked.seeds)))
    settings = SampleSettings(steps=asked.steps, guidance=asked.guidance, labels=images)
    return expected_seconds([point.run], settings)


_SAVED = ("step-1000", "step-2000", "step-3000", "final")
_AVERAGED = tuple(f"{SHOWN}-{step}" for step in _SAVED[:-1])

DEFAULTS = (
    Default(sample_quality, QUICK, weights=(SHOWN, *_SAVED, *_AVERAGED)),
    *(Default(sample_quality, QUICK.model_copy(update={"guidance": w})) for w in GUIDANCE[1:]),
    Default(sample_quality, QUICK, weights=("ema-0.020", "ema-0.050", "ema-0.150", "ema-0.200")),
    Default(sample_quality, QUICK, weights=("ema-0.250",), runs=DENSE),
)
