"""Tables of a report: stored or computed; what is missing has a reason."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.report.chapter import Source
from analysis.store import Store, named
from analysis.sweep_point import SweepPoint
from mpdit_core.errors import Cancelled, MPDiTError
from mpdit_core.progress import track
from mpdit_core.runs import Run
from mpdit_core.words import listed

NOT_SAMPLED = "images are not drawn yet; that is slow and was not asked for"
_logger = logging.getLogger(__name__)


@dataclass
class Found:
    """The table of a source over all runs, and what it was computed from.

    made_from: what the store knows of each result; settings: each once; reasons: why something of
    a run is missing -> names of the runs."""

    source: Source
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    made_from: list[dict[str, Any]] = field(default_factory=list)
    settings: list[Any] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def runs(self) -> set[str]:
        """The runs that have rows."""
        return set() if self.table.empty else set(self.table["run"].unique())

    def lacks(self, run: Run, reason: str) -> None:
        names = self.reasons.setdefault(reason, [])
        if run.name not in names:
            names.append(run.name)


def sentences(found: Iterable[Found]) -> list[str]:
    """A sentence for each reason why something is missing; most name their run themselves."""
    reasons: dict[str, list[str]] = {}
    for reason, names in (item for each in found for item in each.reasons.items()):
        reasons.setdefault(reason, []).extend(names)
    told = [
        f"{listed(dict.fromkeys(names))}: {reason}" if reason == NOT_SAMPLED else reason
        for reason, names in reasons.items()
    ]
    return [f"{sentence.removesuffix('.')}." for sentence in told]


def gathered(
    source: Source, runs: Sequence[Run], weights: Mapping[str, str], store: Store, sampling: bool
) -> Found:
    """The source's table; weights: reported of each run, by its name.

    sampling: whether images may be drawn for what is not stored."""
    found, tables = Found(source), []
    for run in track(runs, source.question.name.replace("_", " ")):
        for point in _points(found, run, weights[run.name]):
            table = _result(found, point, store, sampling or not source.sampled)
            if table is not None:
                tables.append(point.placed(named(table, run, point.weights)))
    if tables:
        found.table = pd.concat(tables, ignore_index=True)
    return found


def _points(found: Found, run: Run, weights: str) -> Sequence[SweepPoint]:
    lacking = found.source.lacking(run)
    if lacking:
        found.lacks(run, lacking)
        return ()
    try:
        points, partly = found.source.points(run, weights), found.source.partly(run)
    except Exception as error:
        found.lacks(run, reason_of(error, run.name))
        return ()
    if partly or not points:
        found.lacks(run, partly or f"{run.name} has no {found.source.name.replace('-', ' ')}.")
    return points


def _result(found: Found, point: SweepPoint, store: Store, compute: bool) -> pd.DataFrame | None:
    """The stored table, or one computed now where that is allowed."""
    question, run = found.source.question, point.run
    try:
        key = store.key(question, run, point.weights, point.settings)
        if not compute and not store.has(key):
            found.lacks(run, NOT_SAMPLED)
            return None
        table = store.result(question, run, point.weights, point.settings)
    except Exception as error:
        found.lacks(run, reason_of(error, run.name))
        return None
    about = store.about(key) or {}
    found.made_from.append({**about, "run": run.name, "weights": point.weights})
    if point.settings not in found.settings:
        found.settings.append(point.settings)
    return table


def reason_of(error: Exception, where: str) -> str:
    """One sentence; of an error that is not ours its kind, the rest goes to the log."""
    if isinstance(error, Cancelled):
        raise error
    if isinstance(error, MPDiTError):
        said = " ".join(str(error).split())
        return said if where in said else f"{where}: {said}"
    _logger.error("Unexpected error: %s", where, exc_info=error)
    return f"{where}: something unexpected happened ({type(error).__name__})."
