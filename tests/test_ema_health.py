"""What calls itself an EMA is checked: averages pass, near-copies and wrong widths are told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.ema_health import HealthSettings, ema_health, health_line, width_words
from mpdit_core.config import DataInfo, ModelConfig, preset
from mpdit_core.ema import PowerEMA, decay_factor, gamma_of
from mpdit_core.ema_health import examine
from mpdit_core.model import MPDiT
from mpdit_core.runs import load_run
from mpdit_core.runs.files import halved, write_json, write_tensors
from mpdit_core.runs.native import FORMAT_VERSION, ema_file, weights_file

STEPS = 1200
CONFIG = preset("A", depth=1, width=16, heads=2)
NAMES = [name for name, _ in MPDiT(CONFIG).named_parameters()]


@pytest.fixture(scope="module")
def path() -> list[dict[str, Tensor]]:
    """A made-up training: weights that settle, jitter and drift; the state after every step."""
    generator = torch.Generator().manual_seed(0)
    model = MPDiT(CONFIG)
    states, drift = [], {n: torch.randn(p.shape, generator=generator) for n, p in state(model)}
    walk = {name: torch.zeros_like(tensor) for name, tensor in drift.items()}
    for step in range(STEPS + 1):
        now = dict(model.state_dict())
        for name in NAMES:
            walk[name] = walk[name] + 0.01 * torch.randn(walk[name].shape, generator=generator)
            settled = 1 - np.exp(-step / 300)
            now[name] = now[name] + settled * drift[name] + walk[name]
        states.append(now)
    return states


def state(model: MPDiT) -> list[tuple[str, Tensor]]:
    return [(name, parameter.detach()) for name, parameter in model.named_parameters()]


def average(path, sigma_rel: float, upto: int = STEPS) -> dict[str, Tensor]:
    made = PowerEMA(sigma_rel, path[0], set(NAMES))
    for step in range(1, upto + 1):
        made.update(path[step], step)
    return made.state


def moving(path, share) -> dict[str, Tensor]:
    """An average that moves by share(step) of the way to the weights, at steps where it is > 0."""
    made = {name: tensor.clone() for name, tensor in path[0].items()}
    for step in range(1, STEPS + 1):
        for name in NAMES:
            made[name] = made[name].lerp(path[step][name], share(step))
    return made


def map_dit(path, sigma_rel: float) -> dict[str, Tensor]:
    """The authors' code: beta and 1 - beta swapped."""
    return moving(path, lambda step: decay_factor(gamma_of(sigma_rel), step))


def ema_pytorch(path, sigma_rel: float, every: int = 10) -> dict[str, Tensor]:
    """`PostHocEMA` 0.8.3: the one-step factor, applied every so many steps only."""
    gamma = gamma_of(sigma_rel)
    return moving(path, lambda s: 0.0 if s % every else 1 - decay_factor(gamma, s))


def run_with(folder: Path, path, averages: dict, raw_steps, config: ModelConfig = CONFIG):
    """A run folder with these averages, (sigma_rel, step) -> state, and raw weights."""
    about = {
        "format": FORMAT_VERSION, "name": folder.name, "status": "finished", "training": None,
        "model": config.model_dump(mode="json"), "data": DataInfo(name="digits").model_dump(),
    }  # fmt: skip
    write_json(folder / "run.json", about)
    for step in raw_steps:
        write_tensors(weights_file(folder, step), halved(path[step], set(NAMES)), {})
    for (sigma_rel, step), made in averages.items():
        write_tensors(ema_file(folder, sigma_rel, step), halved(made, set(NAMES)), {})
    return load_run(folder)


def health(run):
    return ema_health(run, "final", HealthSettings()).to_dict("records")


OFTEN = range(0, STEPS + 1, 200)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.2])
def test_an_average_is_told_with_its_width(tmp_path, path, sigma_rel):
    made = {(sigma_rel, STEPS): average(path, sigma_rel)}
    (row,) = health(run_with(tmp_path / "run", path, made, OFTEN))
    assert row["verdict"] == "as named"
    assert row["width"] == pytest.approx(sigma_rel, rel=0.15)
    assert row["width_low"] * 0.85 <= sigma_rel <= row["width_high"] * 1.15
    assert row["n"] == sum(path[0][name].numel() for name in NAMES)
    assert f"called {sigma_rel:.3f}" in health_line(row) and "an average" in health_line(row)


def test_the_swapped_update_of_map_dit_is_told_as_a_near_copy(tmp_path, path):
    made = {(s, STEPS): map_dit(path, s) for s in (0.05, 0.1)}
    for row in health(run_with(tmp_path / "run", path, made, OFTEN)):
        assert row["verdict"] == "near-copy"
        assert "no average" in health_line(row)
        assert width_words(row).startswith("below")


@pytest.mark.parametrize("raw_steps", [[STEPS], [0, STEPS], [0, 600, STEPS]])
def test_a_near_copy_is_told_with_hardly_any_raw_checkpoints(tmp_path, path, raw_steps):
    made = {(0.05, STEPS): path[STEPS], (0.1, STEPS): average(path, 0.1)}
    copy, real = health(run_with(tmp_path / "run", path, made, raw_steps))
    assert copy["verdict"] == "near-copy"
    assert real["verdict"] == ("unclear" if len(raw_steps) == 1 else "as named")


