"""Sampling against closed forms: each sampler written out again in double precision."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mpdit_core.config import preset
from mpdit_core.model import MPDiT, guided
from mpdit_core.noise import generator, sample_noise
from mpdit_core.sampling import SamplerSettings, sample

CONFIG = preset("A", depth=1, width=8, heads=1, size=2, patch=1, classes=3)
SIGNAL = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
"""alpha-bar of every timestep, independent of the code under test."""
VARIANCE = 0.3


class Known:
    """A model whose prediction can be written down: the noise is 0.4 x + 0.1 label."""

    config = CONFIG

    def __call__(self, x, t, y):
        noise = 0.4 * x + 0.1 * y[:, None, None, None]
        return torch.cat([noise, torch.full_like(x, VARIANCE)], dim=1)


def noise_of(x, label):
    return 0.4 * x + 0.1 * label


def start(label, seed=0):
    return sample_noise(seed, range(label, label + 1), (1, 2, 2)).double()[0].numpy()


def trailing(steps):
    return [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]


def signal_after(timesteps):
    """alpha-bar of each step's result; the last one's is a finished image without noise."""
    return [SIGNAL[t] for t in timesteps[1:]] + [1.0]


def ddim(x, label, steps):
    for t in trailing(steps):
        # diffusers' DDIM steps by the whole part of 1000 / steps, also where that is no divisor.
        after = SIGNAL[t - 1000 // steps] if t != trailing(steps)[-1] else 1.0
        noise = noise_of(x, label)
        image = (x - math.sqrt(1 - SIGNAL[t]) * noise) / math.sqrt(SIGNAL[t])
        x = math.sqrt(after) * image + math.sqrt(1 - after) * noise
    return x


def ddpm(x, label, steps):
    timesteps, draw = trailing(steps), generator(0, "steps", label)
    for t, after in zip(timesteps, signal_after(timesteps), strict=True):
        image = (x - math.sqrt(1 - SIGNAL[t]) * noise_of(x, label)) / math.sqrt(SIGNAL[t])
        kept, beta = SIGNAL[t] / after, 1 - SIGNAL[t] / after
        mean = math.sqrt(after) * beta / (1 - SIGNAL[t]) * image
        mean = mean + math.sqrt(kept) * (1 - after) / (1 - SIGNAL[t]) * x
        if after == 1.0:
            return mean  # an image, to which nothing is added
        low = beta * (1 - after) / (1 - SIGNAL[t])
        share = (VARIANCE + 1) / 2
        deviation = math.exp(0.5 * (share * math.log(beta) + (1 - share) * math.log(low)))
        drawn = torch.randn((1, 1, 2, 2), generator=draw).double()[0].numpy()
        x = mean + deviation * drawn
    raise AssertionError("The last step returns")


def dpmpp(x, label, steps):
    """DPM-Solver++ (2M): first order at the first and the last step, midpoint between."""
    timesteps = trailing(steps)
    log_snr = [0.5 * math.log(SIGNAL[t] / (1 - SIGNAL[t])) for t in timesteps]
    images = []
    for place, (t, after) in enumerate(zip(timesteps, signal_after(timesteps), strict=True)):
        noise = noise_of(x, label)
        images.append((x - math.sqrt(1 - SIGNAL[t]) * noise) / math.sqrt(SIGNAL[t]))
        if place == steps - 1:
            return images[-1]
        step = log_snr[place + 1] - log_snr[place]
        estimate = images[-1]
        if place > 0:
            ratio = (log_snr[place] - log_snr[place - 1]) / step
            estimate = images[-1] + (images[-1] - images[-2]) / (2 * ratio)
        shrink = math.sqrt((1 - after) / (1 - SIGNAL[t]))
        x = shrink * x - math.sqrt(after) * math.expm1(-step) * estimate
    return x


@pytest.mark.parametrize("closed_form", [ddim, ddpm, dpmpp])
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_each_sampler_takes_the_steps_of_its_formula(closed_form, steps):
    settings = SamplerSettings(sampler=closed_form.__name__, steps=steps)
    drawn = sample(Known(), torch.arange(3), settings)
    for label in range(3):
        expected = torch.from_numpy(closed_form(start(label), label, steps)).float()
        assert_close(drawn[label], expected, rtol=2e-4, atol=2e-4)


def test_a_variance_far_outside_its_range_does_not_touch_the_finished_image(monkeypatch):
    """Trained models predict one there: its loss is flat where the image is nearly clean."""
    calm = sample(Known(), torch.arange(3), SamplerSettings(steps=1))
    monkeypatch.setattr(f"{__name__}.VARIANCE", 9.0)
    assert_close(sample(Known(), torch.arange(3), SamplerSettings(steps=1)), calm)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp"])
@pytest.mark.parametrize("steps", [4, 250])
def test_steps_are_trailing_so_the_first_one_is_the_noisiest(sampler, steps):
    seen = []
    settings = SamplerSettings(sampler=sampler, steps=steps)
    sample(Known(), torch.tensor([0]), settings, on_step=lambda t, x, image: seen.append(t))
    assert seen == trailing(steps)
    assert seen[0] == 999


def random_model(name):
    """Gains that start at 0 would hide the label and most wiring errors: all are drawn anew."""
    model = MPDiT(preset(name, depth=2, width=16, heads=2))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp"])
def test_a_sample_is_the_same_alone_and_in_any_batch(sampler):
    model, labels = random_model("E"), torch.tensor([3, 1, 4, 1, 5])
    settings = SamplerSettings(sampler=sampler, steps=6, guidance=2.0, seed=7)
    together = sample(model, labels, settings)
    for index in range(5):
        alone = sample(model, labels[index : index + 1], settings, first_index=index)
        assert_close(alone[0], together[index], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[1], together[3])  # one label, two noises


def test_every_run_starts_from_the_same_noise_and_another_seed_from_another():
    starts = []

    def keep(timestep, x, image):
        if timestep == 999:
            starts.append(x.clone())

    for name, seed in (("A", 0), ("E", 0), ("A", 1)):
        settings = SamplerSettings(sampler="ddim", steps=2, seed=seed)
        sample(random_model(name), torch.tensor([0, 1]), settings, on_step=keep)
    assert torch.equal(starts[0], starts[1])
    assert not torch.allclose(starts[0], starts[2])
    assert abs(torch.cat(starts).std() - 1) < 0.1


def test_guidance_moves_the_noise_from_null_to_label_and_beyond_but_not_the_variance():
    model, x = random_model("E"), torch.randn(2, 1, 8, 8)
    t, y, null = torch.tensor([500, 20]), torch.tensor([3, 8]), torch.tensor([10, 10])
    labelled, unlabelled = model(x, t, y), model(x, t, null)
    out = guided(model, x, t, y, 5.0)
    assert_close(out[:, :1], unlabelled[:, :1] + 5 * (labelled[:, :1] - unlabelled[:, :1]))
    assert_close(out[:, 1:], labelled[:, 1:])
    assert not torch.allclose(labelled, unlabelled)


def test_guidance_zero_draws_as_the_null_label_and_one_as_the_label():
    model, labels = random_model("E"), torch.tensor([3, 8])

    def drawn(guidance, labels):
        settings = SamplerSettings(sampler="ddim", steps=4, guidance=guidance)
        return sample(model, labels, settings)

    null = torch.full((2,), model.config.null_label)
    assert_close(drawn(0.0, labels), drawn(1.0, null), rtol=1e-4, atol=1e-4)
    assert_close(drawn(1.0 + 1e-9, labels), drawn(1.0, labels), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn(0.0, labels), drawn(1.0, labels))


def test_the_image_told_at_a_step_is_what_the_predicted_noise_leaves():
    told = []
    settings = SamplerSettings(sampler="ddim", steps=3)
    sample(Known(), torch.tensor([2]), settings, on_step=lambda *step: told.append(step))
    for t, x, image in told:
        expected = (x - math.sqrt(1 - SIGNAL[t]) * noise_of(x, 2)) / math.sqrt(SIGNAL[t])
        assert_close(image, expected, rtol=1e-4, atol=1e-4)
