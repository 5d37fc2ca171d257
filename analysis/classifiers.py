"""Judges of drawn digits, both trained on the training split alone.

A support vector machine says which digit it is: the best reader of these images. A small network
gives features for distances between sets of images. Its weights ship with the runs, so that the
distances are the same everywhere; `python -m analysis.classifiers` trains it again in seconds.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sklearn.svm import SVC
from torch import Tensor, nn

from mpdit_core.data import DataSplit, digits
from mpdit_core.errors import UnreadableRun
from mpdit_core.noise import generator
from mpdit_core.runs.files import read_tensors, write_tensors

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "digits" / "classifier.safetensors"
FEATURES = 64
EPOCHS, BATCH, LEARNING_RATE = 12, 64, 2e-3


class Recognizer:
    """Which digit is it? A support vector machine with radial kernel on the pixels."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        """images (n, 1, 8, 8) normalized, labels (n,)."""
        self._machine = SVC(kernel="rbf", C=10.0, gamma="scale")
        self._machine.fit(_flat(images), labels.numpy())

    def labels_of(self, images: Tensor) -> Tensor:
        """(n, 1, 8, 8) normalized -> (n,) the digit it takes each image for."""
        return torch.from_numpy(self._machine.predict(_flat(images)))


def _flat(images: Tensor) -> np.ndarray:
    return images.flatten(1).double().numpy()


@lru_cache(maxsize=1)
def recognizer() -> Recognizer:
    """The recognizer of scikit-learn's digits, trained on the training split in half a second."""
    data = digits()
    return Recognizer(data.train_images, data.train_labels)


class DigitFeatures(nn.Module):
    """A network of 61,000 weights that tells digits apart; its last hidden layer is the features.

    Calling it gives features (n, 64) of normalized images (n, 1, 8, 8)."""

    num_features = FEATURES
    """Read by torchmetrics, which otherwise would try an image of 299 x 299 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 24, 3, padding=1)
        self.second = nn.Conv2d(24, 48, 3, padding=1, stride=2)
        self.features = nn.Linear(48 * 4 * 4, FEATURES)
        self.digit = nn.Linear(FEATURES, 10)

    def forward(self, images: Tensor) -> Tensor:
        near = nn.functional.silu(self.first(images))
        wide = nn.functional.silu(self.second(near))
        return nn.functional.silu(self.features(wide.flatten(1)))

    def labels_of(self, images: Tensor) -> Tensor:
        """The digit it takes each image for, (n,)."""
        return self.digit(self(images)).argmax(dim=1)


def train_features(data: DataSplit) -> DigitFeatures:
    """Train the feature network on the training split; the same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DigitFeatures()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(data.train_images), generator=generator(0, "features", epoch))
        for indices in order.split(BATCH):
            scores = network.digit(network(data.train_images[indices]))
            nn.functional.cross_entropy(scores, data.train_labels[indices]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return network.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def digit_features(file: Path = SHIPPED) -> DigitFeatures:
    """The shipped feature network; trained anew where the project's checkpoints are not at hand.

    Raises UnreadableRun if the file is damaged."""
    if not file.is_file():
        return train_features(digits())
    network = DigitFeatures()
    try:
        network.load_state_dict(read_tensors(file))
    except RuntimeError:
        raise UnreadableRun(
            f"{file} does not hold the weights of DigitFeatures; "
            "make it again with `python -m analysis.classifiers`"
        ) from None
    return network.eval().requires_grad_(False)


def main() -> None:
    """Train the feature network and write it where it ships."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    given = parser.parse_args()
    data = digits()
    network = train_features(data)
    accuracy = float(
        (network.labels_of(data.heldout_images) == data.heldout_labels).double().mean()
    )
    about = {"kind": "features", "heldout_accuracy": f"{accuracy:.4f}"}
    write_tensors(given.out, network.state_dict(), about)
    print(f"{given.out}: reads {accuracy:.1%} of {len(data.heldout_labels)} held-out digits")


if __name__ == "__main__":
    main()
