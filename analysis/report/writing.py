"""Write a report: gather the tables of every page, draw its figures, list them in an index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.saved import plotly_script
from analysis.question import in_words
from analysis.report.chapter import Chapter, Part, Shown
from analysis.report.files import FIGURES, ReportFolder, file_names
from analysis.report.gather import NOT_SAMPLED, Found, gathered, reason_of, sentences
from analysis.report.pages import figure_html, index_html
from analysis.store import Store
from mpdit_core.errors import MPDiTError
from mpdit_core.progress import track
from mpdit_core.runs import Run, Weights
from mpdit_core.runs.shapes import parameter_count
from mpdit_core.words import listed


@dataclass(frozen=True)
class Wanted:
    """What a report is made of. weights: reported of each run, by its name; unusable: name and
    reason of what cannot be opened; sampling: whether images are drawn for what is not stored."""

    runs: tuple[Run, ...]
    weights: Mapping[str, str]
    parts: tuple[Part, ...]
    unusable: tuple[tuple[str, str], ...] = ()
    sampling: bool = False

    @property
    def weights_words(self) -> str:
        """The weights of all runs: `EMA 10 %`, or each with its runs where they differ."""
        by_words: dict[str, list[str]] = {}
        for run in self.runs:
            words = Weights.parse(self.weights[run.name]).words
            by_words.setdefault(words, []).append(run.name)
        if len(by_words) == 1:
            return next(iter(by_words))
        return "; ".join(f"{words} of {listed(names)}" for words, names in by_words.items())


def write_report(wanted: Wanted, store: Store, out: Path) -> Path:
    """Write tables, figures and index into the folder; returns the index.

    Results that are computed are kept in the store, so a killed report goes on where it was.
    Raises AlreadyExists for a folder that holds something else."""
    folder = ReportFolder(out)
    folder.text(f"{FIGURES}/plotly.min.js", plotly_script())
    parts = [_part(part, wanted, store, folder) for part in track(wanted.parts, "Pages")]
    content = {
        "weights": wanted.weights_words,
        "runs": [_run(run, wanted.weights[run.name]) for run in wanted.runs],
        "unusable": wanted.unusable,
        "parts": parts,
        "not_sampled": any(part["not_sampled"] for part in parts),
    }
    folder.text("index.html", index_html(content))
    folder.finish()
    return out / "index.html"


def _run(run: Run, weights: str) -> dict[str, Any]:
    config = run.config
    try:
        checkpoint = run.checkpoint_sha256(weights)
    except MPDiTError as error:
        checkpoint = str(error)
    return {
        "name": run.name,
        "weights": Weights.parse(weights).words,
        "checkpoint": checkpoint,
        "steps": max((*run.steps, *(step for _, step, _ in run.snapshots())), default=0),
        "size": f"{config.depth} blocks, width {config.width}",
        "parameters": parameter_count(config),
        "modulation": " ".join(config.block_modulation) or "none",
        "data": run.data.name,
    }


def _part(part: Part, wanted: Wanted, store: Store, folder: ReportFolder) -> dict[str, Any]:
    """What the index says of one page, after its files are written."""
    found = {
        source.name: gathered(source, wanted.runs, wanted.weights, store, wanted.sampling)
        for source in track(part.sources, f"Tables of {part.title}")
    }
    tables = {name: _table(each, folder) for name, each in found.items()}
    chapters = track(part.chapters, f"Figures of {part.title}")
    drawn = [_Writing(chapter, wanted, found, folder).content(tables) for chapter in chapters]
    return {
        "place": part.place,
        "title": part.title,
        "question": part.question,
        "chapters": drawn,
        "not_sampled": any(NOT_SAMPLED in each.reasons for each in found.values()),
    }


def _table(found: Found, folder: ReportFolder) -> dict[str, Any]:
    """What the index says of a table, and how it was computed."""
    asked = found.source.question
    return {
        "files": folder.table(found.source.name, found.table) if len(found.table) else (),
        "name": found.source.name,
        "rows": len(found.table),
        "n": n_in_words(found.table),
        "question": asked.name,
        "version": asked.version,
        "documentation": (getdoc(asked) or "").replace("\n\n", "\n"),
        "settings": [in_words(settings) for settings in found.settings],
        "made_from": found.made_from,
    }


def n_in_words(table: pd.DataFrame) -> str:
    """What the numbers are means over, as far as the table says.

    >>> n_in_words(pd.DataFrame({"n": [20, 2560]}))
    '20 to 2,560'
    """
    if "n" not in table or table["n"].dropna().empty:
        return ""
    low, high = table["n"].min(), table["n"].max()
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


@dataclass(frozen=True)
class _Writing:
    """One chapter on its way into the folder."""

    chapter: Chapter
    wanted: Wanted
    found: Mapping[str, Found]
    folder: ReportFolder

    def content(self, tables: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """What the index says of it."""
        chapter, shown = self.chapter, self._shown()
        names = [source.name for source in (*chapter.sources, *chapter.beside)]
        missing = sentences(self.found[name] for name in names)
        content: dict[str, Any] = {
            "name": chapter.name, "title": chapter.title, "answer": "",
            "sources": [tables[name] for name in names], "figures": [], "rows": None,
        }  # fmt: skip
        if shown is not None:
            self._fill(content, shown, missing)
        return content | {"missing": list(dict.fromkeys(missing))}

    def _fill(self, content: dict[str, Any], shown: Shown, missing: list[str]) -> None:
        chapter = self.chapter
        every = [shown.of(run) for run in shown.runs] if chapter.each_run else [shown]
        for one in every:
            try:
                lacking = chapter.lacking(one)
                if lacking:
                    missing.append(lacking)
                    continue
                self._draw(content, one)
            except Exception as error:
                missing.append(reason_of(error, self._where(one)))

    def _draw(self, content: dict[str, Any], shown: Shown) -> None:
        chapter = self.chapter
        answer = chapter.answer(shown) if chapter.answer else ""
        run = shown.run.name if chapter.each_run else ""
        if chapter.figure is not None:
            file = self._figure(shown, answer)
            content["figures"].append({"run": run, "file": file, "answer": answer})
        if not chapter.each_run:
            content["answer"] = answer
        if chapter.rows is not None:
            rows = chapter.rows(shown)
            files = self.folder.table(chapter.name, rows)
            content["rows"] = {"files": files, "rows": len(rows), "name": chapter.name, "n": ""}

    def _figure(self, shown: Shown, answer: str) -> str:
        chapter = self.chapter
        figure = chapter.figure(shown) if chapter.figure else None
        title = f"{shown.run.name}: {chapter.title}" if chapter.each_run else chapter.title
        stem = chapter.name
        if chapter.each_run:
            stem = f"{stem}--{file_names([run.name for run in self.wanted.runs])[shown.run.name]}"
        back = f"../index.html#{chapter.name}"
        html = figure_html(figure, title, answer, back)
        return self.folder.text(f"{FIGURES}/{stem}.html", html)

    def _where(self, shown: Shown) -> str:
        chapter = self.chapter
        return f"{chapter.title} of {shown.run.name}" if chapter.each_run else chapter.title

    def _shown(self) -> Shown | None:
        """The runs that have rows in all that is needed; None where there are none."""
        chapter, wanted = self.chapter, self.wanted
        needed = [self.found[source.name].runs for source in chapter.sources]
        runs = tuple(run for run in wanted.runs if all(run.name in names for names in needed))
        if not runs:
            return None
        used: Sequence[Any] = (*chapter.sources, *chapter.beside)
        tables = {source.name: self.found[source.name].table for source in used}
        return Shown(runs, tables, wanted.weights_words, runs[-1], wanted.weights)
