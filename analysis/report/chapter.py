"""What a report is made of, as data: chapters, each a figure or a table, and what they ask."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from pydantic import BaseModel

from analysis.question import Question
from analysis.sweep_point import SweepPoint
from mpdit_core.runs import Run

Figure = Any
"""A plotly figure; which plotly, only `analysis.figures` and the app know."""


def _nothing(_: Any) -> str:
    return ""


@dataclass(frozen=True)
class Source:
    """A table of the report: one question, asked of every run at one or more points.

    name: of its files. points: of a run and the weights that are reported. sampled: it draws
    images, which takes long, so it is computed only where that is asked for. lacking: why a run
    cannot be asked, or ""; partly: why a run lacks some of the points, or ""."""

    name: str
    question: Question
    points: Callable[[Run, str], Sequence[SweepPoint]]
    sampled: bool = False
    lacking: Callable[[Run], str] = _nothing
    partly: Callable[[Run], str] = _nothing


def asked(
    question: Question,
    settings: BaseModel | Callable[[Run], BaseModel],
    *,
    name: str = "",
    weights: Sequence[str] = (),
    sampled: bool = False,
    lacking: Callable[[Run], str] = _nothing,
) -> Source:
    """A question with these settings; weights: in place of those that are reported."""

    def points(run: Run, reported: str) -> list[SweepPoint]:
        own = settings(run) if callable(settings) else settings
        return [SweepPoint(run, each, own) for each in weights or (reported,)]

    stem = name or question.name.replace("_", "-")
    return Source(stem, question, points, sampled, lacking)


@dataclass(frozen=True)
class Shown:
    """What a figure is made of: runs that have all it needs, and tables by the source's name.

    weights: those reported, in words; reported: of each run, by its name; run: the one in
    focus."""

    runs: tuple[Run, ...]
    tables: Mapping[str, pd.DataFrame]
    weights: str
    run: Run
    reported: Mapping[str, str]

    def table(self, source: Source) -> pd.DataFrame:
        """The rows of these runs."""
        return self._of(source, self.names)

    def own(self, source: Source) -> pd.DataFrame:
        """The rows of the run in focus."""
        return self._of(source, [self.run.name])

    def _of(self, source: Source, names: Sequence[str]) -> pd.DataFrame:
        table = self.tables[source.name]
        return table if table.empty else table[table["run"].isin(names)].reset_index(drop=True)

    def of(self, run: Run) -> "Shown":
        """The same with this run in focus."""
        return replace(self, run=run)

    @property
    def names(self) -> list[str]:
        return [run.name for run in self.runs]

    @property
    def depths(self) -> dict[str, int]:
        return {run.name: run.config.depth for run in self.runs}


@dataclass(frozen=True)
class Chapter:
    """One figure (of all runs, or one of each), with its answer, or one table made of others.

    name: of its files. sources: tables without which there is nothing to show; beside: what is
    shown with them where it is there. rows: a table of its own. lacking: why nothing can be shown
    although the tables are there, or ""."""

    name: str
    title: str
    sources: tuple[Source, ...]
    figure: Callable[[Shown], Figure] | None = None
    answer: Callable[[Shown], str] | None = None
    rows: Callable[[Shown], pd.DataFrame] | None = None
    beside: tuple[Source, ...] = ()
    each_run: bool = False
    lacking: Callable[[Shown], str] = _nothing


@dataclass(frozen=True)
class Part:
    """What the report shows of one page; place: that page's in the address."""

    place: str
    title: str
    question: str
    chapters: tuple[Chapter, ...]

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every table the page needs, each once."""
        every = [source for c in self.chapters for source in (*c.sources, *c.beside)]
        return tuple({source.name: source for source in every}.values())


def nearest(values: Iterable[int], wanted: int) -> int:
    """The one of the values that is nearest, the first of two.

    >>> nearest([999, 400, 600], 500)
    400
    """
    return int(min(values, key=lambda value: abs(value - wanted)))
