"""Training: killed and resumed, its loss written out again, its batches, its data."""

import hashlib
import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.testing import assert_close

from mpdit_core import training as training_module
from mpdit_core.config import TrainConfig, preset
from mpdit_core.data import digits, latents
from mpdit_core.errors import AlreadyExists, BadData, Diverged, InvalidConfig
from mpdit_core.layers import NormalizedWeight
from mpdit_core.loss import Loss, diffusion_loss
from mpdit_core.model import MPDiT
from mpdit_core.noise import generator
from mpdit_core.runs import load_run
from mpdit_core.runs.files import read_tensors, write_tensors
from mpdit_core.training import batch_indices, learning_rate_at, train

TINY = preset("E", depth=1, width=8, heads=1)
SHORT = TrainConfig(
    steps=60, batch=16, learning_rate=1e-2, warmup=5, decay_start=30, log_every=5,
    evaluate_every=30, save_every=20, ema_every=20, state_every=10,
)  # fmt: skip
TRAIN = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from mpdit_core.config import ModelConfig, TrainConfig
from mpdit_core.data import digits
from mpdit_core.training import train
config, training = ModelConfig.model_validate_json(sys.argv[2]), sys.argv[3]
train(Path(sys.argv[1]), config, TrainConfig.model_validate_json(training), digits())
"""


def trainer(folder):
    arguments = [str(folder), TINY.model_dump_json(), SHORT.model_dump_json()]
    return subprocess.Popen([sys.executable, "-c", TRAIN, *arguments])


def log_of(folder):
    """metrics.jsonl without the duration, which no two runs share."""
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def kill_after(process, folder, lines, pause):
    """kill -9 a moment after the log has grown by some lines; False if it was done before."""
    before = len((folder / "metrics.jsonl").read_text()) if lines > 1 else 0
    file = folder / "metrics.jsonl"
    while process.poll() is None and not (file.exists() and len(file.read_text()) > before):
        time.sleep(0.001)
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def weights_in(folder):
    files = [*folder.glob("weights/*"), *folder.glob("ema/*/*")]
    return {file.relative_to(folder): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(folder, TINY, SHORT, digits())
    return folder


def test_a_training_killed_at_random_moments_ends_with_the_same_weights(undisturbed, tmp_path):
    folder, chance = tmp_path / "run", random.Random(7)
    kills = [
        kill_after(trainer(folder), folder, lines=kill + 1, pause=chance.uniform(0, 0.15))
        for kill in range(2)
    ]
    assert any(kills)  # at least one process was killed before it was done
    assert trainer(folder).wait() == 0
    assert weights_in(folder) == weights_in(undisturbed)
    assert log_of(folder) == log_of(undisturbed)
    assert not list(folder.rglob("*.tmp"))


class Killed(BaseException):
    """Nothing in the code catches this, as nothing catches a signal."""


def stop_at(moment):
    def on_step(step, loss):
        if step == moment:
            raise Killed

    return on_step


def test_what_a_kill_left_behind_at_any_step_is_taken_up_again(undisturbed, tmp_path):
    """Stopped between any two steps, without the process's start: many more moments."""
    folder = tmp_path / "run"
    for moment in (3, 11, 24, 39, 40, 58):
        with pytest.raises(Killed):
            train(folder, TINY, SHORT, digits(), stop_at(moment))
        with (folder / "metrics.jsonl").open("a") as log:
            log.write('{"step": 9')  # a line the killed process could not finish
    train(folder, TINY, SHORT, digits())
    assert weights_in(folder) == weights_in(undisturbed)
    assert log_of(folder) == log_of(undisturbed)


def test_another_configuration_is_refused_and_the_folder_left_alone(undisturbed):
    before = weights_in(undisturbed)
    with pytest.raises(InvalidConfig, match=r"model\.width = 8, not 16"):
        train(undisturbed, preset("E", depth=1, width=16, heads=1), SHORT, digits())
    faster = SHORT.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(InvalidConfig, match=r"training\.learning_rate = 0\.01, not 0\.5"):
        train(undisturbed, TINY, faster, digits())
    assert weights_in(undisturbed) == before


def of(steps, **changes):
    """A training of so many steps that saves its state after each of them."""
    return SHORT.model_copy(update={"steps": steps, "state_every": 1} | changes)


