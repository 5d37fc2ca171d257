"""What the figure of each claim draws: lines of the claim, and measures of its assumption."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["measured", "claimed", "third", "fourth"]


@dataclass(frozen=True)
class Line:
    """A statistic drawn by block. role: measured (solid), claimed (dashed), or a further one."""

    statistic: str
    words: str
    role: Role


@dataclass(frozen=True)
class Measure:
    """A measure of the assumption. assumed: the value it would have, None without one."""

    statistic: str
    words: str
    assumed: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Drawing:
    """unit: title of the axis; compared: the statistic of other weights, drawn in grey; decades:
    how far a logarithmic axis reaches below the largest value."""

    unit: str
    lines: tuple[Line, ...]
    measures: tuple[Measure, ...] = ()
    log: bool = True
    decades: float = 3
    compared: str = "measured"


def _of_magnitudes(claimed: str, measured: str, *others: Line) -> tuple[Line, ...]:
    return (*others, Line("claimed", claimed, "claimed"), Line("measured", measured, "measured"))


def _sum(form: str) -> Drawing:
    prefix = f"{form}_" if form else ""
    lines = (
        Line(f"{prefix}claimed", "claimed: of uncorrelated parts", "claimed"),
        Line(f"{prefix}measured", "measured", "measured"),
        Line("of_stream", "stream before the sum", "third"),
    )
    measures = (
        Measure("correlation", "correlation ρ", 0.0),
        Measure("balance", "branch / stream", 1.0, log=True),
    )
    return Drawing("magnitude of the sum", lines, measures, compared=f"{prefix}measured")


_MODULATED = _of_magnitudes("claimed", "measured, after", Line("before", "before", "third"))

DRAWINGS: dict[str, Drawing] = {
    "attention": Drawing(
        "magnitude",
        _of_magnitudes(
            "σ of the values: the bound", "output of attention",
            Line("lowest", "σ/√T: uniform rows, uncorrelated values", "third"),
        ),
        (
            Measure("correlation", "correlation of values", 0.0),
            Measure("spread", "spread of M[v] / mean", 0.0),
        ),
    ),
    "rotation": Drawing(
        "magnitude",
        _of_magnitudes("before the rotation", "after it"),
        (
            Measure("token", "largest error, token", log=True),
            Measure("pair", "largest error, pair", log=True),
        ),
    ),
    "linear": Drawing(
        "magnitude",
        _of_magnitudes("claimed: that of the input", "measured output"),
        (
            Measure("from_mean", "from means", 0.0),
            Measure("from_correlation", "from correlations", 0.0),
            Measure("from_size", "from unequal sizes", 0.0),
        ),
    ),
    "sum": _sum(""),
    "sum mp": _sum("mp"),
    "sum plain": _sum("plain"),
    "silu": Drawing(
        "M[after] / M[before]",
        _of_magnitudes(
            "claimed: of N(0, 1)", "measured",
            Line("predicted", "of N(0, σ²), σ as measured", "third"),
            Line("predicted_shifted", "of a Gaussian of the measured mean, too", "fourth"),
        ),
        (
            Measure("mean", "mean", 0.0),
            Measure("deviation", "standard deviation", 1.0),
            Measure("skewness", "skewness", 0.0),
            Measure("kurtosis", "excess kurtosis", 0.0),
        ),
        log=False,
    ),
    "modulation scale": Drawing(
        "magnitude", _MODULATED, (Measure("change", "after / before", 1.0, log=True),)
    ),
    "modulation shift": Drawing(
        "magnitude",
        _MODULATED,
        (
            Measure("change", "after / before", 1.0, log=True),
            Measure("correlation", "correlation with shift", 0.0),
        ),
    ),
    "cosine": Drawing(
        "|logit|",
        _of_magnitudes(
            "√d: the bound", "largest", Line("typical", "root mean square", "third")
        ),
    ),
    "gradient": Drawing(
        "|cos| of row and gradient",
        (
            Line("departure", "largest of a row", "measured"),
            Line("measured", "root mean square", "third"),
            Line("chance", "random directions", "fourth"),
        ),
        decades=9,
        compared="departure",
    ),
    "forced": Drawing(
        "norm of rows / √n",
        (
            Line("claimed", "claimed", "claimed"),
            Line("measured", "mean", "measured"),
            Line("lowest", "shortest", "third"),
            Line("highest", "longest", "fourth"),
        ),
    ),
    "gates": Drawing(
        "stream / stream before block 1",
        (
            Line("stream_claimed", "claimed: zero gates", "claimed"),
            Line("stream_measured", "measured, initial weights", "measured"),
        ),
        compared="stream_measured",
    ),
}  # fmt: skip
"""By claim, and where it has parts or forms of its own by claim and part."""


def drawing_of(claim: str, part: str = "") -> Drawing:
    """The drawing of a claim; part: scale or shift, or the form of the sum (mp, plain)."""
    return DRAWINGS[f"{claim} {part}"] if f"{claim} {part}" in DRAWINGS else DRAWINGS[claim]
