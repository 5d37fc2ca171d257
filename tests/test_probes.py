"""The recorder's statistics against brute force over every tensor, its threads and its memory."""

import gc
import threading
import tracemalloc
from collections import defaultdict

import numpy as np
import pytest
import torch
from every_model import every_config, inputs, random_model

from mpdit_core.config import preset
from mpdit_core.errors import NoSuchPoint
from mpdit_core.points import Point, announce, visiting
from mpdit_core.probes import editing, points
from mpdit_core.recorder import WAITING, Recorder
from mpdit_core.statistics import BINS, bin_edges, bin_of

CONFIGS = {name: every_config()[name] for name in ("A", "E", "head", "study scale+rotation+gate")}


class Keep:
    """Stores every tensor of every pass, with its timesteps and labels."""

    def __init__(self, names):
        self.names, self.tensors = set(names), defaultdict(list)

    def begin(self, timesteps, labels):
        self.cells = list(zip(timesteps.tolist(), labels.tolist(), strict=True))

    def wants(self, name):
        return name in self.names

    def visit(self, name, tensor):
        self.tensors[name] += zip(self.cells, tensor.double(), strict=True)
        return tensor


def vectors(point, sample):
    """One sample's tensor as (vectors, features)."""
    if point.kind == "rows":
        return sample.reshape(-1, 1)
    if point.kind == "heads":
        return sample.transpose(0, 1).reshape(-1, point.features)
    return sample.reshape(-1, point.features)


def recorded(model, patterns, passes):
    recorder = Recorder(model.config, patterns)
    with visiting(recorder):
        for x, t, y in passes:
            model(x, t, y)
    return {statistics.point.name: statistics for statistics in recorder.statistics()}


@pytest.mark.parametrize("name", CONFIGS)
def test_statistics_equal_those_of_all_tensors_kept(name):
    config = CONFIGS[name]
    model = random_model(config)
    passes = [inputs(config, 4), inputs(config, 7), inputs(config, 7), inputs(config, 1)]
    names = [point.name for point in points(config)]
    keep = Keep(names)
    with visiting(keep):
        for x, t, y in passes:
            model(x, t, y)
    found = recorded(model, ["*", "*.entropy"], passes)
    assert list(found) == names
    for point in points(config):
        check_cells(found[point.name], keep.tensors[point.name])
        if point.has_channels:
            check_channels(found[point.name].channels, point, keep.tensors[point.name])


def check_cells(statistics, kept):
    point = statistics.point
    cells = list(zip(statistics.timestep.tolist(), statistics.label.tolist(), strict=True))
    assert set(cells) == {cell for cell, _ in kept} and len(cells) == len(set(cells))
    for row, cell in enumerate(cells):
        values = torch.cat([vectors(point, sample) for where, sample in kept if where == cell])
        magnitude = values.square().mean(-1).sqrt()
        assert statistics.count[row] == len(magnitude)
        close(statistics.mean[row], magnitude.mean())
        close(
            statistics.variance[row], magnitude.var(correction=0), scale=magnitude.square().mean()
        )
        close(statistics.largest[row], magnitude.max())
        close(statistics.peak[row], values.abs().max())
        assert statistics.nonfinite[row] == 0
        assert statistics.histogram[row].sum() == len(magnitude)
        inner = np.histogram(magnitude.log2().numpy(), bin_edges())[0]
        assert abs(statistics.histogram[row] - inner).sum() <= 2  # a value on an edge may round


def check_channels(channels, point, kept):
    assert set(channels.timestep) == {time for (time, _), _ in kept}
    for row, time in enumerate(channels.timestep.tolist()):
        samples = torch.stack([vectors(point, sample) for (t, _), sample in kept if t == time])
        close(channels.mean_square[row], samples.square().mean((0, 1)))
        close(channels.peak[row], samples.abs().amax((0, 1)))
        of_mean = samples.mean(1).square().mean()
        close(channels.of_mean[row], of_mean)
        centred = (samples - samples.mean(1, keepdim=True)).square().mean()
        close(channels.centred[row], centred, scale=samples.square().mean())
        assert channels.count[row] == samples.shape[0] * samples.shape[1]


def close(found, expected, scale=None):
    expected = np.asarray(expected)
    tolerance = 2e-6 * (float(np.abs(expected).max()) if scale is None else float(scale))
    assert np.abs(found - expected).max() <= tolerance + 1e-12


