"""The forward process: how much noise each timestep holds, and its Gaussian posteriors [IDDPM]."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

FIRST_BETA, LAST_BETA = 1e-4, 0.02


@dataclass(frozen=True)
class NoiseSchedule:
    """Linear betas; every tensor is (timesteps,), float64 on the CPU.

    `signal[t]` = alpha-bar; x_t = sqrt(signal) x_0 + sqrt(1 - signal) noise. The posterior
    q(x_{t-1} | x_t, x_0) has mean `from_image x_0 + from_noisy x_t` and variance exp(`low_log`);
    exp(`high_log`) = beta is the upper end of the learned range ([IDDPM] sec. 3.1)."""

    beta: Tensor
    signal: Tensor
    from_image: Tensor
    from_noisy: Tensor
    low_log: Tensor
    high_log: Tensor

    def at(self, values: Tensor, timesteps: Tensor, like: Tensor) -> Tensor:
        """values[timesteps], shaped (batch, 1, 1, ...) to multiply a tensor `like` x."""
        picked = values.to(timesteps.device)[timesteps].to(like.dtype)
        return picked.reshape(-1, *[1] * (like.dim() - 1))

    def add_noise(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t for images x_0 (batch, channels, H, W), noise of the same shape, t (batch,)."""
        signal = self.at(self.signal, timesteps, images)
        return signal.sqrt() * images + (1 - signal).sqrt() * noise

    def image_from(self, noisy: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The x_0 that this noise implies; inverse of `add_noise`."""
        signal = self.at(self.signal, timesteps, noisy)
        return (noisy - (1 - signal).sqrt() * noise) / signal.sqrt()


@lru_cache
def noise_schedule(timesteps: int) -> NoiseSchedule:
    """The linear schedule of `timesteps` steps, beta from 1e-4 to 0.02."""
    beta = torch.linspace(FIRST_BETA, LAST_BETA, timesteps, dtype=torch.float64)
    signal = torch.cumprod(1 - beta, dim=0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), signal[:-1]])
    variance = beta * (1 - before) / (1 - signal)
    # The posterior at t = 0 has no variance; its logarithm takes the next one's, as in IDDPM.
    low_log = torch.cat([variance[1:2], variance[1:]]).log()
    return NoiseSchedule(
        beta=beta,
        signal=signal,
        from_image=beta * before.sqrt() / (1 - signal),
        from_noisy=(1 - before) * (1 - beta).sqrt() / (1 - signal),
        low_log=low_log,
        high_log=beta.log(),
    )
