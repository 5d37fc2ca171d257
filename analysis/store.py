"""Results on disk, found again by anyone who asks the same question of the same weights.

A result is one Parquet file named by its key. The settings and what they were computed from stand
in the file's own metadata, so that a file explains itself when it is copied elsewhere.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from pydantic import BaseModel

from analysis.question import Question
from mpdit_core.progress import track
from mpdit_core.runs.files import sha256_of, write_atomically

if TYPE_CHECKING:
    from mpdit_core.runs import Run, Weights

T = TypeVar("T")

_METADATA = b"mpdit"
_DAMAGED = (OSError, ValueError, KeyError, pa.ArrowException)
_logger = logging.getLogger(__name__)


class Store:
    """Results by key, in `write_to` and, read only, in the folders `also_read`.

    Safe for several threads and processes at once: files appear whole or not at all."""

    def __init__(self, write_to: Path, also_read: Sequence[Path] = ()):
        self.write_to = Path(write_to)
        self.folders = (self.write_to, *map(Path, also_read))

    def key(
        self, question: Question, run: "Run", weights: "Weights | str", settings: BaseModel
    ) -> str:
        """The sha256 (hex) of weights, question, version and settings: what the numbers depend on.

        The run's name is not part of it: a renamed or copied run finds its results again."""
        asked = {
            "weights": _identity(question, run, weights),
            "question": question.name,
            "version": question.version,
            "settings": settings.model_dump(mode="json"),
        }
        return hashlib.sha256(_canonical(asked).encode()).hexdigest()

    def load(self, key: str) -> pd.DataFrame | None:
        """The stored table, or None where there is none; a damaged file counts as none."""
        return self._first(key, lambda file: file.read().to_pandas())

    def about(self, key: str) -> dict[str, Any] | None:
        """What was stored with the table: question, settings, checkpoint, seconds; None if none."""
        return self._first(key, _about)

    def load_with_about(self, key: str) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """Both at once; None where there is none."""
        return self._first(key, lambda file: (file.read().to_pandas(), _about(file)))

    def _first(self, key: str, read: Callable[[pq.ParquetFile], T]) -> T | None:
        for path in self._files(key):
            try:
                with pq.ParquetFile(path) as file:
                    return read(file)
            except (*_DAMAGED, TypeError) as error:
                _logger.warning("The stored result %s is damaged, taken as absent: %s", path, error)
        return None

    def has(self, key: str) -> bool:
        """Whether a readable result is there; reads the file's footer only."""
        return self.about(key) is not None

    def save(self, key: str, table: pd.DataFrame, about: Mapping[str, Any]) -> Path:
        """Write the table atomically to the folder of one's own; returns the file's path.

        about: JSON-serializable; kept in the file's metadata."""
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        metadata = {**(arrow.schema.metadata or {}), _METADATA: _canonical(about).encode()}
        path = self.write_to / f"{key}.parquet"
        whole = arrow.replace_schema_metadata(metadata)
        write_atomically(path, lambda file: pq.write_table(whole, file, compression="zstd"))
        return path

    def result(
        self, question: Question, run: "Run", weights: "Weights | str", settings: BaseModel
    ) -> pd.DataFrame:
        """The stored table, or one computed now and stored; two askers at once compute once.

        Columns `run` and `weights`, where the table has them, name this run and these weights."""
        key = self.key(question, run, weights, settings)
        table = self.load(key)
        if table is None:
            with self._lock(key):
                table = self.load(key)
                if table is None:
                    table = self._compute(key, question, run, weights, settings)
        return named(table, run, weights)

    def _compute(
        self,
        key: str,
        question: Question,
        run: "Run",
        weights: "Weights | str",
        settings: BaseModel,
    ) -> pd.DataFrame:
        start = time.monotonic()
        table = question(run, weights, settings)
        about = {
            "question": question.name,
            "version": question.version,
            "settings": settings.model_dump(mode="json"),
            "run": run.name,
            "weights": str(weights),
            "checkpoint": run.checkpoint_sha256(weights),
            "identity": _identity(question, run, weights),
            "seconds": round(time.monotonic() - start, 3),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.save(key, table, about)
        return table

    def _files(self, key: str) -> list[Path]:
        paths = (folder / f"{key}.parquet" for folder in self.folders)
        return [path for path in paths if path.is_file()]

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Hold the lock of a key; while another process holds it, a cancel still gets through."""
        folder = self.write_to / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{key}.lock")
        while True:
            try:
                with lock.acquire(timeout=0.5):
                    yield
                    return
            except Timeout:
                list(track((), "waiting for another process that computes the same"))


def _about(file: pq.ParquetFile) -> dict[str, Any]:
    return json.loads(file.schema_arrow.metadata[_METADATA])


def named(table: pd.DataFrame, run: "Run", weights: "Weights | str") -> pd.DataFrame:
    """The table with this run's name and these weights in its columns `run` and `weights`.

    Results are found by the weights' content, so they may have been stored under another name."""
    labels = {"run": run.name, "weights": str(weights)}
    return table.assign(**{name: text for name, text in labels.items() if name in table.columns})


def _identity(question: Question, run: "Run", weights: "Weights | str") -> str:
    """The bytes that the table is made of, as a hash."""
    own = run.identity(weights)
    if question.of == "weights":
        return own
    raw = [["raw", step, sha256_of(file)] for step, file in sorted(run.raw_files.items())]
    averages = [
        [f"{sigma:g}", step, sha256_of(file)]
        for sigma, files in sorted(run.ema_files.items())
        for step, file in sorted(files.items())
    ]
    return hashlib.sha256(json.dumps([own, raw, averages]).encode()).hexdigest()


def user_cache() -> Path:
    """Where one's own results go: `$MPDIT_CACHE`, else `mpdit` in the platform's cache."""
    return Path(os.environ.get("MPDIT_CACHE") or user_cache_path("mpdit"))


def store_for(run_folders: Sequence[Path]) -> Store:
    """The user's store, which also reads the `results` that lie in or beside folders of runs."""
    beside = [
        folder for path in run_folders for folder in (path / "results", path.parent / "results")
    ]
    return Store(user_cache(), tuple(folder for folder in beside if folder.is_dir()))


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