def test_three_threads_that_probe_one_model_get_what_they_get_alone():
    config = CONFIGS["E"]
    model = random_model(config)
    work = [[inputs(config, size) for _ in range(40)] for size in (3, 4, 5)]
    alone = [recorded(model, "*", passes) for passes in work]
    together: dict[int, dict] = {}
    start = threading.Barrier(3)

    def probe(number):
        start.wait()
        together[number] = recorded(model, "*", work[number])

    threads = [threading.Thread(target=probe, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, expected in enumerate(alone):
        assert together[number].keys() == expected.keys()
        for name, statistics in expected.items():
            same(together[number][name], statistics)


def same(left, right):
    for field in ("timestep", "label", "count", "mean", "variance", "largest", "histogram"):
        assert np.array_equal(getattr(left, field), getattr(right, field)), field
    if right.channels is not None:
        assert np.array_equal(left.channels.mean_square, right.channels.mean_square)


def test_asking_after_every_pass_gives_what_asking_once_gives():
    config = CONFIGS["E"]
    model = random_model(config)
    passes = [inputs(config, 5) for _ in range(WAITING // 5 + 2)]  # some merge without being asked
    often = Recorder(config)
    with visiting(often):
        for x, t, y in passes:
            model(x, t, y)
            often.statistics()
    once = recorded(model, "*", passes)
    for statistics in often.statistics():
        expected = once[statistics.point.name]
        for field in ("timestep", "label", "count", "largest", "peak", "nonfinite", "histogram"):
            assert np.array_equal(getattr(statistics, field), getattr(expected, field)), field
        close(statistics.mean, expected.mean)
        if statistics.channels is not None:
            close(statistics.channels.mean_square, expected.channels.mean_square)
            assert np.array_equal(statistics.channels.peak, expected.channels.peak)


def test_an_edit_in_one_thread_does_not_reach_another():
    config = CONFIGS["A"]
    model, (x, t, y) = random_model(config), inputs(config)
    plain, seen = model(x, t, y), {}

    def other():
        seen["output"] = model(x, t, y)

    with editing({"embed": torch.zeros_like}):
        assert not torch.equal(model(x, t, y), plain)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert torch.equal(seen["output"], plain)


def test_memory_stays_flat_over_a_thousand_forward_passes():
    config = preset("E", depth=1, width=16, heads=2, size=4, classes=3)
    model, (x, t, y) = random_model(config), inputs(config)
    recorder = Recorder(config)
    with visiting(recorder):
        for _ in range(20 + WAITING // len(x)):  # until no more passes can wait
            model(x, t, y)
        gc.collect()
        tensors = live_numbers()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            model(x, t, y)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert live_numbers() == tensors
    # Bytes of Python objects: free lists fill a little; one number a point would be 600,000.
    assert after - before < 100_000
    resid = next(s for s in recorder.statistics() if s.point.name == "blocks.0.mlp.resid")
    assert resid.count.sum() == (1020 + WAITING // len(x)) * len(x) * config.tokens


def live_numbers():
    """How many numbers all tensors hold that are alive."""
    # issubclass of the type: isinstance would wake deprecated objects that warn.
    alive = [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor)]
    return sum(tensor.numel() for tensor in alive)


def test_values_that_are_not_finite_are_counted_and_spoil_nothing_else():
    config = preset("A", depth=1, width=16, heads=2, size=4, classes=3)
    clean, dirty = torch.randn(2, 4, 16), torch.randn(2, 4, 16)
    dirty[0, 1, 3], dirty[0, 1, 4], dirty[1, 2, 0], dirty[1, 0] = np.nan, np.inf, 1e30, 7.0
    recorder = Recorder(config, ["embed", "cond.t"])
    signal = torch.ones(2, 16)
    signal[1, 5] = -np.inf
    with visiting(recorder):
        for tokens in (clean, dirty):
            announce(torch.tensor([10, 20]), torch.tensor([0, 0]))
            Point("embed")(tokens)
            Point("cond.t")(signal)
    condition, embed = sorted(recorder.statistics(), key=lambda s: s.point.name)
    assert embed.nonfinite.tolist() == [2, 1] and embed.count.tolist() == [7, 7]
    assert embed.largest[1] == pytest.approx(7.0) and embed.peak[1] == pytest.approx(7.0)
    assert embed.histogram.sum() == 14
    kept = torch.cat([clean[0], dirty[0, [0, 2, 3]]])
    assert embed.mean[0] == pytest.approx(float(kept.square().mean(-1).sqrt().mean()), rel=1e-6)
    assert embed.channels is not None
    np.testing.assert_allclose(embed.channels.mean_square[0], kept.square().mean(0), rtol=1e-5)
    assert condition.nonfinite.tolist() == [0, 2] and condition.count.tolist() == [2, 0]


def test_a_forward_pass_that_was_broken_off_leaves_later_ones_right():
    config = CONFIGS["A"]
    model, (x, t, y) = random_model(config), inputs(config)

    class Stop:
        def begin(self, timesteps, labels):
            pass

        def wants(self, name):
            return False

        def visit(self, name, tensor):
            if name == "blocks.0.attn.out":
                raise KeyboardInterrupt
            return tensor

    recorder = Recorder(config, ["embed", "blocks.*.out"])
    with visiting(recorder):
        with pytest.raises(KeyboardInterrupt), visiting(Stop()):
            model(x, t, y)
        model(x, t, y)
    found = recorder.statistics()
    assert [s.point.name for s in found][:2] == ["embed", "blocks.0.attn.out"]
    alone = recorded(model, ["blocks.*.mlp.out"], [(x, t, y)])
    same(found[2], alone["blocks.0.mlp.out"])


def test_gradients_flow_through_a_forward_pass_that_is_recorded():
    config = CONFIGS["E"]
    model, (x, t, y) = random_model(config), inputs(config)
    recorder = Recorder(config)
    x.requires_grad_()
    with visiting(recorder):
        model(x, t, y).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(np.isfinite(s.mean).all() for s in recorder.statistics())


def test_recording_does_not_change_the_output():
    config = CONFIGS["E"]
    model, (x, t, y) = random_model(config), inputs(config)
    plain = model(x, t, y)
    with visiting(Recorder(config, ["*", "*.entropy"])):
        assert torch.equal(model(x, t, y), plain)


def test_a_recorder_refuses_points_the_model_does_not_have():
    with pytest.raises(NoSuchPoint, match="angle"):
        Recorder(CONFIGS["A"], "blocks.*.angle")


def test_a_recorder_that_saw_nothing_has_points_without_cells():
    statistics = Recorder(CONFIGS["A"], "embed").statistics()
    assert [len(found.mean) for found in statistics] == [0]


def test_bins_lie_where_their_edges_say():
    edges = bin_edges()
    assert len(edges) == BINS + 1 and np.all(np.diff(edges) > 0)
    inner = torch.from_numpy((edges[1:-2] + edges[2:-1]) / 2)
    assert bin_of(2.0**inner).tolist() == list(range(1, BINS - 1))
    assert bin_of(torch.tensor([0.0, 1e-9, 1e9])).tolist() == [0, 0, BINS - 1]
