"""The table of claims as HTML: what is claimed, and per run verdict, number and place."""

from collections.abc import Sequence
from html import escape

import pandas as pd

from analysis.figures.theme import run_style
from analysis.theory_claims import CLAIMS, Claim
from analysis.theory_verdicts import (
    BROKEN,
    DEPARTS,
    HOLDS,
    NEAR,
    NOT_FINITE,
    UNCLAIMED,
    UNSEEN,
    number_in_words,
    place_in_words,
)

SIGNS = {
    HOLDS: "✓",
    NEAR: "≈",
    DEPARTS: "≠",
    BROKEN: "✗",
    NOT_FINITE: "✗",
    UNCLAIMED: "",
    UNSEEN: "",
}
"""A verdict is told by sign and word, never by colour alone."""

_STYLE = """<style>
.claims { overflow-x: auto; }
.claims table { border-collapse: collapse; font-size: 0.8rem; width: 100%; line-height: 1.3; }
.claims th, .claims td { padding: 5px 5px; border: none; vertical-align: top; text-align: left; }
.claims tbody td { border-top: 1px solid rgba(128, 128, 128, 0.3); }
.claims th { font-weight: 500; vertical-align: bottom; }
.claims td.claim { min-width: 140px; }
.claims td.run { min-width: 80px; }
.claims td.claim span { border-bottom: 1px dotted rgba(128, 128, 128, 0.8); cursor: help; }
.claims small { opacity: 0.75; display: block; }
.claims .quiet { opacity: 0.65; }
.claims .bad b { color: #c05661; }
.claims .chosen { background: rgba(128, 128, 128, 0.12); }
</style>"""


def claims_table(found: pd.DataFrame, runs: Sequence[str], chosen: str) -> str:
    """HTML. found: `theory_verdicts.verdicts`; chosen: name of the claim drawn below, shaded."""
    by_place = {(row["claim"], row["run"]): row for row in found.to_dict("records")}
    names = [f'<th style="color:{run_style(run).colour}">{escape(run)}</th>' for run in runs]
    head = f"<tr><th>claim</th>{''.join(names)}</tr>"
    rows = [
        _row(claim, [by_place[claim.name, run] for run in runs], claim.name == chosen)
        for claim in CLAIMS
    ]
    body = f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody>"
    return f'{_STYLE}<div class="claims" data-testid="claims"><table>{body}</table></div>'


def _row(claim: Claim, cells: Sequence[dict], chosen: bool) -> str:
    help = escape(f"{claim.plain}. Assumes: {claim.assumption}.", quote=True)
    at = "exact" if claim.exact else "in expectation"
    at += f", checked on the {claim.checked_at}" if claim.checked_at else ""
    words = f'<span title="{help}">{escape(claim.words)}</span><small>{at}</small>'
    shade = ' class="chosen"' if chosen else ""
    told = "".join(_cell(claim, cell) for cell in cells)
    return f'<tr{shade}><td class="claim">{words}</td>{told}</tr>'


def _cell(claim: Claim, row: dict) -> str:
    verdict, place = row["verdict"], place_in_words(row)
    seen = number_in_words(claim.name, row["shown"]) if row["n"] else ""
    if verdict == UNCLAIMED:
        words = f"{row['lacking']}<small>{seen}</small>"
        return f'<td class="run quiet" title="{_hover(row)}">{words}</td>'
    if verdict == UNSEEN:
        return '<td class="run quiet">not seen</td>'
    kind = " bad" if verdict in (DEPARTS, BROKEN, NOT_FINITE) else ""
    details = f"<small>{seen}</small><small>{place}</small>"
    return (
        f'<td class="run{kind}" title="{_hover(row)}"><b>{SIGNS[verdict]} {verdict}</b>'
        f"{details}</td>"
    )


def _hover(row: dict) -> str:
    words = (
        f"{row['run']}: {place_in_words(row)}; departure {row['departure']:.2g}, n = {row['n']:,}"
    )
    return escape(words, quote=True)