def test_a_run_that_is_lengthened_says_so_from_its_first_further_step(tmp_path):
    folder = tmp_path / "run"
    train(folder, TINY, of(4), digits())
    assert load_run(folder).status == "finished"
    with pytest.raises(Killed):
        train(folder, TINY, of(10), digits(), stop_at(8))
    run = load_run(folder)
    assert run.status == "training" and run.training.steps == 10
    train(folder, TINY, of(10), digits())
    assert load_run(folder).status == "finished" and load_run(folder).steps == (0, 4, 10)


def test_a_run_is_not_shortened(tmp_path):
    folder = tmp_path / "run"
    train(folder, TINY, of(4), digits())
    before = (folder / "run.json").read_text()
    with pytest.raises(InvalidConfig, match="4 steps already; steps was 3"):
        train(folder, TINY, of(3), digits())
    assert (folder / "run.json").read_text() == before


def test_a_finished_run_without_its_state_is_not_trained_from_the_start(tmp_path):
    folder = tmp_path / "run"
    train(folder, TINY, of(4), digits())
    for file in (folder / "state").iterdir():
        file.unlink()
    (folder / "state").rmdir()
    before = weights_in(folder)
    with pytest.raises(InvalidConfig, match="finished run without what resuming needs"):
        train(folder, TINY, of(10), digits(), stop_at(1))
    assert weights_in(folder) == before and not (folder / "state").exists()


def test_a_run_whose_loss_is_no_number_is_marked_as_diverged(tmp_path):
    folder, plain = tmp_path / "run", preset("A", depth=1, width=8, heads=1)
    with pytest.raises(Diverged):
        train(folder, plain, of(30, learning_rate=1e30), digits())
    run = load_run(folder)
    assert run.status == "diverged" and run.model("initial") is not None


def test_a_second_training_in_the_same_folder_is_refused_until_the_first_ends(tmp_path):
    folder = tmp_path / "run"

    def start_another(step, loss):
        train(folder, TINY, of(4), digits())

    with pytest.raises(AlreadyExists, match="Another process is training in .*run; wait for it"):
        train(folder, TINY, of(4), digits(), start_another)
    train(folder, TINY, of(4), digits())
    assert load_run(folder).status == "finished"


def test_the_newest_state_is_the_one_of_the_highest_step(tmp_path):
    folder, seen = tmp_path / "run", []
    train(folder, TINY, of(3), digits(), until=1)
    state = read_tensors(folder / "state" / "step_0000001.safetensors")
    for step in (9_999_999, 10_000_000):
        state["counters"][0] = step
        write_tensors(folder / "state" / f"step_{step:07d}.safetensors", state, {})
    train(folder, TINY, of(10_000_001), digits(), lambda step, loss: seen.append(step))
    assert seen == [10_000_001]


def test_the_log_is_cut_whole_or_not_at_all(tmp_path, monkeypatch):
    folder, events = tmp_path / "run", []
    train(folder, TINY, of(4, log_every=1), digits(), until=2)
    with (folder / "metrics.jsonl").open("a") as log:
        log.write('{"step": 3}\n')
    before = {file: file.read_bytes() for file in folder.glob("*") if file.is_file()}
    flush = os.fsync

    def killed_before(source, target):
        events.append(Path(target).name)
        raise Killed

    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("flushed"), flush(handle)))
    monkeypatch.setattr(os, "replace", killed_before)
    with pytest.raises(Killed):
        train(folder, TINY, of(4, log_every=1), digits())
    assert events == ["flushed", "metrics.jsonl"]
    assert {file: file.read_bytes() for file in folder.glob("*") if file.is_file()} == before


@pytest.mark.parametrize("widths", [(0.05, 0.05), (0.1, 0.12345)])
def test_averages_whose_names_would_not_tell_them_apart_are_refused(tmp_path, widths):
    with pytest.raises(InvalidConfig, match="at most 4 decimals"):
        train(tmp_path / "run", TINY, of(4, sigma_rels=widths), digits())
    assert not (tmp_path / "run").exists()


class Elsewhere:
    """An accelerator of a device that no machine has: tensors there have a shape, no numbers."""

    device = torch.device("meta")

    def prepare(self, model, optimizer):
        return model.to(self.device), optimizer

    def backward(self, loss):
        pass


