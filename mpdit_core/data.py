"""Images to train on and to probe with, normalized; a held-out part is never trained on."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpdit_core.config import DataInfo
from mpdit_core.errors import BadData

DIGITS_HELDOUT = 360
GREY_LEVELS = 16
LATENTS_HELDOUT_SHARE = 0.02
SPLIT_SEED = 0


@dataclass(frozen=True)
class DataSplit:
    """Normalized images (n, channels, H, W) float32 and labels (n,) of both parts.

    spread: standard deviation of each training latent around its mean, in normalized units, or
    None where images are known exactly."""

    info: DataInfo
    classes: int
    train_images: Tensor
    train_labels: Tensor
    heldout_images: Tensor
    heldout_labels: Tensor
    spread: Tensor | None = None

    def train_batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images and labels of these training samples; latents are drawn from their posterior."""
        images = self.train_images[indices]
        if self.spread is not None:
            images = images + self.spread[indices] * torch.randn(images.shape, generator=generator)
        return images, self.train_labels[indices]


def denormalize(images: Tensor, info: DataInfo) -> Tensor:
    """Back to the units of the data: (n, channels, H, W) -> the same shape."""
    mean = torch.tensor(info.mean).reshape(-1, 1, 1)
    std = torch.tensor(info.std).reshape(-1, 1, 1)
    return images * std + mean


def load_data(info: DataInfo) -> DataSplit:
    """The images a run was trained on. Raises BadData if they are not at hand."""
    if info.name == "digits":
        return digits()
    if info.name == "latents" and info.folder:
        return latents(Path(info.folder), info)
    raise BadData(f"The images of data {info.name!r} are not at hand; known: digits, latents")


@lru_cache(maxsize=1)
def digits() -> DataSplit:
    """scikit-learn's 1,797 handwritten digits, 8x8, 17 grey levels [Alpaydin and Kaynak, UCI].

    360 are held out, in equal shares of the classes, always the same ones."""
    from sklearn.datasets import load_digits  # slow to import, and needed only here

    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(images.reshape(-1, 1, 8, 8) / GREY_LEVELS).float()
    heldout = _stratified(labels, DIGITS_HELDOUT)
    mean, std = float(pixels[~heldout].mean()), float(pixels[~heldout].std())
    info = DataInfo(name="digits", mean=(round(mean, 6),), std=(round(std, 6),))
    normalized = (pixels - info.mean[0]) / info.std[0]
    label = torch.from_numpy(labels)
    return DataSplit(
        info, 10, normalized[~heldout], label[~heldout], normalized[heldout], label[heldout]
    )


def _stratified(labels: np.ndarray, count: int) -> Tensor:
    """Mask (n,) of `count` samples, classes in equal shares; fixed by SPLIT_SEED."""
    order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    # The position of each sample among those of its class, in shuffled order.
    position = np.empty(len(labels), dtype=int)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = np.arange(len(members))
    chosen = order[np.argsort(position[order], kind="stable")][:count]
    mask = np.zeros(len(labels), dtype=bool)
    mask[chosen] = True
    return torch.from_numpy(mask)


def latents(folder: Path, info: DataInfo | None = None) -> DataSplit:
    """A folder of image latents in the authors' layout.

    posterior_means.pt, posterior_stds.pt (n, channels, H, W), labels.pt (n,), stats.pt: mean and
    std per channel, as a dict of these names or a pair. 2 % are held out. Raises BadData."""
    means, stds = (_tensor(folder / f"posterior_{name}.pt") for name in ("means", "stds"))
    labels = _tensor(folder / "labels.pt").long().flatten()
    if means.dim() != 4 or means.shape != stds.shape or len(labels) != len(means):
        raise BadData(
            f"{folder}: posterior_means.pt {tuple(means.shape)}, posterior_stds.pt "
            f"{tuple(stds.shape)}, labels.pt {tuple(labels.shape)}; they should be "
            "(n, channels, H, W) twice and (n,)"
        )
    found = info or DataInfo(name="latents", folder=str(folder), **_statistics(folder, means))
    mean = torch.tensor(found.mean).reshape(-1, 1, 1)
    std = torch.tensor(found.std).reshape(-1, 1, 1)
    normalized, spread = (means - mean) / std, stds / std
    order = torch.from_numpy(np.random.RandomState(SPLIT_SEED).permutation(len(labels)))
    cut = max(1, int(len(labels) * LATENTS_HELDOUT_SHARE))
    out, kept = order[:cut], order[cut:]
    classes = int(labels.max()) + 1
    return DataSplit(
        found, classes, normalized[kept], labels[kept], normalized[out], labels[out], spread[kept]
    )


def _statistics(folder: Path, means: Tensor) -> dict[str, tuple[float, ...]]:
    stats = _load(folder / "stats.pt")
    if isinstance(stats, dict):
        pair = [stats.get("mean"), stats.get("std")]
    else:
        pair = list(stats) if isinstance(stats, tuple | list | Tensor) and len(stats) == 2 else []
    vectors = [torch.as_tensor(part).flatten().double() for part in pair if part is not None]
    if len(vectors) != 2 or any(len(vector) != means.shape[1] for vector in vectors):
        raise BadData(
            f"{folder / 'stats.pt'} should hold mean and std, {means.shape[1]} numbers each"
        )
    return {"mean": tuple(vectors[0].tolist()), "std": tuple(vectors[1].tolist())}


def _tensor(file: Path) -> Tensor:
    value = _load(file)
    if not isinstance(value, Tensor):
        raise BadData(f"{file} holds a {type(value).__name__}; it should be a tensor")
    return value.float()


def _load(file: Path) -> Any:
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise BadData(f"{file} is missing") from None
    except Exception as error:  # torch.load raises whatever the damaged bytes provoke
        raise BadData(f"{file} is no safe tensor file ({type(error).__name__})") from None
