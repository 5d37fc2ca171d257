"""Marks of samples: runs side by side, over a sweep, and against parameters."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.panels import faint, panels_height, place_of, run_panels
from analysis.figures.theme import HEIGHT, MUTED, finish, in_run_order, run_style
from analysis.quality import FRECHET
from analysis.quality_answers import MARKS
from analysis.quality_sweeps import RAW, Sweep

LINE_HEIGHT, TOP, BOTTOM = 34, 92, 60
FAR_APART = 5.0
"""Fréchet distances whose ends differ by this factor are drawn on a logarithmic axis."""
LABEL_SPACE = 15
NARROW = 400
"""Pixels between the first and the last mark on a narrow screen."""


def by_run_height(runs: int) -> int:
    """Height of `quality_by_run`, in pixels."""
    return TOP + BOTTOM + LINE_HEIGHT * max(runs, 2)


def quality_by_run(
    marks: pd.DataFrame,
    seeds: pd.DataFrame,
    floor: Mapping[str, float],
    other: pd.DataFrame | None,
    title: str,
) -> go.Figure:
    """A row a run, a panel a statistic. marks: `marks_at`, one point a run; seeds: the rows of
    "samples" it comes from; floor: `floors`; other: `marks_at` of another sampler, drawn open."""
    runs, names = in_run_order(marks["run"]), list(MARKS)
    figure = make_subplots(
        1, len(names), shared_yaxes=True, horizontal_spacing=0.025,
        subplot_titles=[_floored(name, floor) for name in names],
    )  # fmt: skip
    for column, name in enumerate(names, start=1):
        for run in runs:
            for trace in _row_of(run, name, marks, seeds, other):
                figure.add_trace(trace, row=1, col=column)
        if name in floor:
            figure.add_vline(x=MARKS[name].factor * floor[name], line_dash="dot",
                             line_color=MUTED, row=1, col=column)  # fmt: skip
        unit = {"title_text": MARKS[name].unit, "title_font_size": 12}
        figure.update_xaxes(nticks=4, tickangle=0, **unit, row=1, col=column)
        if column > 1:
            figure.update_yaxes(ticks="", row=1, col=column)
    figure.update_yaxes(
        tickvals=list(range(len(runs))),
        ticktext=[f'<b style="color:{run_style(run).colour}">{run}</b>' for run in runs],
        range=[len(runs) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_annotations(font_size=12)
    finish(figure, title, by_run_height(len(runs)))
    at_top = {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 8}}
    return figure.update_layout(
        margin={"t": TOP, "b": BOTTOM}, showlegend=False, title=at_top, dragmode=False
    )


def sweep_panels(
    marks: pd.DataFrame,
    statistic: str,
    floor: Mapping[str, float],
    sweep: Sweep,
    title: str,
) -> go.Figure:
    """A panel a run, the others' lines behind it; marks: `marks_at` of a sweep. A point's
    customdata begin with run, line and place, for a click."""
    rows = marks[marks["statistic"] == statistic]
    runs = in_run_order(rows["run"])
    figure = run_panels(runs, sweep.axis, MARKS[statistic].axis)
    for number, run in enumerate(runs):
        for other in runs:
            if other != run:
                _behind(figure, rows[rows["run"] == other], statistic, number)
        for line, own in rows[rows["run"] == run].groupby("line", sort=False):
            figure.add_trace(_curve(own, run, str(line), statistic, sweep), **place_of(number))
    if statistic in floor:
        figure.add_hline(y=MARKS[statistic].factor * floor[statistic], line_dash="dot",
                         line_color=MUTED, line_width=1.5)  # fmt: skip
    _axes(figure, rows, statistic, floor, sweep)
    finish(figure, title, panels_height(len(runs)))
    return figure.update_layout(
        showlegend=False, clickmode="event+select", hovermode="closest", dragmode=False
    )


def ringed(figure: go.Figure, run: str, line: str, at: float) -> go.Figure:
    """The figure with a ring around the chosen point."""
    for trace in figure.data:
        for place, data in enumerate(trace.customdata if trace.customdata is not None else ()):
            if (data[0], data[1]) == (run, line) and math.isclose(float(data[2]), at):
                return figure.add_trace(_ring(trace, place))
    return figure


def _ring(trace: go.Scatter, place: int) -> go.Scatter:
    marker = {"symbol": "circle-open", "size": 17, "color": trace.marker.color, "line_width": 2}
    return go.Scatter(
        x=[trace.x[place]],
        y=[trace.y[place]],
        xaxis=trace.xaxis,
        yaxis=trace.yaxis,
        mode="markers",
        marker=marker,
        hoverinfo="skip",
        name="chosen",
    )


def quality_by_parameters(
    marks: pd.DataFrame, statistic: str, floor: Mapping[str, float], title: str
) -> go.Figure:
    """A mark a run; marks: `marks_at` of `over_runs`, whose place is the number of parameters."""
    mark, rows = MARKS[statistic], marks[marks["statistic"] == statistic]
    figure = go.Figure()
    for run in in_run_order(rows["run"]):
        own = rows[rows["run"] == run]
        figure.add_trace(
            go.Scatter(
                x=own["at"], y=mark.factor * own["value"], name=run, mode="markers",
                marker=run_style(run).points(11), error_y=_error(own, mark.factor),
                customdata=own[["line", "low", "high", "n", "seeds"]].assign(
                    low=mark.factor * own["low"], high=mark.factor * own["high"]
                ),
                hovertemplate=f"{run}: %{{customdata[0]}}<br>%{{x:,}} parameters<br>{mark.title} "
                "%{y:.3g}<br>95 % interval %{customdata[1]:.3g} to %{customdata[2]:.3g}<br>"
                "%{customdata[4]} seeds of %{customdata[3]} images<extra></extra>",
            )
        )  # fmt: skip
    if statistic in floor:
        figure.add_hline(
            y=mark.factor * floor[statistic], line_dash="dot", line_color=MUTED,
            annotation={"text": mark.floor, "font": {"color": MUTED, "size": 12}},
            annotation_position="bottom left",
        )  # fmt: skip
    low, high = _limits(rows, statistic, floor)
    left, right = float(rows["at"].min()), float(rows["at"].max())
    room = max(right - left, 0.02 * right)
    figure.update_xaxes(title_text="parameters", range=[left - 0.06 * room, right + 0.22 * room])
    figure.update_yaxes(title_text=mark.axis, range=[low, high])
    _name_marks(figure, rows, mark.factor, (low, high))
    finish(figure, title, HEIGHT)
    return figure.update_layout(showlegend=False)


def _floored(name: str, floor: Mapping[str, float]) -> str:
    """The panel's title: the statistic, and under it what real images have."""
    mark = MARKS[name]
    title = f"<b>{mark.short or mark.title}</b>"
    if name not in floor:
        return title
    return f"{title}<br>{mark.floor}: {mark.number(floor[name])}"