def test_weights_averages_and_batches_meet_on_the_accelerators_device(tmp_path, monkeypatch):
    folder, placed = tmp_path / "run", []
    settings = of(6, evaluate_every=1)
    train(folder, TINY, settings, digits(), until=2)

    def loss(model, *tensors):
        placed.append({tensor.device.type for tensor in (*model.state_dict().values(), *tensors)})
        return Loss(torch.ones(2), torch.ones(2))

    monkeypatch.setattr(training_module, "Accelerator", Elsewhere)
    monkeypatch.setattr(training_module, "diffusion_loss", loss)
    monkeypatch.setattr(training_module.RunWriter, "save_state", lambda *_: None)
    with pytest.raises(Killed):
        train(folder, TINY, settings, digits(), stop_at(3))
    batches = -(-360 * training_module.HELDOUT_REPEATS // 360)
    assert placed == [{"meta"}] * (1 + batches * 3)  # raw weights and both averages are evaluated


LAST = 5


def written_out(config, training, data):
    """The training once more, as its documentation has it: the weights at the start and
    after every step."""
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = MPDiT(config).train()
    forced = [m.weight for m in model.modules() if isinstance(m, NormalizedWeight)]
    plain = dict(model.named_parameters())
    first, second = ({n: torch.zeros_like(p) for n, p in plain.items()} for _ in range(2))

    def force():
        for weight in forced if config.forced_weight_normalization else ():
            weight *= weight.shape[1] ** 0.5 / (weight.square().sum(1, keepdim=True).sqrt() + 1e-4)

    with torch.no_grad():
        force()
    states, queue = [{name: weight.detach().clone() for name, weight in plain.items()}], []
    for epoch in range(LAST):  # more than are needed
        order = torch.randperm(
            len(data.train_images), generator=generator(training.seed, "epoch", epoch)
        )
        queue += order.tolist()
    rates = [0.005, 0.01, 0.01, 0.01 * math.sqrt(3 / 4), 0.01 * math.sqrt(3 / 5)]
    for step, rate in enumerate(rates, 1):
        chosen = queue[(step - 1) * training.batch : step * training.batch]
        images, labels = data.train_images[chosen], data.train_labels[chosen].clone()
        draw = generator(training.seed, "step", step)
        timesteps = torch.randint(1000, (training.batch,), generator=draw)
        noise = torch.randn(images.shape, generator=draw)
        labels[torch.rand(training.batch, generator=draw) < training.label_dropout] = 10
        loss = diffusion_loss(model, images, labels, timesteps, noise)
        gradients = torch.autograd.grad((loss.noise + loss.bound).mean(), list(plain.values()))
        with torch.no_grad():
            for (name, weight), gradient in zip(plain.items(), gradients, strict=True):
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.99 * second[name] + 0.01 * gradient**2
                mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.99**step)
                weight -= rate * mean / (square.sqrt() + 1e-8)
            force()
            states.append({name: weight.clone() for name, weight in plain.items()})
    return states


@pytest.mark.parametrize("name", ["A", "E"])
def test_a_short_training_is_the_one_written_out_by_hand(tmp_path, name):
    config = preset(name, depth=1, width=8, heads=2)
    training = TrainConfig(
        steps=LAST, batch=16, learning_rate=0.01, warmup=2, decay_start=3, label_dropout=0.5,
        sigma_rels=(0.1, 0.2), seed=3,
    )  # fmt: skip
    whole = digits()  # 40 images: the second epoch begins within a batch
    data = replace(
        whole, train_images=whole.train_images[:40], train_labels=whole.train_labels[:40]
    )
    states = written_out(config, training, data)
    train(tmp_path / "run", config, training, data)
    start = read_tensors(tmp_path / "run" / "weights" / "step_0000000.safetensors")
    assert_close({key: start[key] for key in states[0]}, states[0], rtol=0, atol=1e-4)
    found = read_tensors(tmp_path / "run" / "state" / f"step_{LAST:07d}.safetensors")
    for sigma_rel in training.sigma_rels:
        square = sigma_rel**2  # of the variance (g + 1) / ((g + 2)^2 (g + 3)), solved for g
        roots = np.roots([square, 7 * square, 16 * square - 1, 12 * square - 1])
        shares = np.diff((np.arange(LAST + 1) / LAST) ** (roots.real.max() + 1))
        for key, last in states[-1].items():
            average = sum(
                share * state[key].double() for share, state in zip(shares, states[1:], strict=True)
            )
            assert_close(found[f"model/{key}"], last, rtol=0, atol=1e-4)
            assert_close(found[f"ema/{sigma_rel}/{key}"].double(), average, rtol=0, atol=1e-4)