def test_the_average_of_ema_pytorch_is_told_as_five_times_too_wide(tmp_path, path):
    """Nominal 0.05 becomes 0.246 where the factor is applied every tenth step only."""
    made = {(0.05, STEPS): ema_pytorch(path, 0.05)}
    (row,) = health(run_with(tmp_path / "run", path, made, OFTEN))
    assert row["verdict"] == "another width"
    assert row["width"] == pytest.approx(0.246, rel=0.1)
    assert "called 0.050" in health_line(row) and "0.2" in health_line(row)


def test_an_average_of_other_weights_is_told(tmp_path, path):
    other = {name: tensor + 30 * torch.randn_like(tensor) for name, tensor in path[-1].items()}
    (row,) = health(run_with(tmp_path / "run", path, {(0.05, STEPS): other}, OFTEN))
    assert row["verdict"] == "foreign" and "not an average" in health_line(row)


def test_fewer_checkpoints_tell_a_wider_range_that_still_holds_the_truth(tmp_path, path):
    made = {(0.1, STEPS): average(path, 0.1)}
    ranges = []
    for every in (100, 300, 600, 1200):
        steps = range(0, STEPS + 1, every)
        (row,) = health(run_with(tmp_path / str(every), path, made, steps))
        assert row["width_low"] * 0.85 <= 0.1 <= row["width_high"] * 1.15
        ranges.append(row["width_high"] - row["width_low"])
    assert ranges == sorted(ranges)
    assert "at least" in width_words(row)  # one earlier checkpoint sets no upper limit


def test_without_raw_weights_of_its_step_nothing_is_claimed(tmp_path, path):
    made = {(0.05, 600): average(path, 0.05, 600)}
    (row,) = health(run_with(tmp_path / "run", path, made, [0, STEPS]))
    assert row["verdict"] == "unclear" and np.isnan(row["width"]) and np.isnan(row["distance"])
    assert width_words(row) == "not known" and "do not tell" in health_line(row)


def test_a_run_that_stood_still_claims_nothing(tmp_path, path):
    still = [path[0]] * (STEPS + 1)
    (row,) = health(run_with(tmp_path / "run", still, {(0.05, STEPS): path[0]}, OFTEN))
    assert row["verdict"] == "unclear"


def test_every_file_is_checked_at_its_own_step(tmp_path, path):
    made = {(0.1, step): average(path, 0.1, step) for step in (400, 800, 1200)}
    rows = health(run_with(tmp_path / "run", path, made, OFTEN))
    assert [row["step"] for row in rows] == [400, 800, 1200]
    assert [row["checkpoints"] for row in rows] == [2, 4, 6]
    assert {row["verdict"] for row in rows} == {"as named"}


@pytest.mark.parametrize("raw_steps", [[STEPS], [0, STEPS], OFTEN])
def test_what_is_withheld_as_a_near_copy_is_what_the_analysis_calls_one(tmp_path, path, raw_steps):
    """A lag of 0.1 to 0.5 of the promised one is an average, of a narrower width than its name."""
    made = {
        (0.05, STEPS): average(path, 0.05),
        (0.1, STEPS): average(path, 0.03),
        (0.15, STEPS): path[STEPS],
        (0.2, STEPS): map_dit(path, 0.2),
        (0.25, STEPS): average(path, 0.02),
    }
    run = run_with(tmp_path / "run", path, made, raw_steps)
    withheld = {health.sigma_rel: health.verdict for health in examine(run)}
    assert withheld == {row["sigma_rel"]: row["verdict"] for row in health(run)}
    assert withheld[0.15] == withheld[0.2] == "near-copy"
    if raw_steps == OFTEN:
        assert withheld[0.1] == "another width" and withheld[0.25] == "near-copy"


def test_an_earlier_snapshot_tells_a_copy_where_no_raw_weights_are_older(tmp_path, path):
    """Beside one raw checkpoint a near-copy may be farther off than rounding explains."""
    far = {name: tensor * 1.012 for name, tensor in path[STEPS].items()}
    made = {(0.05, 600): path[600], (0.05, STEPS): far}
    made |= {(0.1, step): average(path, 0.1, step) for step in (600, STEPS)}
    run = run_with(tmp_path / "run", path, made, [STEPS])
    verdicts = [row["verdict"] for row in health(run) if row["step"] == STEPS]
    assert verdicts == [found.verdict for found in examine(run)] == ["near-copy", "unclear"]
    alone = run_with(tmp_path / "alone", path, {(0.05, STEPS): far}, [STEPS])
    assert health(alone)[0]["verdict"] == "unclear"


def test_a_run_without_averages_gives_an_empty_table(tmp_path, path):
    assert health(run_with(tmp_path / "run", path, {}, [0, STEPS])) == []


@pytest.mark.parametrize("fixture", ["flags-all", "head-all"])
def test_the_files_of_map_dit_are_told_as_near_copies(fixture):
    run = load_run(Path(__file__).parent / "fixtures/map-dit" / fixture)
    rows = health(run)
    last = [row for row in rows if row["step"] == 400]
    assert len(rows) == 8 and [row["verdict"] for row in last] == ["near-copy"] * 2
