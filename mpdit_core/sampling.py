"""From noise to images with diffusers' schedulers and classifier-free guidance."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from pydantic import Field
from torch import Tensor

from mpdit_core.config import Seed, Settings
from mpdit_core.model import MPDiT, guided
from mpdit_core.noise import generator, sample_noise
from mpdit_core.progress import track
from mpdit_core.schedule import FIRST_BETA, LAST_BETA

Sampler = Literal["ddpm", "ddim", "dpmpp"]
SAMPLERS: dict[Sampler, str] = {"ddpm": "DDPM", "ddim": "DDIM", "dpmpp": "DPM-Solver++"}
"""Every sampler with its name in words."""

OnStep = Callable[[int, Tensor, Tensor], None]
"""Called with (timestep, x_t that enters the model, predicted x_0), all before the step."""


class SamplerSettings(Settings):
    """How images are sampled. guidance 1 is none: the label's prediction alone."""

    sampler: Sampler = "ddpm"
    steps: int = Field(default=250, ge=1, le=1000)
    guidance: float = Field(default=1.0, ge=0.0, le=50.0)
    seed: Seed = 0


def scheduler(settings: SamplerSettings, timesteps: int) -> Any:
    """diffusers' scheduler, its steps set; the spacing is pinned: it starts at the noisiest."""
    common = {
        "num_train_timesteps": timesteps,
        "beta_start": FIRST_BETA,
        "beta_end": LAST_BETA,
        "beta_schedule": "linear",
        "timestep_spacing": "trailing",
    }
    if settings.sampler == "ddpm":
        made = DDPMScheduler(**common, variance_type="learned_range", clip_sample=False)
    elif settings.sampler == "ddim":
        made = DDIMScheduler(**common, clip_sample=False)
    else:
        made = DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++")
    made.set_timesteps(settings.steps)
    return made


@torch.no_grad()
def sample(
    model: MPDiT,
    labels: Tensor,
    settings: SamplerSettings,
    *,
    first_index: int = 0,
    on_step: OnStep | None = None,
) -> Tensor:
    """Sample one image per label: (n,) -> (n, channels, H, W), in normalized units.

    Sample i starts from the noise of (seed, first_index + i), and so is the same in any batch."""
    config = model.config
    indices = range(first_index, first_index + len(labels))
    x = sample_noise(settings.seed, indices, (config.channels, config.size, config.size))
    streams = [generator(settings.seed, "steps", index) for index in indices]
    steps = scheduler(settings, config.timesteps)
    for step in track(steps.timesteps.tolist(), "Sampling"):
        out = _predict(model, x, step, labels, settings.guidance)
        if on_step is not None:
            on_step(step, x, _image(steps, x, out[:, : config.channels], step))
        x = _advance(steps, settings.sampler, out, step, x, streams)
    return x


def _predict(model: MPDiT, x: Tensor, step: int, labels: Tensor, guidance: float) -> Tensor:
    timesteps = torch.full_like(labels, step)
    if guidance == 1.0:
        return model(x, timesteps, labels)
    return guided(model, x, timesteps, labels, guidance)


def _image(steps: Any, x: Tensor, noise: Tensor, step: int) -> Tensor:
    signal = steps.alphas_cumprod[step]
    return (x - (1 - signal).sqrt() * noise) / signal.sqrt()


def _advance(
    steps: Any, sampler: str, out: Tensor, step: int, x: Tensor, streams: list[torch.Generator]
) -> Tensor:
    if sampler == "ddpm":
        done = steps.step(out, step, x, generator=streams)
    else:
        # Deterministic, and given the noise channels alone: diffusers' DPM-Solver would cut a
        # learned variance off after a hard-coded third channel.
        done = steps.step(out[:, : x.shape[1]], step, x)
    if sampler != "dpmpp" and step == steps.timesteps[-1]:
        # The image itself. diffusers' DDPM adds noise in every step but that of timestep 0, which
        # trailing steps end before, with a variance whose learned exponent has no lower bound
        # there; its DDIM steps by 1000 // steps, and misses the image where that does not divide.
        return done.pred_original_sample
    return done.prev_sample
