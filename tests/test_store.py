"""Results on disk: found by content, whole or absent, computed once."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from pydantic import BaseModel, ConfigDict

from analysis.question import question
from analysis.store import Store, store_for, user_cache
from mpdit_core.errors import Cancelled
from mpdit_core.progress import reporting


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True)
    samples: int = 4
    labels: tuple[int, ...] = ()


@dataclass
class FakeRun:
    """The part of a run that the store asks for."""

    name: str = "A"
    content: str = "a"
    raw_files: dict[int, Path] = field(default_factory=dict)
    ema_files: dict[float, dict[int, Path]] = field(default_factory=dict)

    def identity(self, weights) -> str:
        return f"{self.content}/{weights}"

    def checkpoint_sha256(self, weights) -> str:
        return f"sha of {self.content}"


CALLS: list[str] = []


@question(version=1)
def counted(run: FakeRun, weights: str, settings: Settings) -> pd.DataFrame:
    """One row per sample."""
    CALLS.append(run.name)
    numbers = [0.1 * number for number in range(settings.samples)]
    return pd.DataFrame({"run": run.name, "weights": weights, "value": numbers})


@question(version=2)
def renewed(run: FakeRun, weights: str, settings: Settings) -> pd.DataFrame:
    return counted.compute(run, weights, settings)


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "mine")


def test_a_result_is_computed_once_and_then_read(store):
    first = store.result(counted, FakeRun(), "final", Settings())
    second = store.result(counted, FakeRun(), "final", Settings())
    assert CALLS == ["A"]
    assert_frame_equal(first, second)
    assert list(first.columns) == ["run", "weights", "value"] and len(first) == 4


def test_whatever_changes_the_numbers_changes_the_key(store):
    run, settings = FakeRun(), Settings()
    keys = [
        store.key(counted, run, "final", settings),
        store.key(renewed, run, "final", settings),
        store.key(counted, run, "initial", settings),
        store.key(counted, FakeRun(content="b"), "final", settings),
        store.key(counted, run, "final", Settings(samples=5)),
        store.key(counted, run, "final", Settings(labels=(1,))),
    ]
    assert len(set(keys)) == len(keys)
    assert store.key(counted, FakeRun(name="copy"), "final", Settings(samples=4)) == keys[0]


def test_a_new_version_of_the_same_analysis_is_computed_again(store):
    newer = question(version=2)(counted.compute)
    store.result(counted, FakeRun(), "final", Settings())
    store.result(newer, FakeRun(), "final", Settings())
    assert newer.name == counted.name and CALLS == ["A", "A"]


def test_what_reads_all_saved_weights_depends_on_each_of_them(store, tmp_path):
    @question(version=1, of="run")
    def history(run: FakeRun, weights: str, settings: Settings) -> pd.DataFrame:
        return counted.compute(run, weights, settings)

    for name in ("first", "last", "copy"):
        (tmp_path / name).write_text(name.replace("copy", "last"))
    both = {0: tmp_path / "first", 9: tmp_path / "last"}
    runs = [
        FakeRun(raw_files=both),
        FakeRun(raw_files={9: tmp_path / "last"}),
        FakeRun(raw_files={0: tmp_path / "first", 8: tmp_path / "last"}),
        FakeRun(raw_files=both, ema_files={0.1: {9: tmp_path / "last"}}),
        FakeRun(raw_files=both, ema_files={0.05: {9: tmp_path / "last"}}),
    ]
    keys = [store.key(history, run, "final", Settings()) for run in runs]
    assert len(set(keys)) == len(runs)
    copied = FakeRun(name="B", raw_files={0: tmp_path / "first", 9: tmp_path / "copy"})
    assert store.key(history, copied, "final", Settings()) == keys[0]
    assert len({store.key(counted, run, "final", Settings()) for run in runs}) == 1


def test_a_copied_run_finds_its_result_under_its_own_name(store):
    store.result(counted, FakeRun("A"), "final", Settings())
    table = store.result(counted, FakeRun("copy of A"), "final", Settings())
    assert CALLS == ["A"] and set(table["run"]) == {"copy of A"}


def test_shipped_results_are_read_and_never_written(tmp_path, store):
    shipped = Store(tmp_path / "shipped")
    shipped.result(counted, FakeRun(), "final", Settings())
    both = Store(tmp_path / "mine", (tmp_path / "shipped",))
    both.result(counted, FakeRun(), "final", Settings())
    both.result(counted, FakeRun(), "initial", Settings())
    assert CALLS == ["A", "A"]
    assert len(list((tmp_path / "shipped").glob("*.parquet"))) == 1
    assert len(list((tmp_path / "mine").glob("*.parquet"))) == 1


@pytest.mark.parametrize("harm", ["truncated", "emptied", "replaced"])
def test_a_damaged_file_counts_as_absent_and_is_replaced(store, harm, caplog):
    key = store.key(counted, FakeRun(), "final", Settings())
    store.result(counted, FakeRun(), "final", Settings())
    path = next(store.write_to.glob("*.parquet"))
    content = path.read_bytes()
    damaged = {"truncated": content[: len(content) // 2], "emptied": b"", "replaced": b"hello" * 9}
    path.write_bytes(damaged[harm])
    assert store.load(key) is None and store.about(key) is None and not store.has(key)
    assert "damaged" in caplog.text
    assert len(store.result(counted, FakeRun(), "final", Settings())) == 4
    assert path.read_bytes() != damaged[harm] and CALLS == ["A", "A"]


def test_a_damaged_file_of_ones_own_does_not_hide_a_shipped_one(tmp_path):
    Store(tmp_path / "shipped").result(counted, FakeRun(), "final", Settings())
    both = Store(tmp_path / "mine", (tmp_path / "shipped",))
    key = both.key(counted, FakeRun(), "final", Settings())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"{key}.parquet").write_bytes(b"PAR1")
    assert both.load(key) is not None


def test_the_file_says_what_it_was_computed_from(store):
    store.result(counted, FakeRun(), "final", Settings(samples=3))
    path = next(store.write_to.glob("*.parquet"))
    about = store.about(path.stem)
    assert about is not None and about["seconds"] >= 0
    kept = {"question": "counted", "version": 1, "run": "A", "weights": "final"}
    assert kept.items() <= about.items()
    assert about["settings"] == {"samples": 3, "labels": []}
    assert about["checkpoint"] == "sha of a"
    assert b"counted" in pq.read_schema(path).metadata[b"mpdit"]


def test_an_interrupted_write_leaves_nothing_behind(store, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        store.save("key", pd.DataFrame({"x": [1]}), {})
    assert list(store.write_to.iterdir()) == []


def test_four_who_ask_at_once_compute_once(store):
    @question(version=1)
    def slow(run: FakeRun, weights: str, settings: Settings) -> pd.DataFrame:
        time.sleep(0.3)
        return counted.compute(run, weights, settings)

    tables: list[pd.DataFrame] = []

    def ask() -> None:
        tables.append(store.result(slow, FakeRun(), "final", Settings()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert CALLS == ["A"] and len(tables) == 4


def test_one_who_waits_for_another_process_can_still_cancel(store):
    held, release = threading.Event(), threading.Event()

    @question(version=1)
    def endless(run: FakeRun, weights: str, settings: Settings) -> pd.DataFrame:
        held.set()
        release.wait(30)
        return counted.compute(run, weights, settings)

    ask = (endless, FakeRun(), "final", Settings())
    holder = threading.Thread(target=store.result, args=ask)
    holder.start()
    held.wait(10)

    def cancel(what: str, done: int, total: int) -> None:
        raise Cancelled(what)

    with reporting(cancel), pytest.raises(Cancelled):
        store.result(*ask)
    release.set()
    holder.join()


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("MPDIT_CACHE", str(tmp_path / "here"))
    assert user_cache() == tmp_path / "here"
    monkeypatch.delenv("MPDIT_CACHE")
    assert user_cache().name == "mpdit"


def test_results_beside_the_runs_are_found(tmp_path):
    (tmp_path / "results").mkdir()
    assert store_for([tmp_path / "digits"]).folders[1:] == (tmp_path / "results",)
    assert store_for([tmp_path]).folders[1:] == (tmp_path / "results",)
    assert store_for([Path("nowhere")]).folders[1:] == ()


def test_an_analysis_must_take_frozen_settings():
    class Loose(BaseModel):
        samples: int = 1

    def loose(run: FakeRun, weights: str, settings: Loose) -> pd.DataFrame:
        return pd.DataFrame()

    def short(run: FakeRun) -> pd.DataFrame:
        return pd.DataFrame()

    def unknown(run: FakeRun, weights: str, settings: dict) -> pd.DataFrame:
        return pd.DataFrame()

    for wrong, word in ((loose, "frozen"), (short, "three"), (unknown, "pydantic")):
        with pytest.raises(TypeError, match=word):
            question(version=1)(wrong)


def test_a_question_keeps_the_name_and_words_of_its_function():
    assert (counted.name, counted.version, counted.settings_type) == ("counted", 1, Settings)
    assert counted.__doc__ == "One row per sample."
    assert len(counted(FakeRun(), "final", Settings(samples=2))) == 2
