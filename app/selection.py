"""What is compared: the nearest possible runs and weights to those a link asks for; no Streamlit.

Every `nearest_` function returns the possible thing and one sentence on what could not be
honoured, empty when all was.
"""

import math
from collections.abc import Sequence

from mpdit_core.ema import WIDEST
from mpdit_core.errors import NoSuchWeights
from mpdit_core.runs import SHOWN, Run, Weights
from mpdit_core.words import listed

LADDER = ("A", "B", "C", "D", "E")
NARROWEST = 0.005
"""The narrowest average the sidebar offers; narrower ones are the last weights, nearly."""


def preselected(names: Sequence[str]) -> tuple[str, ...]:
    """A to E where they are, else the first up to five."""
    ladder = tuple(name for name in LADDER if name in names)
    return ladder or tuple(names[:5])


def nearest_runs(asked: Sequence[str] | None, names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Those of the asked runs that there are; the preselected ones when none of them is."""
    if asked is None:
        return preselected(names), ""
    found = tuple(dict.fromkeys(name for name in asked if name in names))
    missing = [name for name in dict.fromkeys(asked) if name not in names]
    if not missing:
        return found, ""
    shown = found or preselected(names)
    instead = f"shown: {listed(shown)}" if shown else "none can be shown"
    are = "There is no run" if len(missing) == 1 else "There are no runs"
    return shown, f"{are} called {listed(missing)} here; {instead}."


def weights_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """All weights that any of the runs holds: initial, steps, final, averages by width."""
    held = {str(weights) for run in runs for weights in run.weights()}
    return tuple(sorted(held, key=_place))


def has_weights(run: Run, weights: str) -> bool:
    """Whether the run holds these weights, or can reconstruct them from its averages."""
    parsed = Weights.parse(weights)
    if parsed.kind == "step":
        return parsed.step in run.steps
    if parsed.kind == "ema":
        return bool(run.ema_steps) and run.ema_trap is None
    return parsed in run.weights()


def default_weights(runs: Sequence[Run]) -> str:
    """The average that the paper's figures use where every run has it, else the last weights."""
    ready = runs and all(has_weights(run, SHOWN) for run in runs)
    return SHOWN if ready else "final"


def nearest_weights(asked: str | None, runs: Sequence[Run]) -> tuple[str, str]:
    """The asked weights if any of the runs has them, else the nearest that one has."""
    if asked is None or not runs:
        return default_weights(runs), ""
    try:
        wanted = Weights.parse(asked)
    except NoSuchWeights:
        shown = default_weights(runs)
        return shown, f"{asked!r} names no weights; {weights_label(shown)} shown instead."
    if wanted.kind == "ema" and wanted.sigma_rel is not None:
        sigma_rel = min(max(wanted.sigma_rel, NARROWEST), math.floor(WIDEST * 1000) / 1000)
        wanted = Weights("ema", sigma_rel=sigma_rel)
    if any(has_weights(run, str(wanted)) for run in runs):
        return str(wanted), "" if wanted == Weights.parse(asked) else _other_average(asked, wanted)
    shown = _nearest_step(wanted, runs) or default_weights(runs)
    return shown, f"No run shown has the weights {asked!r}; {weights_label(shown)} shown instead."


def weights_label(weights: str) -> str:
    """The words for weights on the screen.

    >>> weights_label("ema-0.100"), weights_label("step-2500")
    ('EMA 10 %', 'step 2,500')
    """
    return Weights.parse(weights).words


def _other_average(asked: str, shown: Weights) -> str:
    """Why an average is shown that is not the one asked for."""
    reason = f"No average is as wide or narrow as {asked!r}"
    if Weights.parse(asked).step is not None:
        reason = f"Averages are shown as they are at the end, not as {asked!r}"
    return f"{reason}; {weights_label(str(shown))} shown."


def _nearest_step(wanted: Weights, runs: Sequence[Run]) -> str | None:
    steps = {step for run in runs for step in run.steps}
    if wanted.kind != "step" or wanted.step is None or not steps:
        return None
    target = wanted.step
    return str(Weights.parse(f"step-{min(steps, key=lambda step: abs(step - target))}"))


def _place(weights: str) -> tuple[int, float]:
    parsed = Weights.parse(weights)
    rank = ("initial", "step", "final", "ema").index(parsed.kind)
    return rank, float(parsed.step or parsed.sigma_rel or 0)