def _row_of(
    run: str, name: str, marks: pd.DataFrame, seeds: pd.DataFrame, other: pd.DataFrame | None
) -> list[go.Scatter]:
    style, factor = run_style(run), MARKS[name].factor
    place = in_run_order(marks["run"]).index(run)
    own = marks[(marks["run"] == run) & (marks["statistic"] == name)]
    drawn = seeds[(seeds["run"] == run) & (seeds["statistic"] == name)]
    small = {"color": faint(style.colour, 0.55), "size": 5, "symbol": "circle"}
    traces = [
        go.Scatter(
            x=factor * drawn["value"], y=[place + 0.22] * len(drawn), mode="markers", marker=small,
            name=f"{run} seeds", customdata=drawn["seed"],
            hovertemplate=f"{run}, seed %{{customdata}}: %{{x:.4g}}<extra></extra>",
        ),
        _mean(own, run, name, place, ""),
    ]  # fmt: skip
    if other is not None:
        full = other[(other["run"] == run) & (other["statistic"] == name)]
        if len(full):
            traces.append(_mean(full, run, name, place - 0.26, ", DDPM"))
    return traces


def _mean(own: pd.DataFrame, run: str, name: str, place: float, sampler: str) -> go.Scatter:
    style, mark = run_style(run), MARKS[name]
    marker = style.points(7 if sampler else 10)
    if sampler:
        marker["symbol"] = f"{style.marker}-open"
    words = own[["low", "high", "seeds", "n"]].assign(
        low=mark.factor * own["low"], high=mark.factor * own["high"]
    )
    return go.Scatter(
        x=mark.factor * own["value"], y=[place] * len(own), mode="markers", marker=marker,
        error_x=_error(own, mark.factor), name=f"{run}{sampler}", customdata=words,
        hovertemplate=f"{run}{sampler}: %{{x:.4g}}<br>95 % interval %{{customdata[0]:.4g}} to "
        "%{customdata[1]:.4g}<br>%{customdata[2]} seeds of %{customdata[3]} images<extra></extra>",
    )  # fmt: skip


def _error(own: pd.DataFrame, factor: float) -> dict:
    return {"array": (factor * own["spread"]).fillna(0), "thickness": 1.5, "width": 4}


def _behind(figure: go.Figure, rows: pd.DataFrame, statistic: str, number: int) -> None:
    """Another run's lines, faint, for comparison."""
    for _, own in rows.groupby("line", sort=False):
        own = own.sort_values("at")
        figure.add_trace(
            go.Scatter(
                x=own["at"], y=MARKS[statistic].factor * own["value"], mode="lines",
                line={"color": faint(MUTED, 0.28), "width": 1}, hoverinfo="skip", name="behind",
            ),
            **place_of(number),
        )  # fmt: skip