def test_the_learning_rate_rises_stays_and_falls():
    training = TrainConfig(learning_rate=0.2, warmup=10, decay_start=100)
    expected = {1: 0.02, 5: 0.1, 10: 0.2, 60: 0.2, 100: 0.2, 400: 0.1, 10_000: 0.02}
    assert {step: learning_rate_at(step, training) for step in expected} == pytest.approx(expected)


def test_every_sample_is_seen_once_an_epoch_in_another_order_each_time():
    training = TrainConfig(batch=4)
    seen = torch.cat([batch_indices(10, training, step) for step in range(1, 6)]).tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


class Fixed(torch.nn.Module):
    """A model whose output is a parameter, so that its gradient can be looked at."""

    config = preset("A", depth=1, width=8, heads=1, size=2, patch=1)

    def __init__(self, count):
        super().__init__()
        self.noise = torch.nn.Parameter(torch.randn(count, 1, 2, 2))
        self.variance = torch.nn.Parameter(torch.rand(count, 1, 2, 2) * 2 - 1)

    def forward(self, x, t, y):
        return torch.cat([self.noise, self.variance], dim=1)


def batch(timesteps):
    images, noise = torch.randn(2, len(timesteps), 1, 2, 2)
    labels = torch.zeros(len(timesteps), dtype=torch.long)
    return images, labels, torch.tensor(timesteps), noise


def bound_by_brute_force(model, images, timesteps, noise):
    """Bits per dimension, pixel by pixel in double precision: the posterior by Bayes' rule from
    the two Gaussians it is made of, its divergence by summing over a fine grid."""
    beta = np.linspace(1e-4, 0.02, 1000)
    signal = np.cumprod(1 - beta)
    bits = []
    for i, t in enumerate(timesteps.tolist()):
        image, drawn = images[i].double().numpy().ravel(), noise[i].double().numpy().ravel()
        noisy = math.sqrt(signal[t]) * image + math.sqrt(1 - signal[t]) * drawn
        predicted = model.noise[i].detach().double().numpy().ravel()
        guess = (noisy - math.sqrt(1 - signal[t]) * predicted) / math.sqrt(signal[t])
        share = (model.variance[i].detach().double().numpy().ravel() + 1) / 2
        (true, low), (mean, _) = (_posterior(beta, signal, t, x, noisy) for x in (image, guess))
        deviation = np.exp(0.5 * (share * math.log(beta[t]) + (1 - share) * math.log(low)))
        for pixel in range(4):
            ours = norm(mean[pixel], deviation[pixel])
            if t == 0:
                edges = image[pixel] + np.array([-1, 1]) / 255
                bits.append(-math.log2(max(np.diff(ours.cdf(edges))[0], 1e-12)))
            else:
                theirs = norm(true[pixel], math.sqrt(low))
                grid = true[pixel] + math.sqrt(low) * np.linspace(-12, 12, 4001)
                gap = theirs.logpdf(grid) - ours.logpdf(grid)
                bits.append(np.trapezoid(theirs.pdf(grid) * gap, grid) / math.log(2))
    return np.array(bits).reshape(-1, 4).mean(axis=1)


def _posterior(beta, signal, t, image, noisy):
    """Mean and variance of x_{t-1} given x_t and x_0. At t = 0 it is x_0 itself, and the variance
    is that of t = 1 [IDDPM]."""
    if t == 0:
        return image, _posterior(beta, signal, 1, image, noisy)[1]
    precision = (1 - beta[t]) / beta[t] + 1 / (1 - signal[t - 1])
    weighted = math.sqrt(1 - beta[t]) * noisy / beta[t]
    weighted = weighted + math.sqrt(signal[t - 1]) * image / (1 - signal[t - 1])
    return weighted / precision, 1 / precision


def test_the_loss_is_that_of_an_independent_computation():
    images, labels, timesteps, noise = batch([0, 0, 1, 50, 500, 999])
    model = Fixed(6)
    loss = diffusion_loss(model, images, labels, timesteps, noise)
    squared = (model.noise - noise).square().flatten(1).mean(dim=1)
    assert_close(loss.noise, squared)
    expected = bound_by_brute_force(model, images, timesteps, noise)
    np.testing.assert_allclose(loss.bound.detach().double(), expected, rtol=2e-3, atol=1e-4)
    assert_close(loss.total, (squared + loss.bound).mean())


