"""Where tokens, timesteps and labels become vectors."""

import math

import torch
from torch import Tensor, nn

from mpdit_core.config import ModelConfig
from mpdit_core.layers import Embedding, Linear, mp_silu, mp_sum, normalize
from mpdit_core.points import Point

FOURIER_FEATURES = 256
EVEN = 0.5
"""Share of the second part in the sums of tokens and position, of timestep and label."""


def sincos_position(config: ModelConfig) -> Tensor:
    """Fixed 2D sin-cos position (tokens, width): first half of the channels column, then row [DiT].

    Normalized per token with `mp_pos_enc`, the mean over channels removed first if centred."""
    side = config.size // config.patch
    quarter = config.width // 4
    # On the CPU even where weights are on the meta device: a range there loads torch's compiler,
    # and the first run is opened seconds later.
    channel = torch.arange(quarter, dtype=torch.float64, device="cpu")
    angle = torch.arange(side, dtype=torch.float64, device="cpu")[:, None]
    angle = angle * (1 / 10_000 ** (channel / quarter))
    line = torch.cat([angle.sin(), angle.cos()], dim=1)
    column = line.repeat(side, 1)
    row = line.repeat_interleave(side, dim=0)
    position = torch.cat([column, row], dim=1)
    if config.position_centred:
        position = position - position.mean(dim=1, keepdim=True)
    return (normalize(position) if config.mp_pos_enc else position).float()


class Patches(nn.Module):
    """(batch, channels, H, W) -> (batch, tokens, width), with position added.

    A patch is flattened as (row, column, channel) and extended by a constant one."""

    position: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = config.patch
        features = config.patch**2 * config.channels + 1
        self.linear = Linear(features, config.width, normalized=config.weight_normalization)
        self.register_buffer("position", sincos_position(config))
        self.preserve = config.mp_residual
        self.point = Point("embed")

    def forward(self, images: Tensor) -> Tensor:
        flat = patchify(images, self.patch)
        tokens = self.linear(torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1))
        return self.point(combine(tokens, self.position, self.preserve))


def patchify(images: Tensor, patch: int) -> Tensor:
    """(batch, channels, H, W) -> (batch, tokens, patch * patch * channels)."""
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def unpatchify(tokens: Tensor, patch: int, size: int) -> Tensor:
    """(batch, tokens, patch * patch * channels) -> (batch, channels, size, size)."""
    batch, side = tokens.shape[0], size // patch
    cut = tokens.reshape(batch, side, side, patch, patch, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, size, size)


def combine(first: Tensor, second: Tensor, preserve: bool) -> Tensor:
    """Sum of two embeddings: plain, or magnitude-preserving with equal shares."""
    return mp_sum(first, second, EVEN) if preserve else first + second


class Sinusoidal(nn.Module):
    """Timesteps (batch,) -> (batch, width): cosines first, then sines, base 10000 [DiT]."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        place = torch.arange(half, device="cpu")  # never on meta; see sincos_position
        frequencies = torch.exp(-math.log(10_000) * place / half)
        self.register_buffer("frequencies", frequencies)

    def forward(self, timesteps: Tensor) -> Tensor:
        angle = timesteps[:, None].float() * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class Fourier(nn.Module):
    """Timesteps (batch,) -> (batch, 256): cos(2 pi f t + phase), f and phase drawn once.

    amplitude sqrt(2) gives magnitude 1 ([EDM2] eq. 75)."""

    scale: Tensor
    phase: Tensor

    def __init__(self, amplitude: float) -> None:
        super().__init__()
        scale, phase = torch.empty(FOURIER_FEATURES), torch.empty(FOURIER_FEATURES)
        if not scale.is_meta:  # see layers.Linear
            scale, phase = 2 * math.pi * scale.normal_(), 2 * math.pi * phase.uniform_()
        self.register_buffer("scale", scale)
        self.register_buffer("phase", phase)
        self.amplitude = amplitude

    def forward(self, timesteps: Tensor) -> Tensor:
        angle = timesteps[:, None].float() * self.scale + self.phase
        return angle.cos() * self.amplitude


def timestep_features(config: ModelConfig) -> tuple[nn.Module, int]:
    """First layer of the timestep embedding, and its width."""
    if config.timestep_embedding == "fourier":
        return Fourier(1.0), FOURIER_FEATURES
    if config.timestep_embedding == "fourier_sqrt2":
        return Fourier(math.sqrt(2)), FOURIER_FEATURES
    if config.mp_embedding:
        table = Embedding(config.timesteps, config.width, normalized=config.weight_normalization)
        return table, config.width
    return Sinusoidal(config.width), config.width


class Condition(nn.Module):
    """Timestep and label -> condition (batch, width)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        normalized = config.weight_normalization
        self.features, features = timestep_features(config)
        self.up = Linear(features, config.width, normalized=normalized)
        self.down = Linear(config.width, config.width, normalized=normalized)
        self.activation = mp_silu if config.mp_silu else nn.functional.silu
        self.labels = Embedding(config.classes + 1, config.width, normalized=config.mp_embedding)
        self.preserve = config.mp_residual
        self.point_t, self.point_y, self.point = Point("cond.t"), Point("cond.y"), Point("cond")

    def forward(self, timesteps: Tensor, labels: Tensor) -> Tensor:
        time = self.point_t(self.down(self.activation(self.up(self.features(timesteps)))))
        label = self.point_y(self.labels(labels))
        return self.point(combine(time, label, self.preserve))
