"""The runs that ship: how their rates were found, what ships of them, what lies in the folder."""

import json
import math
from pathlib import Path

import pytest

from analysis.defaults import SHOWN, all_defaults
from analysis.precompute import tasks
from analysis.quality import (
    NEAREST,
    OUTSIDE,
    RECOGNIZED,
    EvaluateSettings,
    sample_quality,
    summary,
)
from analysis.store import Store
from mpdit_core import BrokenRun, find_runs, load_run, preset
from mpdit_core.config import TrainConfig
from mpdit_core.data import digits
from mpdit_core.errors import NoSuchWeights
from mpdit_core.shipped import JUDGED_BY, climb, configs, ship
from mpdit_core.training import train

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "checkpoints"
LARGEST = 150 * 2**20
ENDINGS = {".safetensors", ".parquet", ".json", ".jsonl"}

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("best", [1e-3, 2e-3, 8e-3, 64e-3])
def test_the_search_ends_at_a_rate_with_a_worse_one_on_both_sides(best):
    losses = climb(lambda rate: abs(math.log2(rate / best)), start=2e-3)
    found = min(losses, key=losses.__getitem__)
    assert found == pytest.approx(best)
    assert losses[found * 2] > losses[found] < losses[found / 2]


def test_a_diverged_rate_is_never_chosen():
    losses = climb(lambda rate: math.inf if rate > 2e-3 else 1 / rate, start=2e-3)
    assert min(losses, key=losses.__getitem__) == 2e-3


def test_a_shipped_run_has_no_resumable_state_and_fewer_snapshots(tmp_path):
    every = {"save_every": 500, "ema_every": 500, "state_every": 500, "evaluate_every": 5000}
    training = TrainConfig(steps=3, batch=4, warmup=1, **every | {"save_every": 1, "ema_every": 1})
    train(tmp_path / "B", preset("B", depth=1, width=8, heads=2), training, digits())
    ship(tmp_path / "B", tmp_path / "shipped" / "B")
    shipped = load_run(tmp_path / "shipped" / "B")
    assert shipped.steps == (0, 3)
    assert shipped.ema_steps == {0.05: (3,), 0.1: (3,)}
    assert not (shipped.folder / "state").exists()


@pytest.fixture(scope="module")
def shipped():
    runs = find_runs(SHIPPED / "digits")
    assert not [run.reason for run in runs if isinstance(run, BrokenRun)]
    return {run.name: run for run in runs}


def test_ten_runs_ship_each_with_its_first_last_and_some_weights_between(shipped):
    assert set(configs()) == set(shipped)
    for name, run in shipped.items():
        assert run.config == configs()[name]
        assert run.steps[0] == 0 and len(run.steps) >= 4
        assert all(len(steps) >= 3 for steps in run.ema_steps.values())
        assert run.status == "finished"


def test_shipped_runs_differ_in_nothing_but_config_and_learning_rate(shipped):
    trainings = {run.training.model_copy(update={"learning_rate": 1.0}) for run in shipped.values()}
    assert len(trainings) == 1
    assert len({run.steps[-1] for run in shipped.values()}) == 1
    assert len({run.data for run in shipped.values()}) == 1


def test_each_learning_rate_beat_its_double_and_its_half(shipped):
    rows = json.loads((SHIPPED / "digits" / "sweep.json").read_text())
    for name, run in shipped.items():
        tried = {
            row["learning_rate"]: math.inf if row[JUDGED_BY] is None else row[JUDGED_BY]
            for row in rows
            if row["run"] == name
        }
        rate = run.training.learning_rate
        assert tried[rate] == min(tried.values())
        assert {rate / 2, rate * 2} <= set(tried)


def test_the_log_holds_training_and_heldout_loss_of_raw_and_averaged_weights(shipped):
    for run in shipped.values():
        last = run.metrics()[-1]
        assert last["step"] == run.steps[-1]
        assert 0 < last["loss"] < 0.2
        assert 0 < last["heldout_loss_ema_0.100"] <= last["heldout_loss"] < 0.2


def test_the_folder_is_small_and_holds_no_code():
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    tracked = [path for path in files if not {".work", "state"} & set(path.parts)]
    assert {path.suffix for path in tracked} <= ENDINGS
    assert sum(path.stat().st_size for path in tracked) <= LARGEST


def test_what_every_page_shows_first_is_stored_for_the_shipped_runs_and_nothing_else(shipped):
    runs, defaults = list(shipped.values()), tuple(all_defaults())
    store = Store(SHIPPED / "results")
    assert tasks(runs, defaults, store.write_to) == []
    asked = {
        store.key(default.question, run, weights, default.settings)
        for default in defaults
        for weights in default.weights
        for run in runs
        if not default.runs or run.name in default.runs
        if _has(run, weights)
    }
    assert {file.stem for file in store.write_to.glob("*.parquet")} == asked


@pytest.mark.parametrize("name", "ABCDE")
def test_samples_of_every_config_are_recognized_and_no_copies(shipped, name):
    marks = _marks(shipped[name])
    assert marks["samples", RECOGNIZED] >= 0.95
    assert marks["held-out", RECOGNIZED] >= 0.97
    assert marks["samples", NEAREST] >= marks["held-out", NEAREST]


def test_the_best_samples_are_recognized_97_times_in_100_and_none_left_the_range(shipped):
    every = {name: _marks(run) for name, run in shipped.items()}
    assert max(marks["samples", RECOGNIZED] for marks in every.values()) >= 0.97
    for marks in every.values():
        assert marks["samples", NEAREST] >= marks["held-out", NEAREST]
        assert marks["samples", OUTSIDE] == 0


def _has(run, weights):
    try:
        run.checkpoint_sha256(weights)
    except NoSuchWeights:
        return False
    return True


def _marks(run):
    """Means over the sampling seeds, without guidance, of what ships with the run."""
    store = Store(SHIPPED / "results")
    table = store.load(store.key(sample_quality, run, SHOWN, EvaluateSettings()))
    return summary(table).set_index(["images", "statistic"])["value"]
