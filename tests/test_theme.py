"""Colours, markers and scales of every figure."""

import math

import plotly.graph_objects as go
import pytest

from analysis.figures.theme import (
    BACKGROUND,
    DIVERGING,
    MUTED,
    RUN_STYLES,
    TEXT,
    around_one,
    block_axis,
    finish,
    in_run_order,
    label_line_ends,
    mark_one,
    run_style,
    template,
    timestep_axis,
)

OTHER_NAMES = ("mine", "lr-1e-3", "baseline", "zebra", "2026-11-24", "warm-up", "x")


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("background", BACKGROUND)
@pytest.mark.parametrize("name", [*RUN_STYLES, *OTHER_NAMES])
def test_every_run_can_be_seen_on_both_backgrounds(name, background):
    assert contrast(run_style(name).colour, BACKGROUND[background]) >= 3


@pytest.mark.parametrize("background", BACKGROUND)
def test_text_can_be_read_and_muted_lines_be_seen_on_both_backgrounds(background):
    assert contrast(TEXT[background], BACKGROUND[background]) >= 7
    assert contrast(MUTED, BACKGROUND[background]) >= 3


def test_no_two_known_runs_share_colour_and_neighbours_share_neither_marker_nor_dash():
    styles = list(RUN_STYLES.values())
    assert len({style.colour for style in styles}) == len(styles)
    for group in (styles[:5], styles[5:]):
        assert len({style.marker for style in group}) == len(group)
        assert len({style.dash for style in group}) == len(group)


def test_a_run_has_one_style_whatever_joins_the_words_of_its_name():
    names = ("scale-gate-rotation", "scale_gate_rotation", "E scale+gate+rotation")
    assert len({run_style(name) for name in names}) == 1
    assert run_style("E").colour == "#a475e2" and run_style("mine") == run_style("mine")


def test_runs_stand_in_the_order_of_the_ladder_then_the_study_then_by_name():
    names = ["zebra", "rotation", "E", "apple", "A", "shift-scale-gate", "B", "A"]
    assert in_run_order(names)[:5] == ["A", "B", "E", "shift-scale-gate", "rotation"]
    assert in_run_order(names)[5:] == ["apple", "zebra"]


def test_half_and_double_are_equally_far_from_white():
    scale = around_one([0.5, 1.0, 1.9])
    assert scale["zmin"] == -scale["zmax"] == -1
    assert DIVERGING[2] == (0.5, "#ffffff")
    ends = [luminance(DIVERGING[place][1]) for place in (0, -1)]
    assert abs(ends[0] - ends[1]) < 0.02
    inner = [luminance(DIVERGING[place][1]) for place in (1, 3)]
    assert abs(inner[0] - inner[1]) < 0.06


def test_the_colour_bar_shows_values_and_not_their_logarithms():
    bar = around_one([0.25, 8.0])["colorbar"]
    assert dict(zip(bar["tickvals"], bar["ticktext"], strict=True))[0] == "1"
    assert bar["ticktext"] == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]


def test_a_scale_survives_what_has_no_logarithm():
    assert around_one([0.0, -1.0, math.nan, math.inf])["zmax"] == 1
    assert around_one([])["zmax"] == 1


def test_timesteps_run_from_noise_to_image_and_the_axis_says_so():
    figure = timestep_axis(go.Figure(go.Scatter(x=[999, 0], y=[1, 2])))
    assert figure.layout.xaxis.range[0] > 999 > 0 > figure.layout.xaxis.range[1]
    assert "999 = noise" in figure.layout.xaxis.title.text


def test_blocks_have_whole_ticks_counted_from_one():
    assert list(block_axis(go.Figure(), 6).layout.xaxis.tickvals) == [1, 2, 3, 4, 5, 6]
    assert len(block_axis(go.Figure(), 28).layout.xaxis.tickvals) <= 14


def test_a_line_is_named_at_its_end_in_its_colour():
    line = go.Scatter(x=[1, 2], y=[10, 100], name="E", line=run_style("E").line())
    figure = label_line_ends(go.Figure(line))
    (label,) = figure.layout.annotations
    assert (label.x, label.y, label.text, label.font.color) == (2, 100, "E", "#a475e2")
    figure = label_line_ends(go.Figure(line, {"yaxis": {"type": "log"}}))
    assert figure.layout.annotations[0].y == 2 and figure.layout.showlegend is False


def test_a_finished_figure_is_for_white_and_takes_the_look_of_the_dark():
    figure = mark_one(finish(go.Figure(go.Scatter(x=[1], y=[1])), "Magnitude by block"))
    assert figure.layout.template.layout.font.color == TEXT["light"]
    figure.update_layout(template=template("dark"))
    assert figure.layout.template.layout.font.color == TEXT["dark"]
    assert figure.layout.title.text == "Magnitude by block"
    assert figure.layout.uirevision is not None and figure.layout.height > 0
