"""MPDiT: patches -> blocks -> final layer, with probe points where each tensor is born."""

import torch
from torch import Tensor, nn

from mpdit_core.branches import Block, norm
from mpdit_core.config import ModelConfig
from mpdit_core.embeddings import Condition, Patches, unpatchify
from mpdit_core.layers import Linear, mp_silu
from mpdit_core.modulation import Modulation, modulator
from mpdit_core.points import Point, announce

SAMPLE_GAIN_WIDTH = 8


class SampleGain(nn.Module):
    """A number in (0, 1) per sample: sigmoid(<L c, r> / sqrt(8)), r learned (`head` era)."""

    def __init__(self, config: ModelConfig, start: float) -> None:
        super().__init__()
        self.linear = Linear(config.width, SAMPLE_GAIN_WIDTH, normalized=True)
        self.reference = nn.Parameter(torch.full((SAMPLE_GAIN_WIDTH,), start))

    def forward(self, condition: Tensor) -> Tensor:
        """condition (batch, width) -> (batch, 1, 1)."""
        product = (self.linear(condition) * self.reference).sum(dim=-1)
        return torch.sigmoid(product / SAMPLE_GAIN_WIDTH**0.5)[:, None, None]


class FinalLayer(nn.Module):
    """Tokens -> predicted noise and variance interpolation, (batch, 2 channels, size, size).

    The linear's rows are the noise features of a patch, then its variance features."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        signals = config.final_modulation
        normalized = config.weight_normalization
        self.patch, self.size = config.patch, config.size
        self.norm = norm(config)
        self.modulation = Modulation(config, signals, "final") if signals else None
        self.modulate = modulator(config)
        features = 2 * config.patch**2 * config.channels
        self.linear = Linear(
            config.width, features, normalized=normalized, zero_start=not normalized
        )
        per_sample = config.output_gain == "per_sample"
        scalar = normalized and not per_sample
        self.gain = nn.Parameter(torch.zeros(())) if scalar else None
        self.noise_gain = SampleGain(config, 1.0) if per_sample else None
        self.variance_gain = SampleGain(config, 0.0) if per_sample else None
        self.point_in, self.point_out = Point("final.in"), Point("final.out")

    def forward(self, stream: Tensor, condition: Tensor, activated: Tensor) -> Tensor:
        tokens = self.norm(stream)
        if self.modulation is not None:
            tokens = self.modulate(tokens, self.modulation(activated))
        features = self.linear(self.point_in(tokens))
        if self.gain is not None:
            features = features * self.gain
        noise, variance = features.chunk(2, dim=-1)
        if self.noise_gain is not None and self.variance_gain is not None:
            noise = noise * self.noise_gain(condition)
            variance = variance * self.variance_gain(condition)
        images = [unpatchify(part, self.patch, self.size) for part in (noise, variance)]
        return self.point_out(torch.cat(images, dim=1))


class MPDiT(nn.Module):
    """Diffusion transformer of any config of the ladder and any modulation.

    `model(x, t, y)`: x (batch, channels, size, size) normalized noisy images, t (batch,) timesteps
    0..timesteps-1, y (batch,) labels 0..classes, `classes` being the null label. Returns
    (batch, 2 channels, size, size): predicted noise, then the variance interpolation v [IDDPM].
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = Patches(config)
        self.condition = Condition(config)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.final = FinalLayer(config)
        self.activation = mp_silu if config.mp_silu else nn.functional.silu

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        announce(t, y)
        stream = self.patches(x)
        condition = self.condition(t, y)
        # Every modulation starts with this nonlinearity; computed once for all of them.
        activated = self.activation(condition)
        for block in self.blocks:
            stream = block(stream, activated)
        return self.final(stream, condition, activated)


def guided(model: MPDiT, x: Tensor, t: Tensor, y: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: noise = null + w (label - null); variance of the label's half.

    Shapes as `MPDiT.forward`; both halves run as one batch of twice the size."""
    null = torch.full_like(y, model.config.null_label)
    out = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null]))
    labelled, unlabelled = out.chunk(2)
    channels = model.config.channels
    noise, noise_null = labelled[:, :channels], unlabelled[:, :channels]
    return torch.cat([noise_null + guidance * (noise - noise_null), labelled[:, channels:]], dim=1)
