"""Randomness that depends on (seed, sample index) alone: not on batch size, device, or run."""

import hashlib

import torch
from torch import Tensor


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream is fixed by the key, e.g. (seed, "noise", index)."""
    text = "/".join(str(part) for part in key)
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def sample_noise(seed: int, indices: range, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (len(indices), *shape), the same for every run that is compared."""
    drawn = [torch.randn(shape, generator=generator(seed, "start", index)) for index in indices]
    return torch.stack(drawn)
