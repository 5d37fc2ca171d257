"""Which weights of a run are meant: a small value with a text form that fits into a link."""

import re
from dataclasses import dataclass
from typing import Literal, Self

from mpdit_core.errors import NoSuchWeights

SHOWN = "ema-0.100"
"""The weights everything shows first, where a run has them, as the paper's figures do."""

SIGMA_DECIMALS = 4
"""Decimals of sigma_rel in the name of an average; widths that agree in them are the same."""

_AVERAGE = re.compile(r"ema-(0?\.\d{1,6})(?:-step-(\d{1,12}))?")


def sigma_text(sigma_rel: float) -> str:
    """A width as it stands in names: three decimals, and the fourth where there is one.

    >>> sigma_text(0.1), sigma_text(0.0504)
    ('0.100', '0.0504')
    """
    return f"{sigma_rel:.{SIGMA_DECIMALS}f}".removesuffix("0")


@dataclass(frozen=True)
class Weights:
    """`initial`, `final`, `step-2500`, or `ema-0.100` (EMA of that sigma_rel, at its last step).

    `ema-0.100-step-2500` is that average as it was at an earlier step. Further decimals of
    sigma_rel are rounded off, so that the text form tells which weights they are."""

    kind: Literal["initial", "step", "final", "ema"]
    step: int | None = None
    sigma_rel: float | None = None

    def __post_init__(self) -> None:
        if self.sigma_rel is not None:
            object.__setattr__(self, "sigma_rel", round(self.sigma_rel, SIGMA_DECIMALS))

    @classmethod
    def parse(cls, text: "str | Weights") -> Self:
        """Read the text form. Raises NoSuchWeights that lists the forms."""
        if isinstance(text, Weights):
            return cls(text.kind, text.step, text.sigma_rel)
        if text == "initial":
            return cls("initial")
        if text == "final":
            return cls("final")
        if match := re.fullmatch(r"step-(\d{1,12})", text):
            return cls("step", step=int(match[1]))
        if match := _AVERAGE.fullmatch(text):
            step = None if match[2] is None else int(match[2])
            return cls("ema", step=step, sigma_rel=float(match[1]))
        raise NoSuchWeights(
            f"{text[:40]!r} names no weights; the forms are initial, final, step-2500, ema-0.100"
        )

    @property
    def words(self) -> str:
        """The words for these weights.

        >>> Weights.parse("ema-0.100").words, Weights.parse("step-2500").words
        ('EMA 10 %', 'step 2,500')
        """
        if self.kind == "ema" and self.sigma_rel is not None:
            then = "" if self.step is None else f" at step {self.step:,}"
            return f"EMA {self.sigma_rel * 100:.3g} %{then}"
        return f"step {self.step:,}" if self.kind == "step" else self.kind

    def __str__(self) -> str:
        if self.kind == "step":
            return f"step-{self.step}"
        if self.kind == "ema":
            width = f"ema-{sigma_text(self.sigma_rel or 0)}"
            return width if self.step is None else f"{width}-step-{self.step}"
        return self.kind
