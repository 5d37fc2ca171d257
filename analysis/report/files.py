"""Files of a report: whole or absent, named so that any file system takes them."""

import json
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from analysis.tables import spread_out
from mpdit_core.errors import AlreadyExists
from mpdit_core.runs.files import write_atomically, write_json

MARK, KIND = "report.json", "mpdit report"
TABLES, FIGURES = "tables", "figures"
LONGEST = 60


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Name of a run -> a part of a file's name, no two alike, on no file system.

    >>> file_names(["E", "a/b"])
    {'E': 'E', 'a/b': 'a-b-07f4401c'}
    """
    plain = {name: re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:LONGEST] for name in names}
    count = Counter(text.lower() for text in plain.values())
    return {
        name: text if text == name and count[text.lower()] == 1 else _told_apart(text, name)
        for name, text in plain.items()
    }


def _told_apart(text: str, name: str) -> str:
    return f"{text}-{zlib.crc32(name.encode()):08x}".lstrip("-")


class ReportFolder:
    """Where a report is written; files of an earlier report that this one lacks go at the end."""

    def __init__(self, folder: Path) -> None:
        """Raises AlreadyExists for a file, and for a folder with something else in it."""
        self.folder = folder
        self.written: list[str] = []
        self._before = _earlier(folder)
        self._mark()

    def text(self, name: str, content: str) -> str:
        """Write a text; returns its name, relative to the folder."""
        write_atomically(self.folder / name, lambda file: file.write(content.encode()))
        self.written.append(name)
        return name

    def table(self, stem: str, table: pd.DataFrame) -> tuple[str, str]:
        """Write a table as Parquet and as CSV, if it is not there yet; returns both names."""
        names = f"{TABLES}/{stem}.parquet", f"{TABLES}/{stem}.csv"
        if names[0] not in self.written:
            whole = pa.Table.from_pandas(table, preserve_index=False)
            flat = pa.Table.from_pandas(spread_out(table), preserve_index=False)
            write_atomically(self.folder / names[0], lambda file: pq.write_table(whole, file))
            write_atomically(self.folder / names[1], lambda file: pyarrow.csv.write_csv(flat, file))
            self.written += names
        return names

    def finish(self) -> None:
        """Remove what an earlier report wrote and this one did not."""
        for name in self._before - set(self.written):
            (self.folder / name).unlink(missing_ok=True)
        self._before = set()
        self._mark()

    def _mark(self) -> None:
        known = sorted(self._before | set(self.written))
        write_json(self.folder / MARK, {"kind": KIND, "files": known})


def _earlier(folder: Path) -> set[str]:
    """Names of the files that an earlier report wrote here."""
    if folder.exists() and not folder.is_dir():
        raise AlreadyExists(f"{folder} is a file; a report is a folder, new or empty")
    if not folder.is_dir() or not any(folder.iterdir()):
        return set()
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if mark["kind"] == KIND:
            return {str(name) for name in mark["files"] if _of_a_report(str(name))}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not ours, which is said below
    raise AlreadyExists(f"{folder} is not empty and holds no report; name a new or empty folder")


def _of_a_report(name: str) -> bool:
    """Whether a report may have written it: nobody's list makes us remove anything else."""
    return re.fullmatch(rf"(?:(?:{TABLES}|{FIGURES})/)?[\w][\w.-]*", name) is not None
