"""Before and after: against models built without the part, brute force, and simulated pairs."""

import numpy as np
import pandas as pd
import pytest
import torch
from every_model import random_model
from scipy import stats

from analysis.interventions import (
    InterventionSettings,
    StreamSettings,
    example,
    expected_seconds,
    fitting,
    intervened_samples,
    intervened_stream,
)
from analysis.interventions_change import (
    at_timestep,
    change_sentence,
    chosen_images,
    paired,
    paired_interval,
    recognized_change,
    stream_change,
)
from mpdit_core.config import DataInfo, ModelConfig, modulation_study, preset
from mpdit_core.errors import ImpossibleIntervention, InvalidConfig
from mpdit_core.interventions import ScaleAngle, SkipBranch, parse_interventions
from mpdit_core.points import visiting
from mpdit_core.runs.run import Run
from mpdit_core.sampling import SamplerSettings, sample

TINY = {"depth": 2, "width": 16, "heads": 2}
DIGITS = DataInfo(name="digits", mean=(0.3,), std=(0.4,))
FEW = {"n": 12, "steps": 3}
NO_ANGLE = parse_interventions("angle*0")
ROTATED = modulation_study(("scale", "rotation"), **TINY)


def run_of(config: ModelConfig, data=DIGITS, name="mine", change=lambda model: None) -> Run:
    torch.manual_seed(5)
    model = random_model(config)
    change(model)
    return Run(
        name=name, folder=None, layout="test", config=config, data=data,
        raw_files={0: None}, ema_files={}, read=lambda _: model.state_dict(),
    )  # fmt: skip


def no_rotation(model):
    for block in model.blocks:
        block.attn.modulation.gain[1] = 0  # scale, rotation
        block.mlp.modulation.gain[1] = 0


def pixels(table):
    return np.stack(table["pixels"])


def test_samples_without_angles_are_those_of_a_model_without_rotation():
    run = run_of(ROTATED)
    before = intervened_samples(run, "final", InterventionSettings(**FEW))
    after = intervened_samples(run, "final", InterventionSettings(**FEW, interventions=NO_ANGLE))
    model, labels = run.model("final"), torch.arange(12) % 10
    settings = SamplerSettings(sampler="ddim", steps=3)
    plain = sample(model, labels, settings).flatten(1) * 0.4 + 0.3
    np.testing.assert_allclose(pixels(before), plain, rtol=1e-4, atol=1e-4)
    other = run_of(ROTATED, change=no_rotation).model("final")
    without = sample(other, labels, settings).flatten(1) * 0.4 + 0.3
    np.testing.assert_allclose(pixels(after), without, rtol=1e-3, atol=1e-3)
    assert np.abs(pixels(after) - pixels(before)).max() > 0.1
    assert before["label"].tolist() == labels.tolist() and before["read"].between(0, 9).all()


def test_images_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    run, settings = run_of(ROTATED), InterventionSettings(**FEW, interventions=NO_ANGLE)
    together = intervened_samples(run, "final", settings)
    stream = intervened_stream(run, "final", StreamSettings(**FEW))
    monkeypatch.setattr("analysis.interventions.AT_ONCE", 5)
    np.testing.assert_allclose(
        pixels(intervened_samples(run, "final", settings)), pixels(together), rtol=1e-4, atol=1e-4
    )
    order = ["index", "timestep", "block", "branch"]
    parts = intervened_stream(run, "final", StreamSettings(**FEW)).sort_values(order)
    np.testing.assert_allclose(parts["value"], stream.sort_values(order)["value"], rtol=1e-4)


class Keep:
    def __init__(self):
        self.found = {}

    def begin(self, timesteps, labels):
        self.timestep = int(timesteps[0])

    def wants(self, name):
        return False

    def visit(self, name, tensor):
        self.found[name, self.timestep] = tensor.clone()
        return tensor


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_stream_is_that_of_the_half_with_the_label(guidance):
    run = run_of(preset("E", **TINY))
    settings = StreamSettings(**FEW, guidance=guidance, moments=3)
    table = intervened_stream(run, "final", settings)
    keep = Keep()
    with visiting(keep):
        labels = torch.arange(12) % 10
        sample(run.model("final"), labels, SamplerSettings(sampler="ddim", steps=3,
                                                           guidance=guidance))  # fmt: skip
    assert len(table) == 2 * 2 * 12 * 3
    for row in table.to_dict("records"):
        tokens = keep.found[f"blocks.{row['block']}.{row['branch']}.resid", row["timestep"]]
        expected = tokens[row["index"]].square().mean(-1).sqrt().mean()
        assert row["value"] == pytest.approx(float(expected), rel=1e-5)
        assert row["label"] == row["index"] % 10


def test_after_a_skipped_branch_the_stream_is_as_large_as_before_it():
    run = run_of(preset("E", **TINY))
    skipped = (SkipBranch(blocks=(1,), branches=("attn",)),)
    after = intervened_stream(run, "final", StreamSettings(**FEW, interventions=skipped))
    wide = after.pivot(index=["index", "timestep"], columns=["block", "branch"], values="value")
    np.testing.assert_allclose(wide[1, "attn"], wide[0, "mlp"], rtol=1e-5)
    assert not np.allclose(wide[1, "mlp"], wide[0, "mlp"], rtol=1e-3)


def test_an_interval_of_paired_shares_covers_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(0)
    for lost, gained, n in ((0.1, 0.02, 200), (0.03, 0.03, 60), (0.4, 0.0, 100)):
        rest = 1 - lost - gained
        counts = draw.multinomial(n, [lost, gained, rest], size=2000)
        ends = np.array([paired_interval(b, c, n) for b, c, _ in counts])
        inside = (ends[:, 0] <= gained - lost) & (gained - lost <= ends[:, 1])
        assert 0.93 <= inside.mean() <= 0.99


