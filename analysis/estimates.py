"""A measured value of a run with what its uncertainty comes from, and the ratio of two of them.

Three kinds of measurement, one interval: values of units that both runs saw (images, labels), whose
noise cancels in the ratio; values whose interval is known; and counts.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from scipy import stats
from scipy.stats.contingency import relative_risk


@dataclass(frozen=True)
class Ratio:
    """a / b with its interval; n: units it rests on."""

    value: float
    low: float
    high: float
    n: int

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 1."""
        return self.low > 1 or self.high < 1

    @property
    def effect(self) -> float:
        """Size of the difference in octaves, |log2(a / b)|."""
        return abs(math.log2(self.value)) if self.value > 0 else math.nan


@dataclass(frozen=True)
class Paired:
    """A value made of units (images, labels) that other runs saw as well.

    influence: how much each unit pulls the value's logarithm, mean 0, indexed by unit. shown: what
    people are told where `value` was smoothed."""

    value: float
    influence: pd.Series
    shown: float

    @classmethod
    def mean(cls, values: pd.Series) -> Self:
        """The mean of positive values, indexed by unit."""
        mean = float(values.mean())
        return cls(mean, values / mean - 1, mean)

    @classmethod
    def share(cls, happened: pd.Series) -> Self:
        """How often something happened (0 or 1 a unit), with half a unit added to both sides, so
        that a share of 0 has a ratio."""
        smoothed = (happened.sum() + 0.5) / (len(happened) + 1)
        share = float(happened.mean())
        return cls(float(smoothed), (happened - share) / smoothed, share)

    def over(self, other: Self) -> Self:
        """The quotient of two values of the same units, such as of the last block by the first."""
        value = self.value / other.value
        return type(self)(value, self.influence - other.influence, value)

    def ratio(self, other: Self, level: float) -> Ratio:
        """Student's t on the logarithm of the ratio (delta method), pairs held together."""
        pulls = (self.influence - other.influence).dropna()
        n = len(pulls)
        if n < 2 or not (self.value > 0 and other.value > 0):
            return Ratio(math.nan, math.nan, math.nan, n)
        half = float(stats.t.ppf((1 + level) / 2, n - 1) * pulls.std(ddof=1)) / math.sqrt(n)
        return _around(self.value / other.value, half, n)


@dataclass(frozen=True)
class Told:
    """A positive value whose 95 % interval is known, independent of other runs' values."""

    value: float
    low: float
    high: float
    n: int

    @property
    def shown(self) -> float:
        return self.value

    def ratio(self, other: Self, level: float) -> Ratio:
        """A normal distribution of the logarithms; both errors add up."""
        n = min(self.n, other.n)
        if not (self.low > 0 and other.low > 0):
            return Ratio(math.nan, math.nan, math.nan, n)
        error = math.hypot(self._error, other._error)
        half = float(stats.norm.ppf((1 + level) / 2)) * error
        return _around(self.value / other.value, half, n)

    @property
    def _error(self) -> float:
        """Standard error of the logarithm."""
        return math.log(self.high / self.low) / (2 * float(stats.norm.ppf(0.975)))


@dataclass(frozen=True)
class Count:
    """How often something happened among n independent units."""

    happened: int
    n: int

    @property
    def value(self) -> float:
        return self.happened / self.n

    @property
    def shown(self) -> float:
        return self.value

    def ratio(self, other: Self, level: float) -> Ratio:
        """Relative risk with Katz's interval; without any event on a side it cannot be told."""
        n = min(self.n, other.n)
        if not (self.happened and other.happened):
            return Ratio(math.nan, math.nan, math.nan, n)
        found = relative_risk(self.happened, self.n, other.happened, other.n)
        low, high = found.confidence_interval(level)
        return Ratio(float(found.relative_risk), float(low), float(high), n)


Estimate = Paired | Told | Count


def _around(value: float, half: float, n: int) -> Ratio:
    with np.errstate(over="ignore"):
        return Ratio(value, value * float(np.exp(-half)), value * float(np.exp(half)), n)
