"""Probe points: named identities in the model where a tensor can be read or replaced.

A point costs next to nothing while nobody looks. Whoever looks is a visitor, active for the
current context only, so threads that share one model never see each other's tensors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from torch import Tensor, nn


class Visitor(Protocol):
    """Sees every tensor of a forward pass at its point, in the order of computation."""

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        """A forward pass starts; timesteps (batch,) and labels (batch,) as given to the model."""

    def wants(self, name: str) -> bool:
        """Whether a tensor that is computed only on request (attention entropy) is wanted."""
        ...

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        """Called at each point; returns the tensor that the model goes on with."""
        ...


_VISITORS: ContextVar[tuple[Visitor, ...]] = ContextVar("visitors", default=())


@contextmanager
def visiting(*visitors: Visitor) -> Iterator[None]:
    """Let the visitors see every forward pass of this context, after those already active."""
    token = _VISITORS.set(_VISITORS.get() + visitors)
    try:
        yield
    finally:
        _VISITORS.reset(token)


@contextmanager
def unvisited() -> Iterator[None]:
    """Nobody looks: for what a visitor itself computes with the model."""
    token = _VISITORS.set(())
    try:
        yield
    finally:
        _VISITORS.reset(token)


def announce(timesteps: Tensor, labels: Tensor) -> None:
    """Tell the active visitors that a forward pass starts (called once, by the model)."""
    for visitor in _VISITORS.get():
        visitor.begin(timesteps, labels)


class Point(nn.Module):
    """Identity with a dotted name, such as `blocks.3.attn.in`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, tensor: Tensor) -> Tensor:
        for visitor in _VISITORS.get():
            tensor = visitor.visit(self.name, tensor)
        return tensor

    @property
    def wanted(self) -> bool:
        """Whether any active visitor asks for this point (for tensors computed on request)."""
        return any(visitor.wants(self.name) for visitor in _VISITORS.get())

    def extra_repr(self) -> str:
        return self.name