def drawn(reads, values, run="mine"):
    """A table as `intervened_samples` gives it, of 2 x 2 images."""
    n = len(reads)
    return pd.DataFrame(
        {"run": run, "weights": "final", "label": np.arange(n) % 10, "seed": 0,
         "index": np.arange(n), "read": pd.array(reads, dtype="Int64"), "channels": 1, "size": 2,
         "pixels": [np.full(4, value, dtype=np.float32) for value in values]}
    )  # fmt: skip


def test_recognized_samples_are_compared_pair_by_pair():
    before = drawn([0, 1, 2, 3, 9], [0] * 5)
    after = drawn([0, 7, -1, 3, 4], [0, 1, np.nan, 3, 4]).sample(frac=1, random_state=0)
    pairs = paired(before, after)
    row = recognized_change(pairs).iloc[0]
    assert (row["before"], row["after"], row["lost"], row["gained"]) == (0.8, 0.6, 2, 1)
    assert row["change"] == pytest.approx(-0.2) and row["low"] < -0.2 < row["high"]
    assert pairs["difference"].tolist()[:2] == [0, 1]
    assert chosen_images(pairs, most_changed=True, count=2)["index"].tolist() == [2, 4]
    assert chosen_images(pairs, most_changed=False, count=2)["index"].tolist() == [0, 1]


def test_the_streams_factor_has_the_interval_of_a_paired_t_test():
    draw = np.random.default_rng(1)
    logs = draw.normal(size=(2, 9))
    tables = [
        pd.DataFrame(
            {"run": "mine", "block": 0, "branch": "mlp", "index": np.arange(9), "timestep": 5,
             "value": np.exp(side)}
        )
        for side in logs
    ]  # fmt: skip
    both = [pd.concat([part, part.assign(timestep=7)]) for part in tables]
    changes = stream_change(*both)
    assert len(changes) == 3  # two timesteps, and both together
    row = at_timestep(changes, 5).iloc[0]
    assert at_timestep(changes, None)["factor"].iloc[0] == pytest.approx(row["factor"])
    test = stats.ttest_rel(logs[1], logs[0])
    assert row["factor"] == pytest.approx(np.exp(np.mean(logs[1] - logs[0])))
    interval = test.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(np.exp([interval.low, interval.high]))
    assert at_timestep(changes, 6).empty


def test_sentences_say_a_change_only_where_the_interval_tells_one():
    same = paired(drawn([0, 1], [0, 0]), drawn([0, 1], [0, 0]))
    skip = (SkipBranch(blocks=(2,), branches=("mlp",)),)
    told = change_sentence(skip, same, None)
    assert told.startswith("MLP of block 3 skipped: in mine no change of recognized samples")
    worse = paired(drawn(np.arange(40) % 10, [0] * 40), drawn([11] * 40, [1] * 40))
    assert "fall from 100.0 to 0.0 % (-100.0 points, 95 % interval" in (
        change_sentence(skip, worse, None)
    )
    unread = paired(drawn([None] * 4, [0] * 4), drawn([None] * 4, [0.5] * 4))
    assert recognized_change(unread).empty
    assert "the 4 images differ by 0.5" in change_sentence(skip, unread, None)


def test_runs_that_draw_no_digits_are_drawn_and_not_read():
    config = preset("A", **TINY, channels=2)
    run = run_of(config, DataInfo(name="unknown", mean=(0.0, 0.0), std=(1.0, 1.0)))
    skip = example(config)
    before = intervened_samples(run, "final", InterventionSettings(**FEW))
    after = intervened_samples(run, "final", InterventionSettings(**FEW, interventions=skip))
    assert before["read"].isna().all() and len(before["pixels"].iloc[0]) == 2 * 64
    assert "differ by" in change_sentence(skip, paired(before, after), None)


def test_images_that_are_not_finite_count_as_not_recognized():
    def spoil(model):
        model.blocks[0].mlp.core.down.weight.fill_(torch.nan)

    run = run_of(preset("A", **TINY), change=spoil)
    settings = InterventionSettings(**FEW)
    before = intervened_samples(run, "final", settings)
    assert (before["read"] == -1).all()
    saved = intervened_samples(
        run, "final", InterventionSettings(**FEW, interventions=parse_interventions("skip@1:mlp"))
    )
    assert saved["read"].between(0, 9).all()
    stream = [intervened_stream(run, "final", StreamSettings(**FEW))] * 2
    assert stream_change(*stream)["low"].isna().any()
    assert "no change" in change_sentence((), paired(before, before), stream_change(*stream))


def test_what_a_run_lacks_is_said_in_a_sentence():
    runs = [run_of(preset("A", **TINY), name="A"), run_of(ROTATED, name="turned")]
    able, sentences = fitting(runs, NO_ANGLE)
    assert [run.name for run in able] == ["turned"]
    assert (
        len(sentences) == 1
        and "A: 'angle*0' cannot act here: the model has no rotation" in (sentences[0])
    )
    with pytest.raises(ImpossibleIntervention):
        intervened_samples(runs[0], "final", InterventionSettings(**FEW, interventions=NO_ANGLE))
    with pytest.raises(InvalidConfig, match="labels held 10"):
        intervened_samples(runs[0], "final", InterventionSettings(**FEW, labels=(10,)))
    assert example(ROTATED) == (ScaleAngle(factor=0.0),)
    assert expected_seconds(runs, InterventionSettings(guidance=2)) > expected_seconds(
        runs, InterventionSettings()
    )
