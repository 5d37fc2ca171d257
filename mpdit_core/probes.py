"""Which probe points a model has, how they are chosen, and how a tensor is replaced at one.

A new point: `Point(name)` where the tensor is born, and one line in a list of this file.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from torch import Tensor

from mpdit_core.config import ModelConfig, Signal
from mpdit_core.errors import NoSuchPoint
from mpdit_core.modulation import POINT_OF_SIGNAL
from mpdit_core.points import visiting

Kind = Literal["stream", "branch", "signal", "angle", "heads", "hidden", "rows", "image"]
BRANCHES = ("attn", "mlp")

SHAPES: dict[Kind, str] = {
    "stream": "(batch, tokens, width)",
    "branch": "(batch, tokens, width)",
    "signal": "(batch, width)",
    "angle": "(batch, width/2)",
    "heads": "(batch, heads, tokens, head width)",
    "hidden": "(batch, tokens, mlp_ratio * width)",
    "rows": "(batch, heads, tokens)",
    "image": "(batch, 2 channels, size, size)",
}

Entry = tuple[str, Kind, str]
"""Name (inside a branch: last word), kind, what it is in words."""

_INPUT: tuple[Entry, ...] = (
    ("embed", "stream", "tokens with position"),
    ("cond.t", "signal", "embedding of the timestep"),
    ("cond.y", "signal", "embedding of the label"),
    ("cond", "signal", "condition: timestep and label together"),
)
_SIGNAL_WORDS: dict[Signal, str] = {
    "scale": "scale: the branch's input is multiplied by 1 + scale",
    "shift": "shift: added to the branch's input",
    "rotation": "rotation angles in radians, unwrapped",
    "gate": "gate: multiplies the branch's output",
}
_INSIDE: dict[str, tuple[Entry, ...]] = {
    "attn": (
        ("q", "heads", "queries per head, after normalization"),
        ("k", "heads", "keys per head, after normalization"),
        ("v", "heads", "values per head"),
        ("entropy", "rows", "entropy of the attention rows, nats; computed on request"),
    ),
    "mlp": (("act", "hidden", "hidden layer after the nonlinearity"),),
}
_AFTER: tuple[Entry, ...] = (
    ("out", "branch", "output of the branch before the gate"),
    ("gated", "branch", "output of the branch after the gate"),
    ("resid", "stream", "residual stream after the sum"),
)
ON_REQUEST: tuple[Kind, ...] = ("rows",)
"""Kinds that cost a computation of their own: chosen only by a pattern with their last word."""


@dataclass(frozen=True)
class PointInfo:
    """A probe point of a config.

    name: dotted; what: one line for people; vectors: how many per sample have a magnitude
    (tokens, or tokens of every head; 1 for a signal); features: numbers in each; depth: blocks
    of the model."""

    name: str
    kind: Kind
    what: str
    vectors: int
    features: int
    depth: int

    @property
    def shape(self) -> str:
        """Shape of the tensor in words."""
        return SHAPES[self.kind]

    @property
    def block(self) -> int | None:
        """Block, counted from 0; None outside the blocks."""
        parts = self.name.split(".")
        return int(parts[1]) if parts[0] == "blocks" else None

    @property
    def place(self) -> int:
        """Block as tables name it: from 0; -1 before the blocks, depth in the final layer."""
        if self.block is not None:
            return self.block
        return self.depth if self.name.startswith("final") else -1

    @property
    def branch(self) -> str:
        """`attn` or `mlp`; empty outside the blocks."""
        return "" if self.block is None else self.name.split(".")[2]

    @property
    def word(self) -> str:
        """The name without its place: `resid` of `blocks.3.mlp.resid`, `in` of `final.in`."""
        parts = self.name.split(".")
        return parts[3] if parts[0] == "blocks" else self.name.removeprefix("final.")

    @property
    def has_channels(self) -> bool:
        """Whether statistics per channel are kept: at stream and branch points."""
        return self.kind in ("stream", "branch")

    @property
    def read_only(self) -> bool:
        """Whether the model ignores an edit: the entropy is computed beside the forward pass."""
        return self.kind == "rows"


def points(config: ModelConfig) -> tuple[PointInfo, ...]:
    """Every probe point of a model of this config, in the order of computation.

    >>> [point.name for point in points(ModelConfig(depth=1))][:5]
    ['embed', 'cond.t', 'cond.y', 'cond', 'blocks.0.attn.scale']
    """
    listed: list[Entry] = []
    listed.extend(_INPUT)
    for block in range(config.depth):
        for branch in BRANCHES:
            listed += _in_branch(config, f"blocks.{block}.{branch}", branch)
    listed += _signals(config.final_modulation, "final")
    listed.append(("final.in", "branch", "what enters the last linear, modulated"))
    listed.append(("final.out", "image", "predicted noise, then variance interpolation"))
    return tuple(
        PointInfo(name, kind, what, *_vectors(config, kind), config.depth)
        for name, kind, what in listed
    )


def _in_branch(config: ModelConfig, prefix: str, branch: str) -> list[Entry]:
    entering: Entry = ("in", "branch", "what enters the branch, modulated")
    listed = _signals(config.block_modulation, prefix)
    for word, kind, what in (entering, *_INSIDE[branch], *_AFTER):
        listed.append((f"{prefix}.{word}", kind, what))
    return listed


def _signals(signals: Iterable[Signal], prefix: str) -> list[Entry]:
    listed: list[Entry] = []
    for signal, what in _SIGNAL_WORDS.items():
        if signal in signals:
            kind: Kind = "angle" if signal == "rotation" else "signal"
            listed.append((f"{prefix}.{POINT_OF_SIGNAL[signal]}", kind, what))
    return listed


def _vectors(config: ModelConfig, kind: Kind) -> tuple[int, int]:
    """Vectors per sample, and numbers in each."""
    tokens, width, heads = config.tokens, config.width, config.heads
    sizes: dict[Kind, tuple[int, int]] = {
        "stream": (tokens, width),
        "branch": (tokens, width),
        "signal": (1, width),
        "angle": (1, width // 2),
        "heads": (heads * tokens, config.head_width),
        "hidden": (tokens, config.mlp_ratio * width),
        "rows": (heads * tokens, 1),
        "image": (2 * config.channels, config.size**2),
    }
    return sizes[kind]


def select(config: ModelConfig, patterns: str | Iterable[str]) -> tuple[PointInfo, ...]:
    """The points that match any pattern (`*` stands for anything, dots too), each once, in order.

    Points computed on request only match patterns that end with their word, such as
    `blocks.*.entropy`. Raises NoSuchPoint for a pattern without a match.

    >>> [point.name for point in select(ModelConfig(depth=1), "blocks.*.resid")]
    ['blocks.0.attn.resid', 'blocks.0.mlp.resid']
    """
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    every = points(config)
    chosen: set[str] = set()
    for pattern in wanted:
        found = {point.name for point in every if _matches(point, pattern)}
        if not found:
            raise NoSuchPoint(_no_such_point(pattern, [point.name for point in every]))
        chosen |= found
    return tuple(point for point in every if point.name in chosen)


def _matches(point: PointInfo, pattern: str) -> bool:
    if point.kind in ON_REQUEST and not pattern.endswith(point.word):
        return False
    return fnmatchcase(point.name, pattern)


def _no_such_point(pattern: str, names: list[str]) -> str:
    near = get_close_matches(pattern, names, n=3, cutoff=0.5) or names[:3]
    return (
        f"No probe point of this model matches {pattern!r}; near it: {', '.join(near)} "
        f"({len(names)} points in all)"
    )


Replacement = Callable[[Tensor], Tensor]
"""Takes the tensor at a point, returns what the model goes on with, of the same shape."""


@dataclass
class Edit:
    """A visitor that replaces tensors; `seen` are the points it has acted at."""

    replacements: Mapping[str, Replacement]
    seen: set[str] = field(default_factory=set)

    def begin(self, timesteps: Tensor, labels: Tensor) -> None:
        """Nothing to do: an edit is the same for every sample."""

    def wants(self, name: str) -> bool:
        """False: an edit of something computed beside the forward pass would do nothing."""
        return False

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        """Replace the tensor, if this point is edited. Raises ValueError on another shape."""
        if name not in self.replacements:
            return tensor
        self.seen.add(name)
        replaced = self.replacements[name](tensor)
        if replaced.shape != tensor.shape:
            raise ValueError(
                f"The edit at {name} returned shape {tuple(replaced.shape)}; "
                f"the model needs {tuple(tensor.shape)} there"
            )
        return replaced


@contextmanager
def editing(replacements: Mapping[str, Replacement]) -> Iterator[Edit]:
    """Replace tensors at points, by name, in every forward pass of this context.

    An edit that silently did nothing would look like a finding, so leaving the context raises
    NoSuchPoint if a named point was never reached."""
    edit = Edit(replacements)
    with visiting(edit):
        yield edit
    missed = [name for name in replacements if name not in edit.seen]
    if missed:
        raise NoSuchPoint(
            f"The edit at {missed[0]!r} was never reached: the model has no such point that can "
            "be edited, or no forward pass ran"
        )
