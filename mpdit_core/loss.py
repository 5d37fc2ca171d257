"""The training loss: squared error of the noise, plus the variational bound for the variance."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mpdit_core.model import MPDiT
from mpdit_core.schedule import NoiseSchedule, noise_schedule

HALF_BIN = 1 / 255
"""Half the width of the bins in which the likelihood at t = 0 is measured [IDDPM]."""


@dataclass(frozen=True)
class Loss:
    """Per sample, (batch,): `noise` (mean squared error of the noise, no unit) and `bound` (one
    term of the variational bound, bits per dimension, gradient to the variance only)."""

    noise: Tensor
    bound: Tensor

    @property
    def total(self) -> Tensor:
        """What training minimizes: the plain sum, averaged over the batch."""
        return (self.noise + self.bound).mean()


def diffusion_loss(
    model: MPDiT, images: Tensor, labels: Tensor, timesteps: Tensor, noise: Tensor
) -> Loss:
    """Loss of one batch ([IDDPM] sec. 3.1, with learned range variance).

    images, noise (batch, channels, H, W), images normalized; labels, timesteps (batch,)."""
    schedule = noise_schedule(model.config.timesteps)
    noisy = schedule.add_noise(images, noise, timesteps)
    predicted, interpolation = model(noisy, timesteps, labels).chunk(2, dim=1)
    squared = (predicted - noise).square().flatten(1).mean(dim=1)
    bound = _bound(schedule, images, noisy, timesteps, predicted.detach(), interpolation)
    return Loss(squared, bound)


def _bound(
    schedule: NoiseSchedule,
    images: Tensor,
    noisy: Tensor,
    timesteps: Tensor,
    predicted: Tensor,
    interpolation: Tensor,
) -> Tensor:
    """KL(q(x_{t-1}|x_t,x_0) || p), or -log p(x_0|x_1) at t = 0; bits per dimension, (batch,)."""
    from_image = schedule.at(schedule.from_image, timesteps, images)
    from_noisy = schedule.at(schedule.from_noisy, timesteps, images)
    low = schedule.at(schedule.low_log, timesteps, images)
    high = schedule.at(schedule.high_log, timesteps, images)
    true_mean = from_image * images + from_noisy * noisy
    mean = from_image * schedule.image_from(noisy, predicted, timesteps) + from_noisy * noisy
    share = (interpolation + 1) / 2
    log_variance = share * high + (1 - share) * low
    divergence = _gaussian_kl(true_mean, low, mean, log_variance)
    likelihood = -_binned_log_likelihood(images, mean, log_variance)
    first = (timesteps == 0).reshape(-1, 1, 1, 1)
    return torch.where(first, likelihood, divergence).flatten(1).mean(dim=1) / math.log(2)


def _gaussian_kl(mean_p: Tensor, log_p: Tensor, mean_q: Tensor, log_q: Tensor) -> Tensor:
    """KL(N(mean_p, e^log_p) || N(mean_q, e^log_q)), nats."""
    squared = (mean_p - mean_q).square() * torch.exp(-log_q)
    return 0.5 * (log_q - log_p - 1 + torch.exp(log_p - log_q) + squared)


def _binned_log_likelihood(images: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log of the Gaussian's mass in the bin of width 2/255 around the image, nats."""
    inverse = torch.exp(-0.5 * log_variance)
    upper = torch.special.ndtr((images - mean + HALF_BIN) * inverse)
    lower = torch.special.ndtr((images - mean - HALF_BIN) * inverse)
    return (upper - lower).clamp(min=1e-12).log()
