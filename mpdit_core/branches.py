"""The two branches of a block, attention and MLP, and the block that adds them to the stream."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from mpdit_core.config import ModelConfig
from mpdit_core.layers import STREAM_BALANCE, Linear, mp_silu, mp_sum, normalize
from mpdit_core.modulation import Modulation, apply_gate, modulator
from mpdit_core.points import Point

LAYERNORM_EPS = 1e-6


def norm(config: ModelConfig) -> nn.Module:
    """What stands before each branch and the final layer: LayerNorm without affine, or nothing."""
    if config.no_layernorm:
        return nn.Identity()
    return nn.LayerNorm(config.width, eps=LAYERNORM_EPS, elementwise_affine=False)


def attention_entropy(q: Tensor, k: Tensor) -> Tensor:
    """Entropy of every row of softmax(q k^T / sqrt(d)), nats; (batch, heads, tokens)."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    log_weights = logits.log_softmax(dim=-1)
    return -(log_weights.exp() * log_weights).sum(dim=-1)


class Attention(nn.Module):
    """Softmax attention; cosine attention normalizes q and k per head, so |logit| <= sqrt(d)."""

    def __init__(self, config: ModelConfig, prefix: str) -> None:
        super().__init__()
        normalized = config.weight_normalization
        self.heads = config.heads
        self.cosine = config.cosine_attention
        self.qkv = Linear(config.width, 3 * config.width, normalized=normalized)
        self.out = Linear(config.width, config.width, normalized=normalized)
        self.point_q, self.point_k = Point(f"{prefix}.q"), Point(f"{prefix}.k")
        self.point_v, self.point_entropy = Point(f"{prefix}.v"), Point(f"{prefix}.entropy")

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, tokens, width) -> the same shape."""
        batch, length, width = tokens.shape
        split = self.qkv(tokens).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, head width)
        if self.cosine:
            q, k = normalize(q), normalize(k)
        q, k, v = self.point_q(q), self.point_k(k), self.point_v(v)
        if self.point_entropy.wanted:
            self.point_entropy(attention_entropy(q, k))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """width -> mlp_ratio * width -> width with SiLU, or MP-SiLU."""

    def __init__(self, config: ModelConfig, prefix: str) -> None:
        super().__init__()
        hidden = config.mlp_ratio * config.width
        self.up = Linear(config.width, hidden, normalized=config.weight_normalization)
        self.down = Linear(hidden, config.width, normalized=config.weight_normalization)
        self.activation = mp_silu if config.mp_silu else functional.silu
        self.point = Point(f"{prefix}.act")

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, tokens, width) -> the same shape."""
        return self.down(self.point(self.activation(self.up(tokens))))


class Branch(nn.Module):
    """stream + gate * core(modulate(norm(stream))), for attention or MLP as the core."""

    def __init__(self, config: ModelConfig, block: int, kind: Literal["attn", "mlp"]) -> None:
        super().__init__()
        prefix = f"blocks.{block}.{kind}"
        signals = config.block_modulation
        self.norm = norm(config)
        self.modulation = Modulation(config, signals, prefix) if signals else None
        self.modulate = modulator(config)
        self.core = Attention(config, prefix) if kind == "attn" else MLP(config, prefix)
        self.gate_form = config.gate_form
        self.preserve = config.mp_residual
        self.point_in, self.point_out = Point(f"{prefix}.in"), Point(f"{prefix}.out")
        self.point_gated, self.point_resid = Point(f"{prefix}.gated"), Point(f"{prefix}.resid")

    def forward(self, stream: Tensor, activated: Tensor) -> Tensor:
        """stream (batch, tokens, width); activated condition (batch, width)."""
        tokens, gate = self.norm(stream), None
        if self.modulation is not None:
            signals = self.modulation(activated)
            tokens, gate = self.modulate(tokens, signals), signals.gate
        branch = self.point_out(self.core(self.point_in(tokens)))
        branch = self.point_gated(apply_gate(branch, gate, self.gate_form))
        return self.point_resid(self._join(stream, branch))

    def _join(self, stream: Tensor, branch: Tensor) -> Tensor:
        return mp_sum(stream, branch, STREAM_BALANCE) if self.preserve else stream + branch


class Block(nn.Module):
    """Attention branch, then MLP branch."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.attn = Branch(config, index, "attn")
        self.mlp = Branch(config, index, "mlp")

    def forward(self, stream: Tensor, activated: Tensor) -> Tensor:
        return self.mlp(self.attn(stream, activated), activated)
