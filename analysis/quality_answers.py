"""What the marks of samples say, in words and in small tables; table in, sentence out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.quality import FRECHET, KERNEL, NEAREST, OUTSIDE, RECOGNIZED
from mpdit_core.runs import Run
from mpdit_core.runs.shapes import parameter_count
from mpdit_core.words import capital, listed


@dataclass(frozen=True)
class Mark:
    """How a statistic of `sample_quality` is shown. short: where there is little room; floor: the
    real images beside it; better: "low", "high", or "" where neither."""

    title: str
    unit: str
    floor: str
    short: str = ""
    factor: float = 1.0
    better: str = "low"
    digits: str = ".3g"

    @property
    def axis(self) -> str:
        """The title of an axis."""
        return f"{self.short or self.title} ({self.unit})"

    def number(self, value: float) -> str:
        """The value in the shown unit; nan is a dash."""
        text = "–" if math.isnan(value) else format(self.factor * value, self.digits)
        return text.replace("-", "−")

    def with_spread(self, value: float, spread: float) -> str:
        """Value and standard deviation over seeds."""
        text = self.number(value)
        return text if math.isnan(spread) else f"{text} ± {format(self.factor * spread, '.2g')}"


MARKS = {
    FRECHET: Mark("Fréchet distance", "squared feature units", "training images"),
    KERNEL: Mark("kernel distance", "squared kernel units", "training images"),
    RECOGNIZED: Mark(
        "recognized share", "%", "held-out images", "recognized", 100.0, "high", ".1f"
    ),
    NEAREST: Mark(
        "distance to the nearest training image",
        "standard deviations",
        "held-out images",
        "nearest training image",
        better="",
        digits=".2f",
    ),
}


def quality_sentence(
    marks: pd.DataFrame, floor: dict[str, float], statistic: str, drawn: str
) -> str:
    """The ends of the runs beside the floor; marks: `marks_at` of one point a run.

    drawn: weights and guidance in words."""
    mark, own = MARKS[statistic], _of(marks, statistic)
    if own.empty:
        return "No run in view could be judged."
    own = own.sort_values("value", ascending=mark.better != "high")
    first, last = own.iloc[0], own.iloc[-1]
    counted = f"{first['seeds']} sampling seeds of {first['n']} images, ± their standard deviation"
    real = f"{mark.floor} have {mark.number(floor.get(statistic, math.nan))} ({counted})"
    name = f"{capital(mark.title)} ({drawn})"
    if len(own) == 1:
        return f"{name} of samples of {first['run']}: {_spread_of(mark, first)}; {real}."
    ends = ("highest", "lowest") if mark.better == "high" else ("lowest", "highest")
    alike = "" if _apart(first, last) else ", no further apart than twice that deviation"
    return (
        f"{name}: {ends[0]} in {first['run']} with {_spread_of(mark, first)}, {ends[1]} in "
        f"{last['run']} with {_spread_of(mark, last)}{alike}; {real}."
    )


def sweep_sentence(
    marks: pd.DataFrame, statistic: str, where: Callable[[float], str], over: str
) -> str:
    """Where on the sweep each run is best; marks: `marks_at` of one line a run.

    where: a place in words ("guidance 1.5"); over: the sweep in words ("guidance")."""
    mark, own = MARKS[statistic], _of(marks, statistic)
    if own.empty or not mark.better or own.groupby("run").size().max() < 2:
        return ""
    values = own.groupby("run", sort=False)["value"]
    best = own.loc[values.idxmax() if mark.better == "high" else values.idxmin()]
    ends = own.groupby("run", sort=False)
    told = {str(run) for run, rows in ends if _apart(*_ends(rows))}
    groups = [
        f"at {where(float(str(at)))} for {listed(rows['run'])}"
        for at, rows in best[best["run"].isin(told)].groupby("at", sort=True)
    ]
    alike = [str(run) for run, _ in ends if run not in told]
    said = f"Over {over}, the {mark.title} is best {', '.join(groups)}" if groups else ""
    if alike:
        none = f"no two places lie further apart than twice the spread for {listed(alike)}"
        said = f"{said}; {none}" if said else f"Over {over}, {none}"
    low, high = _ends(own[own["run"] == (values.max() - values.min()).idxmax()])
    return (
        f"{said}. The {mark.title} moves most in {low['run']}: {_spread_of(mark, low)} at "
        f"{where(low['at'])}, {_spread_of(mark, high)} at {where(high['at'])}."
    )


def modulation_table(runs: Sequence[Run], marks: pd.DataFrame) -> pd.DataFrame:
    """The ablation: one row a run, fewest parameters first.

    marks: `marks_at` of these runs. Columns: run, modulation, parameters; reference (the run with
    scale, shift and gate that is the same in all but modulation, itself perhaps; None where there
    is none), relative (parameters beside the reference's, 0 = as many); a text a statistic."""
    judged = [run for run in runs if run.name in set(marks["run"])]
    whole = {
        _apart_from_modulation(run): run
        for run in reversed(judged)
        if set(run.config.block_modulation) == {"scale", "shift", "gate"}
    }
    rows = [_ablated(run, whole.get(_apart_from_modulation(run)), marks) for run in judged]
    table = pd.DataFrame(rows)
    return table.sort_values("parameters", ignore_index=True) if len(table) else table


def parameters_sentence(runs: Sequence[Run], marks: pd.DataFrame, statistic: str) -> str:
    """What the cheapest modulation saves, and costs in quality."""
    table, mark = modulation_table(runs, marks), MARKS[statistic]
    if table.empty or not (table["relative"] < 0).any():
        return ""
    row = table.loc[table["relative"].idxmin()]
    base = table[table["run"] == row["reference"]].iloc[0]
    return (
        f"{row['run']} has {-100 * row['relative']:.1f} % fewer parameters than {base['run']}, and "
        f"a {mark.title} of {row[statistic]} against {base[statistic]}."
    )


def agreement(quick: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """The same runs and weights drawn by two samplers; quick, full: `marks_at`.

    Columns: run, statistic; value, other (quick's and full's), difference (quick - full), spread
    (root of the sum of both variances over seeds), seeds."""
    keys = ["run", "weights", "statistic"]
    both = quick.merge(full, on=keys, suffixes=("", "_full"))
    spread = (both["spread"] ** 2 + both["spread_full"] ** 2) ** 0.5
    return pd.DataFrame(
        {
            "run": both["run"],
            "statistic": both["statistic"],
            "value": both["value"],
            "other": both["value_full"],
            "difference": both["value"] - both["value_full"],
            "spread": spread,
            "seeds": both["seeds"],
        }
    )


def outside_sentence(marks: pd.DataFrame, sampler: str) -> str:
    """How many images left the range of the data, where any did; marks: `marks_at`."""
    own = _of(marks, OUTSIDE)
    own = own[own["value"] > 0]
    counts = [
        f"{round(row['value'] * row['n'] * row['seeds'])} of {row['n'] * row['seeds']:,} images of "
        f"{row['run']}"
        for row in own.to_dict("records")
    ]
    if not counts:
        return ""
    return (
        f"{sampler} draws {', '.join(counts)} with pixels far outside the range of the data; a "
        "single one makes the Fréchet and kernel distances as large as it likes."
    )


def undiverged(marks: pd.DataFrame) -> pd.DataFrame:
    """Without the distances that a few images far outside the range of the data decide."""
    out = marks[(marks["statistic"] == OUTSIDE) & (marks["value"] > 0)]
    decided = marks["run"].isin(out["run"]) & marks["statistic"].isin((FRECHET, KERNEL, NEAREST))
    return marks[~decided]


def agreement_sentence(found: pd.DataFrame, statistic: str, quick: str, full: str) -> str:
    """How far the two samplers lie apart, beside the spread over seeds."""
    own, mark = found[found["statistic"] == statistic], MARKS[statistic]
    if own.empty:
        return f"{full} was not drawn for these runs and weights, so the samplers are not compared."
    row = own.loc[(own["difference"].abs() / own["spread"].fillna(math.inf)).idxmax()]
    within = (own["difference"].abs() <= 2 * own["spread"]).sum()
    return (
        f"{quick} agrees with {full} within twice the spread over seeds in {within} of {len(own)} "
        f"runs; furthest apart in {row['run']}: {mark.number(row['value'])} against "
        f"{mark.number(row['other'])} (difference {mark.factor * row['difference']:+.2g}, spread "
        f"{mark.factor * row['spread']:.2g})."
    )


def _apart_from_modulation(run: Run) -> str:
    return run.config.model_dump_json(exclude={"block_modulation", "final_modulation"})


def _ablated(run: Run, reference: Run | None, marks: pd.DataFrame) -> dict[str, object]:
    parameters = parameter_count(run.config)
    whole = math.nan if reference is None else parameter_count(reference.config)
    return {
        "run": run.name,
        "modulation": " ".join(run.config.block_modulation) or "none",
        "parameters": parameters,
        "reference": None if reference is None else reference.name,
        "relative": parameters / whole - 1,
        **{name: _shown(marks, run.name, name) for name in MARKS},
    }


def _of(marks: pd.DataFrame, statistic: str) -> pd.DataFrame:
    return marks[(marks["statistic"] == statistic) & marks["value"].notna()]


def _apart(one: pd.Series, other: pd.Series) -> bool:
    """Whether two means lie further apart than twice the spread of their difference."""
    spreads = [0.0 if math.isnan(row["spread"]) else row["spread"] for row in (one, other)]
    return abs(one["value"] - other["value"]) > 2 * math.hypot(*spreads)


def _spread_of(mark: Mark, row: pd.Series) -> str:
    return mark.with_spread(row["value"], row["spread"])


def _ends(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The rows of the smallest and of the largest value."""
    return rows.loc[rows["value"].idxmin()], rows.loc[rows["value"].idxmax()]


def _shown(marks: pd.DataFrame, run: str, statistic: str) -> str:
    own = _of(marks, statistic)
    own = own[own["run"] == run]
    return _spread_of(MARKS[statistic], own.iloc[0]) if len(own) else "–"
