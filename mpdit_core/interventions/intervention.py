"""What every intervention has: where and when it acts, a name in words, and a short text."""

from collections.abc import Iterable
from typing import Any, Literal, Protocol

from pydantic import field_validator
from torch import Tensor

from mpdit_core.config import ModelConfig, Settings
from mpdit_core.errors import ImpossibleIntervention
from mpdit_core.words import listed

Branch = Literal["attn", "mlp"]
Half = Literal["both", "label", "null"]
Label = int | Literal["null"] | None
Span = tuple[int, int]

BRANCHES: tuple[Branch, ...] = ("attn", "mlp")
BRANCH_WORDS = {"attn": "attention", "mlp": "MLP"}
HALF_WORDS = {"label": "samples with a label only", "null": "samples with the null label only"}


class Pass(Protocol):
    """The forward pass an intervention acts in, and what it may ask of it."""

    config: ModelConfig

    def signal(self, point: str, label: Label, timestep: int | None) -> Tensor:
        """The model's own signal at a point for another label or timestep; None: the sample's."""
        ...


class Intervention(Settings):
    """Where and when; each kind says what. Immutable, as all settings are.

    blocks: counted from 0; branches: attn, mlp; empty means all of them. timesteps: single ones,
    spans (first, last) or a `range`; empty means all. half: with guidance a batch holds every
    sample twice, with its label and with the null label; "both" acts on both halves, "label" and
    "null" only on samples of that kind."""

    blocks: tuple[int, ...] = ()
    branches: tuple[Branch, ...] = ()
    timesteps: tuple[Span, ...] = ()
    half: Half = "both"

    @field_validator("blocks")
    @classmethod
    def _in_order(cls, blocks: tuple[int, ...]) -> tuple[int, ...]:
        if any(block < 0 for block in blocks):
            raise ValueError("blocks are counted from 0")
        return tuple(sorted(set(blocks)))

    @field_validator("branches")
    @classmethod
    def _each_once(cls, branches: tuple[Branch, ...]) -> tuple[Branch, ...]:
        chosen: list[Branch] = [branch for branch in BRANCHES if branch in branches]
        return () if len(chosen) == len(BRANCHES) else tuple(chosen)

    @field_validator("timesteps", mode="before")
    @classmethod
    def _as_spans(cls, value: Any) -> tuple[Span, ...]:
        try:
            return spans(value)
        except (TypeError, IndexError):
            raise ValueError("timesteps are numbers, or spans (first, last)") from None

    def act(self, point: str, tensor: Tensor, forward: Pass) -> Tensor:
        """What the tensor at one of its points becomes, for every sample of the batch."""
        raise NotImplementedError

    def points(self) -> tuple[str, ...]:
        """Last words of the points of a branch where it acts."""
        raise NotImplementedError

    def what(self) -> str:
        """The head of the short text: `angle*0.5`."""
        raise NotImplementedError

    def done(self) -> str:
        """What is done, in words: "with rotation angles × 0.5"."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """The short form for links: `angle*0.5@3-6:mlp:t500-999:label`; blocks count from 1."""
        blocks = f"@{numbers_text(b + 1 for b in self.blocks)}" if self.blocks else ""
        times = [f"t{','.join(map(_span_text, self.timesteps))}"] if self.timesteps else []
        half = [] if self.half == "both" else [self.half]
        return ":".join([self.what() + blocks, *self.branches, *times, *half])

    @property
    def name(self) -> str:
        """What it is in words, blocks counted from 1: "MLP of block 3 skipped"."""
        words = f"{self._where()} {self.done()}"
        if self.timesteps:
            words += f" at t = {listed(map(_sampled, reversed(self.timesteps)))}"
        return words if self.half == "both" else f"{words} ({HALF_WORDS[self.half]})"

    def __str__(self) -> str:
        return self.text

    def _where(self) -> str:
        if not self.blocks and not self.branches:
            return "every branch"
        branch = BRANCH_WORDS[self.branches[0]] if self.branches else "both branches"
        if not self.blocks:
            return f"{branch} of every block"
        plural = "s" if len(self.blocks) > 1 else ""
        return f"{branch} of block{plural} {numbers_words(b + 1 for b in self.blocks)}"

    def places(self, config: ModelConfig) -> list[tuple[int, Branch]]:
        """(block from 0, branch) of every branch it acts at, in a model of this config."""
        blocks = self.blocks or range(config.depth)
        return [(block, branch) for block in blocks for branch in self.branches or BRANCHES]

    def check(self, config: ModelConfig) -> None:
        """Raises ImpossibleIntervention if the model lacks what it names, or where it acts."""
        if self.blocks and self.blocks[-1] >= config.depth:
            self.refuse(f"has no block {self.blocks[-1] + 1}; its blocks are 1 to {config.depth}")
        if self.timesteps and self.timesteps[0][0] >= config.timesteps:
            self.refuse(f"knows the timesteps 0 to {config.timesteps - 1} only")

    def refuse(self, reason: str) -> None:
        """Raise, with the reason in words that follow "the model"."""
        raise ImpossibleIntervention(f"{self.text!r} cannot act here: the model {reason}")


def spans(value: Any) -> tuple[Span, ...]:
    """Numbers as spans (first, last), ascending, merged where they touch.

    >>> spans([500, 501, (10, 20)]), spans(range(500, 1000))
    (((10, 20), (500, 501)), ((500, 999),))
    """
    given = (value,) if isinstance(value, int) else tuple(value)
    pairs = sorted((one, one) if isinstance(one, int) else (one[0], one[1]) for one in given)
    merged: list[Span] = []
    for first, last in pairs:
        if not 0 <= first <= last:
            raise ValueError(f"a span goes from a lower to a higher number, not {first} to {last}")
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def numbers_text(numbers: Iterable[int]) -> str:
    """
    >>> numbers_text([1, 3, 4, 5])
    '1,3-5'
    """
    return ",".join(map(_span_text, spans(numbers)))


def numbers_words(numbers: Iterable[int]) -> str:
    """
    >>> numbers_words([1, 3, 4, 5])
    '1 and 3 to 5'
    """
    return listed(_span_text(span).replace("-", " to ") for span in spans(numbers))


def _span_text(span: Span) -> str:
    return f"{span[0]}" if span[0] == span[1] else f"{span[0]}-{span[1]}"


def _sampled(span: Span) -> str:
    """A span of timesteps in the order of sampling, from noise to image."""
    return f"{span[0]}" if span[0] == span[1] else f"{span[1]} to {span[0]}"
