"""Which claim do these weights depart from most?

Tables of `theory` and `theory_weights` in, verdicts and sentences out. A verdict is computed from
the largest departure over blocks, branches and timesteps.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.theory import NO_TIMESTEP
from analysis.theory_claims import (
    BRANCHES,
    BY_NAME,
    CLAIMS,
    EXACT_TOLERANCE,
    NEARLY,
    PARTS,
    ROUGHLY,
    Claim,
)
from mpdit_core.config import ModelConfig
from mpdit_core.layers import STREAM_BALANCE
from mpdit_core.words import capital, listed

HOLDS, NEAR, DEPARTS, BROKEN = "holds", "roughly", "departs", "broken"
UNCLAIMED, UNSEEN, NOT_FINITE = "not claimed", "not seen", "not finite"

PLACE = ["run", "weights", "claim", "block", "branch", "part", "timestep", "n"]
_NUMBERS = ["claimed", "measured", "departure", "reached"]
MOST_NAMED = 5
"""With more runs than these the answer names the farthest only."""

VERDICT_COLUMNS = [
    "run", "weights", "claim", "verdict", "lacking", "departure", "shown", "block", "branch",
    "part", "timestep", "n",
]  # fmt: skip


def checked(
    tokens: pd.DataFrame,
    initial: pd.DataFrame | None,
    gradients: pd.DataFrame | None,
    rows: pd.DataFrame | None,
) -> pd.DataFrame:
    """The rows from which verdicts are made, one set of weights a claim.

    tokens: `theory` of the weights in view, initial: of the initial weights, from which alone the
    claim about zero gates is judged; gradients, rows: of `theory_weights`, rows of raw weights."""
    parts = [tokens[tokens["claim"] != "gates"]]
    if initial is not None:
        parts.append(initial[initial["claim"] == "gates"])
    parts += [table for table in (gradients, rows) if table is not None]
    return pd.concat(parts, ignore_index=True)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row per place, a column per statistic."""
    found = table.pivot(index=PLACE, columns="statistic", values="value").reset_index()
    found.columns.name = None
    return found