def _curve(own: pd.DataFrame, run: str, line: str, statistic: str, sweep: Sweep) -> go.Scatter:
    mark, style, own = MARKS[statistic], run_style(run), own.sort_values("at")
    raw = line == RAW
    marker = style.points(8)
    words = own[["run", "line", "at", "low", "high", "seeds", "n", "spread"]].copy()
    words[["low", "high", "spread"]] *= mark.factor
    words["error"] = [
        f"<br>profile missed by {100 * error:.0f} %" if error > 0.005 else ""
        for error in own.get("error", pd.Series(0.0, index=own.index))
    ]
    return go.Scatter(
        x=own["at"].tolist(),  # a list: plotly's copy of an array cannot be looked into
        y=(mark.factor * own["value"]).tolist(),
        mode="lines+markers",
        name=f"{run}, {line}",
        line={"color": style.colour, "width": 1.5 if raw else 2.5,
              "dash": "dot" if raw else "solid"},
        marker=marker | {"symbol": f"{style.marker}-open"} if raw else marker,
        error_y=_error(own, mark.factor),
        customdata=words,
        unselected={"marker": {"opacity": 1}},
        hovertemplate=f"{run}, {line}<br>{sweep.unit} %{{x:,}}<br>{mark.title} %{{y:.4g}} ± "
        "%{customdata[7]:.2g} over %{customdata[5]} seeds of %{customdata[6]} images<br>95 % "
        "interval %{customdata[3]:.4g} to %{customdata[4]:.4g}%{customdata[8]}<extra></extra>",
    )  # fmt: skip


def _axes(
    figure: go.Figure,
    rows: pd.DataFrame,
    statistic: str,
    floor: Mapping[str, float],
    sweep: Sweep,
) -> None:
    low, high = _limits(rows, statistic, floor)
    values = MARKS[statistic].factor * rows["value"]
    if statistic == FRECHET and values.min() > 0 and high / values.min() > FAR_APART:
        least = min(float(values.min()), floor.get(statistic, math.inf))
        ends = [math.log10(0.85 * least), math.log10(1.05 * high)]
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if t <= high]
        figure.update_yaxes(type="log", range=ends, tickvals=ticks)
    else:
        figure.update_yaxes(range=[low, high])
    ends = [float(rows["at"].min()), float(rows["at"].max())]
    ticks = list(sweep.ticks) or None
    if sweep.log:
        room = 0.08 * math.log10(ends[1] / ends[0]) if ends[1] > ends[0] else 0.1
        reach = [math.log10(ends[0]) - room, math.log10(ends[1]) + room]
        words = [f"{tick:g}" for tick in ticks] if ticks else None
        figure.update_xaxes(type="log", range=reach, tickvals=ticks, ticktext=words)
    else:
        room = 0.08 * (ends[1] - ends[0]) or 0.1 * ends[1]
        figure.update_xaxes(range=[ends[0] - room, ends[1] + room], tickvals=ticks, nticks=5)


def _limits(rows: pd.DataFrame, statistic: str, floor: Mapping[str, float]) -> tuple[float, float]:
    """From the lowest to the highest mark with its spread, the floor among them."""
    factor, spread = MARKS[statistic].factor, rows["spread"].fillna(0)
    real = [factor * floor[statistic]] if statistic in floor else []
    low = min([*(factor * (rows["value"] - spread)), *real])
    high = max([*(factor * (rows["value"] + spread)), *real])
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def _name_marks(
    figure: go.Figure, rows: pd.DataFrame, factor: float, limits: tuple[float, float]
) -> None:
    """Write each run's name beside its mark, pushed up where two would overlap."""
    scale = (HEIGHT - 104) / (limits[1] - limits[0])
    places = rows["at"].tolist()
    taken: list[tuple[float, float]] = []
    for row in rows.sort_values("value").to_dict("records"):
        place = height = scale * (factor * row["value"] - limits[0])
        for x, y in sorted(taken):
            if x == row["at"] and abs(height - y) < LABEL_SPACE:
                height = y + LABEL_SPACE
        taken.append((row["at"], height))
        left = _leftward(row["at"], places, len(row["run"]))
        figure.add_annotation(
            x=row["at"], y=factor * row["value"], text=row["run"], showarrow=False,
            xanchor="right" if left else "left", xshift=-11 if left else 11, yshift=height - place,
            font={"color": run_style(row["run"]).colour, "size": 12},
        )  # fmt: skip


def _leftward(at: float, places: Sequence[float], letters: int) -> bool:
    """Whether a name has more room left of its mark, and too little at the right."""
    scale = NARROW / max(max(places) - min(places), 1.0)
    right = min((scale * (x - at) for x in places if x > at), default=math.inf)
    left = min((scale * (at - x) for x in places if x < at), default=0.0)
    return right < 7 * letters + 11 and left > right + 1