def test_the_bound_teaches_the_variance_only():
    images, labels, timesteps, noise = batch([0, 3, 500])
    model = Fixed(3)
    diffusion_loss(model, images, labels, timesteps, noise).bound.sum().backward()
    assert model.noise.grad is None or not model.noise.grad.any()
    assert model.variance.grad[1:].abs().min() > 0


def test_the_digits_and_their_split_never_change():
    data = digits()
    parts = (data.train_images, data.train_labels, data.heldout_images, data.heldout_labels)
    grey = [(part * data.info.std[0] + data.info.mean[0]) * 16 for part in parts[::2]]
    assert [len(part) for part in parts] == [1437, 1437, 360, 360]
    assert data.heldout_labels.bincount().tolist() == [36] * 10
    content = b"".join(part.round().byte().numpy().tobytes() for part in (*grey, *parts[1::2]))
    assert hashlib.sha256(content).hexdigest() == DIGITS
    assert abs(float(data.train_images.mean())) < 1e-4
    assert abs(float(data.train_images.std()) - 1) < 1e-4


DIGITS = "778c88bf787b6e293f052f4b5293e23df50f680fc2bd7f4ec63ca173cb93e24d"


def write_latents(folder, **changes):
    parts = {
        "posterior_means": torch.randn(50, 4, 2, 2) * 3 + 1,
        "posterior_stds": torch.rand(50, 4, 2, 2),
        "labels": torch.arange(50) % 5,
        "stats": {"mean": torch.full((4,), 1.0), "std": torch.full((4,), 3.0)},
    } | changes
    for name, value in parts.items():
        torch.save(value, folder / f"{name}.pt")
    return parts


def test_a_folder_of_latents_is_normalized_and_split(tmp_path):
    parts = write_latents(tmp_path)
    data = latents(tmp_path)
    assert (len(data.train_images), len(data.heldout_images), data.classes) == (49, 1, 5)
    everything = torch.cat([data.train_images, data.heldout_images])
    expected = (parts["posterior_means"] - 1) / 3
    assert_close(
        everything.flatten(1).sum(1).sort().values, expected.flatten(1).sum(1).sort().values
    )
    images, labels = data.train_batch(torch.tensor([5, 6]), torch.Generator().manual_seed(0))
    assert not torch.equal(images, data.train_images[[5, 6]])  # drawn from the posterior
    assert torch.equal(labels, data.train_labels[[5, 6]])


def test_a_run_trains_on_latents(tmp_path):
    write_latents(tmp_path)
    config = preset("E", depth=1, width=8, heads=1, channels=4, size=2, patch=1, classes=5)
    train(tmp_path / "run", config, SHORT.model_copy(update={"steps": 3}), latents(tmp_path))
    assert (tmp_path / "run" / "weights" / "step_0000003.safetensors").is_file()


class Attack:
    """A pickle that would write a file while it is being read."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("name", ["posterior_means", "posterior_stds", "labels", "stats"])
def test_malicious_truncated_and_missing_latents_are_refused_unopened(tmp_path, name):
    write_latents(tmp_path)
    file, trace = tmp_path / f"{name}.pt", tmp_path / "trace"
    whole = file.read_bytes()
    torch.save({"mean": Attack(trace)}, file)
    with pytest.raises(BadData, match=name):
        latents(tmp_path)
    file.write_bytes(pickle.dumps(Attack(trace)))
    with pytest.raises(BadData, match=name):
        latents(tmp_path)
    assert not trace.exists()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(BadData, match=name):
            latents(tmp_path)
    file.unlink()
    with pytest.raises(BadData, match=f"{name}.pt is missing"):
        latents(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": torch.arange(49)},
        {"posterior_stds": torch.rand(50, 4, 2, 3)},
        {"posterior_means": torch.rand(50, 4)},
        {"stats": {"mean": torch.zeros(3), "std": torch.ones(3)}},
        {"stats": {"mean": torch.zeros(4)}},
        {"labels": {"labels": torch.arange(50)}},
    ],
)
def test_latents_that_do_not_fit_together_are_refused_in_one_sentence(tmp_path, changes):
    write_latents(tmp_path, **changes)
    with pytest.raises(BadData, match="should") as error:
        latents(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run_keeps_what_it_holds(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 100, "loss": 1.0}\n')
    with pytest.raises(AlreadyExists, match="is no run, and holds 'metrics.jsonl'"):
        train(tmp_path, preset("A", depth=1, width=8, heads=1), TrainConfig(steps=2), digits())
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 100, "loss": 1.0}\n'