def verdicts(table: pd.DataFrame, configs: Mapping[str, ModelConfig]) -> pd.DataFrame:
    """One row per run and claim, in the order of the claims.

    table: `checked`; configs: of each run. Columns: run, weights, claim; verdict (holds, roughly,
    departs, broken; not claimed: this configuration lacks what the claim is about; not seen: no
    row in the table; not finite); lacking (what it lacks); departure (the largest), shown (at that
    place: of a factor measured / claimed, of a bound the largest share of it that is reached, of a
    value itself, else the departure); block, branch, part, timestep, n of that place."""
    wanted = table["statistic"].isin(_NUMBERS)
    places = wide(table[wanted & (table["n"] > 0)]).reindex(columns=[*PLACE, *_NUMBERS])
    of = {key: rows for key, rows in places.groupby(["run", "claim"])}
    rows = [
        _verdict(run, claim, claim.lacking(config), of.get((run, claim.name), places[:0]))
        for run, config in configs.items()
        for claim in CLAIMS
    ]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def _verdict(run: str, claim: Claim, lacking: str, places: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = {
        "run": run, "weights": "", "claim": claim.name, "lacking": lacking, "departure": math.nan,
        "shown": math.nan, "block": 0, "branch": "", "part": "", "timestep": NO_TIMESTEP, "n": 0,
    }  # fmt: skip
    if places.empty:
        return row | {"verdict": UNCLAIMED if lacking else UNSEEN}
    worst = _worst(claim, places)
    row |= {name: worst[name] for name in (*PLACE, "departure")}
    row["shown"] = _shown(claim, worst)
    return row | {"verdict": UNCLAIMED if lacking else judged(claim, float(worst["departure"]))}


def _worst(claim: Claim, places: pd.DataFrame) -> pd.Series:
    """The place of the largest departure, a nan before any; of a bound where it is nearest."""
    measure = places["reached"] if claim.kind == "bound" else places["departure"]
    return places.loc[measure.fillna(np.inf).idxmax()]


def _shown(claim: Claim, place: pd.Series) -> float:
    if claim.kind == "factor":
        return float(place["measured"] / place["claimed"]) if place["claimed"] else math.nan
    shown = {"bound": "reached", "value": "measured"}.get(claim.kind, "departure")
    return float(place[shown])


def judged(claim: Claim, departure: float) -> str:
    """The verdict on a departure: an exact claim holds or is broken, others hold more or less."""
    if math.isnan(departure):
        return NOT_FINITE
    if claim.exact:
        return HOLDS if departure <= EXACT_TOLERANCE else BROKEN
    return HOLDS if departure <= NEARLY else NEAR if departure <= ROUGHLY else DEPARTS


def number_in_words(claim: str, shown: float) -> str:
    """What a verdict's number says.

    >>> number_in_words("sum", 1.034), number_in_words("sum", 0.3), number_in_words("sum", 3.42)
    ('+3.4 %', '−70 %', '× 3.42')
    >>> number_in_words("cosine", 0.983), number_in_words("gradient", 1.2e-5)
    ('98 % of bound', '|cos| ≤ 1e-5')
    >>> number_in_words("silu", 2.04e-8), number_in_words("gates", 0.9191)
    ('× 2e-8', 'factor 0.919')
    """
    kind = BY_NAME[claim].kind
    if not math.isfinite(shown):
        return "no number" if math.isnan(shown) else "∞"
    if kind == "bound":
        return f"{100 * shown:.0f} % of bound" if shown < 2 else f"{shown:.3g} × the bound"
    if kind == "factor":
        if 0.01 <= shown < 2:
            return _signed(100 * (shown - 1))
        return f"× {shown:.3g}" if shown > 0.01 else f"× {_tiny(shown)}"
    if kind == "value":
        return f"factor {shown:.3f}"
    small = _tiny(shown) if shown < EXACT_TOLERANCE else f"{shown:.2g}"
    return f"|cos| ≤ {small}" if kind == "cosine" else f"off by {small}"


def _alike(claim: str, shown: Sequence[float]) -> list[str]:
    """Numbers that stand side by side: all as percentages, or all as factors."""
    told = [number_in_words(claim, number) for number in shown]
    if BY_NAME[claim].kind != "factor" or not any("×" in words for words in told):
        return told
    return [
        words if "×" in words or not math.isfinite(number) else f"× {number:.2g}"
        for words, number in zip(told, shown, strict=True)
    ]


def _tiny(number: float) -> str:
    return f"{number:.0e}".replace("e-0", "e-")


def _signed(percent: float) -> str:
    sign = "−" if percent < 0 else "+"
    size = abs(percent)
    return f"{sign}{size:.0f} %" if size >= 10 else f"{sign}{size:.1f} %"


def place_in_words(row: Mapping[str, object] | pd.Series) -> str:
    """Where: `block 3, MLP, t = 499`, unbroken in the timestep; "" for what is not seen."""
    if not row["branch"]:
        return ""
    block, branch, part = int(row["block"]), str(row["branch"]), str(row["part"])  # type: ignore[call-overload]
    words = [BRANCHES[branch]] if branch in ("embedding", "final") else [f"block {block + 1}"]
    if branch not in ("embedding", "final"):
        words.append(PARTS.get(part, "") if part in ("up", "down", "out") else BRANCHES[branch])
        if part in ("qkv", "modulation", "scale", "shift"):
            words[-1] += f" ({PARTS[part]})"
    if row["timestep"] != NO_TIMESTEP:
        words.append(f"t\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{row['timestep']}")
    return ", ".join(words)


def answer_sentence(found: pd.DataFrame) -> str:
    """Which claim is departed from most, by run; from `verdicts`."""
    claimed = found[~found["verdict"].isin([UNCLAIMED, UNSEEN])]
    broken = claimed[claimed["verdict"].isin([BROKEN, NOT_FINITE])]
    expected = claimed[claimed["verdict"].isin([HOLDS, NEAR, DEPARTS])]
    expected = expected[~expected["claim"].map(lambda name: BY_NAME[name].exact)]
    if claimed.empty:
        return "No claim can be checked on the runs in view, so the table cannot tell."
    exact = _broken(broken) if len(broken) else "every exact claim that applies holds"
    if expected.empty:
        return f"{capital(exact)}."
    worst = expected.loc[expected.groupby("run", sort=False)["departure"].idxmax()]
    groups = [
        (rows["departure"].max(), claim, rows) for claim, rows in worst.groupby("claim", sort=False)
    ]
    told = [_most(str(claim), rows) for _, claim, rows in sorted(groups, key=lambda g: -g[0])]
    return (
        f"Measured against claimed, the farthest departure is that of {'; '.join(told)}; {exact}."
    )


def _most(claim: str, rows: pd.DataFrame) -> str:
    """One claim, the runs that depart from it most, and the farthest of them."""
    top = rows.loc[rows["departure"].idxmax()]
    each = rows if len(rows) <= MOST_NAMED else rows[rows["run"] == top["run"]]
    numbers = _alike(claim, [float(shown) for shown in each["shown"]])
    told = [f"{number} in {run}" for number, run in zip(numbers, each["run"], strict=True)]
    among = "" if len(each) == len(rows) else f", the farthest of {len(rows)} runs"
    where = f"{place_in_words(top)}, {int(top['n']):,} tokens"
    farthest = f"{top['run']}: " if len(each) > 1 else ""
    return f"{BY_NAME[claim].short} ({listed(told)}{among}; {farthest}{where})"


def _broken(rows: pd.DataFrame) -> str:
    told = [f"{BY_NAME[row['claim']].short} in {row['run']}" for _, row in rows.iterrows()]
    return f"not holding, though exact: {listed(told)}"


def initial_sentence(initial: pd.DataFrame, configs: Mapping[str, ModelConfig]) -> str:
    """What zero gates do to the stream at the start, measured; "" where no run in view has both the
    MP-sum and gates that start at 0. initial: `theory` of the initial weights."""
    shrinking = [
        run
        for run, config in configs.items()
        if config.mp_residual and not BY_NAME["gates"].lacking(config)
    ]
    rows = wide(initial[(initial["claim"] == "gates") & initial["run"].isin(shrinking)])
    if rows.empty:
        return ""
    first = str(rows["run"].iloc[0])
    own = rows[(rows["run"] == first) & (rows["branch"] == "mlp")]
    last = own[own["block"] == own["block"].max()]
    branch = float(rows.loc[rows["run"] == first, "measured"].mean())
    tokens = int(own.groupby("block")["n"].sum().iloc[0])
    return (
        "Config E is not magnitude-preserving at initialization, because zero gates shrink the "
        f"stream: to {branch:.3f} of its magnitude in a branch, {branch**2:.3f} in a block, "
        f"{float(last['stream_measured'].mean()):.3f} after {int(last['block'].iloc[0]) + 1} "
        f"block{'s' if last['block'].iloc[0] else ''} (initial weights of {first}, "
        f"{tokens:,} tokens; claimed {_factor():.3f} and {_factor() ** 2:.3f})."
    )


def _factor() -> float:
    return (1 - STREAM_BALANCE) / math.hypot(1 - STREAM_BALANCE, STREAM_BALANCE)


def pieces(table: pd.DataFrame, claim: str) -> list[tuple[str, str]]:
    """The (branch, part) inside blocks that the table holds of a claim, in the model's order."""
    rows = table[(table["claim"] == claim) & table["branch"].isin(["attn", "mlp"])]
    found = rows[["branch", "part"]].drop_duplicates().itertuples(index=False)
    return sorted(((str(row[0]), str(row[1])) for row in found), key=lambda pair: pair[0])


def blocks(table: pd.DataFrame, claim: str, piece: tuple[str, str]) -> pd.DataFrame:
    """One row per run, weights, block and timestep of one claim and (branch, part), as `wide`."""
    rows = table[(table["claim"] == claim) & (table["branch"] == piece[0])]
    return wide(rows[rows["part"] == piece[1]])
