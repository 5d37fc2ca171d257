"""The table of runs as HTML: samples under each row, best values bold, flags as ticks."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import pandas as pd

from analysis.figures.theme import run_style
from analysis.quality import FRECHET, OUTSIDE

FLAGS = {
    "cosine_attention": "cosine attention",
    "weight_normalization": "weight norm.",
    "forced_weight_normalization": "forced norm.",
    "mp_residual": "MP sum",
    "mp_silu": "MP SiLU",
    "mp_pos_enc": "MP position",
    "mp_embedding": "MP embedding",
    "no_layernorm": "no LayerNorm",
}


@dataclass(frozen=True)
class Measure:
    """A column of numbers. better: "low", "high", or "" where neither is better.

    spread: the column that holds its spread over sampling seeds, or ""."""

    column: str
    title: str
    digits: str
    better: str = ""
    spread: str = ""
    factor: float = 1.0


MEASURES = (
    Measure("recognized", "recognized, %", ".1f", "high", "recognized_spread", 100),
    Measure(FRECHET, "Fréchet distance", ".1f", "low", "frechet_distance_spread"),
    Measure("heldout_loss", "held-out loss", ".4f", "low"),
    Measure("train_loss", "training loss", ".4f", "low"),
    Measure("parameters", "parameters", ",.0f"),
    Measure("steps", "steps", ",.0f"),
)

_STYLE = """<style>
.runs { overflow-x: auto; }
.runs table { border-collapse: collapse; font-size: 0.8rem; width: 100%; }
.runs th, .runs td { padding: 4px 6px; border: none; vertical-align: middle; }
.runs tr.first td { border-top: 1px solid rgba(128, 128, 128, 0.4); }
.runs th.words { font-weight: 400; opacity: 0.75; }
.runs td[rowspan] { vertical-align: top; }
.runs th { font-weight: 500; vertical-align: bottom; text-align: left; }
.runs .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.runs .number small { opacity: 0.75; }
.runs .flag { text-align: center; padding: 4px 1px; }
.runs th.flag span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.runs img { height: 64px; max-width: none; image-rendering: pixelated; display: block; }
.runs .chosen { background: rgba(128, 128, 128, 0.10); }
</style>"""


def runs_table(
    table: pd.DataFrame, strips: Mapping[str, bytes], chosen: tuple[str, ...], labels: str
) -> str:
    """HTML of the table, rows in the order of `table` (`analysis.runs_overview.overview`, with a
    column, and one for its spread, for each measure that is known).

    strips: PNG of six samples by run; labels: what they are, for the hover; chosen: runs in view,
    shaded."""
    best = {measure.column: _best(table, measure) for measure in MEASURES}
    rows = [_row(row, strips, chosen, best, labels) for row in table.to_dict("records")]
    body = f"<thead>{_head(labels)}</thead><tbody>{''.join(rows)}</tbody>"
    return f'{_STYLE}<div class="runs" data-testid="runs-table"><table>{body}</table></div>'


def _best(table: pd.DataFrame, measure: Measure) -> float | None:
    values = table[measure.column].dropna() if measure.column in table else pd.Series(dtype=float)
    if not measure.better or len(values) < 2:
        return None
    return float(values.min() if measure.better == "low" else values.max())


def _head(labels: str) -> str:
    numbers = [f'<th class="number">{escape(measure.title)}</th>' for measure in MEASURES]
    flags = [f'<th class="flag"><span>{words}</span></th>' for words in FLAGS.values()]
    cells = [*numbers, "<th>modulation</th>", *flags]
    words = f'<th class="words" colspan="{len(cells)}">below: samples of {escape(labels)}</th>'
    return f'<tr><th rowspan="2">run</th>{"".join(cells)}</tr><tr>{words}</tr>'


def _row(
    row: Mapping,
    strips: Mapping[str, bytes],
    chosen: tuple[str, ...],
    best: Mapping[str, float | None],
    labels: str,
) -> str:
    name = str(row["run"])
    label = f'<b style="color:{run_style(name).colour}">{escape(name)}</b>'
    cells = [_number(row, measure, best[measure.column]) for measure in MEASURES]
    cells.append(f"<td>{escape(str(row['modulation']))}</td>")
    cells += [_flag(row[flag], words) for flag, words in FLAGS.items()]
    strip = f'<td colspan="{len(cells)}">{_strip(name, strips.get(name), labels)}</td>'
    shade = "chosen" if name in chosen else "other"
    first = f'<tr class="{shade} first"><td rowspan="2">{label}</td>{"".join(cells)}</tr>'
    return f'{first}<tr class="{shade}">{strip}</tr>'


def _strip(name: str, png: bytes | None, labels: str) -> str:
    if png is None:
        return "not sampled yet"
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    words = escape(f"{name}: {labels}", quote=True)
    return f'<img src="{source}" alt="{words}" title="{words}">'


def _number(row: Mapping, measure: Measure, best: float | None) -> str:
    value = row.get(measure.column)
    if value is None or pd.isna(value):
        diverged = measure.column == FRECHET and row.get(OUTSIDE, 0) > 0
        return f'<td class="number">{"diverged" if diverged else "–"}</td>'
    text = format(value * measure.factor, measure.digits)
    spread = row.get(measure.spread) if measure.spread else None
    if spread is not None and not pd.isna(spread):
        text += f" <small>±&nbsp;{format(spread * measure.factor, measure.digits)}</small>"
    return f'<td class="number">{f"<b>{text}</b>" if value == best else text}</td>'


def _flag(on: bool, words: str) -> str:
    return f'<td class="flag" title="{words}: {"on" if on else "off"}">{"✓" if on else ""}</td>'
