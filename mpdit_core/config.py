"""What a model is: its sizes, every switch of the ladder A-E, and what the condition modulates."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mpdit_core.errors import InvalidConfig

Signal = Literal["scale", "shift", "rotation", "gate"]
SIGNALS: tuple[Signal, ...] = ("scale", "shift", "rotation", "gate")
"""In the order in which they are applied: three before the branch, the gate after it."""

MOST_TOKENS = 256**2
"""Their positions are computed when a run is read, so that a mistaken size must not fill memory."""

LADDER_FLAGS = (
    "cosine_attention",
    "weight_normalization",
    "forced_weight_normalization",
    "mp_residual",
    "mp_silu",
    "mp_pos_enc",
    "mp_embedding",
    "no_layernorm",
)


Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What fixes noise, batches and initial weights; torch takes no larger one."""


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown fields, errors of one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Build from untrusted values. Raises InvalidConfig: field, value, what is allowed."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidConfig(_one_sentence(cls, error)) from None


def _one_sentence(cls: type[BaseModel], error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"]) or cls.__name__
        if problem["type"] == "extra_forbidden":
            allowed = ", ".join(cls.model_fields)
            problems.append(f"{field!r} is not a field (fields: {allowed})")
        elif problem["type"] == "missing":
            problems.append(f"{field!r} is missing")
        else:
            reason = (
                problem["msg"].removeprefix("Value error, ").replace("Input should", "it should")
            )
            given = f"{field} was {problem['input']!r}: " if problem["loc"] else ""
            problems.append(given + reason)
    return f"{cls.__name__}: " + "; ".join(problems)


class ModelConfig(Settings):
    """Architecture of one MP-DiT. Sizes first, then the ladder's switches, then the modulation.

    Units: `size` is the input's height and width in pixels (or latents), `patch` the side of a
    patch in the same unit, `width` the number of channels of a token, `mlp_ratio` hidden / width.
    """

    depth: int = Field(default=6, ge=1, le=200)
    width: int = Field(default=64, ge=2, le=16_384)
    heads: int = Field(default=4, ge=1)
    patch: int = Field(default=2, ge=1)
    channels: int = Field(default=1, ge=1)
    size: int = Field(default=8, ge=1)
    classes: int = Field(default=10, ge=1)
    mlp_ratio: int = Field(default=4, ge=1)
    timesteps: int = Field(default=1000, ge=2)

    cosine_attention: bool = False
    weight_normalization: bool = False
    forced_weight_normalization: bool = False
    mp_residual: bool = False
    mp_silu: bool = False
    mp_pos_enc: bool = False
    mp_embedding: bool = False
    no_layernorm: bool = False

    block_modulation: tuple[Signal, ...] = ("scale", "shift", "gate")
    final_modulation: tuple[Signal, ...] = ("scale", "shift")
    gate_form: Literal["gate", "one_plus_gate"] = "gate"
    modulation_form: Literal["affine", "mp_sum"] = "affine"
    pairing: Literal["half", "adjacent"] = "half"
    timestep_embedding: Literal["ladder", "fourier", "fourier_sqrt2"] = "ladder"
    position_centred: bool = False
    output_gain: Literal["scalar", "per_sample"] = "scalar"

    @field_validator("block_modulation", "final_modulation", mode="before")
    @classmethod
    def _canonical_order(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple | set | frozenset):
            raise ValueError(f"a list of signals is wanted; any subset of {', '.join(SIGNALS)}")
        unknown = [name for name in names if name not in SIGNALS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no signal; any subset of {', '.join(SIGNALS)}")
        if len(set(names)) != len(names):
            raise ValueError("a signal is named twice")
        return tuple(name for name in SIGNALS if name in names)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is no multiple of patch {self.patch}")
        if self.tokens > MOST_TOKENS:
            raise ValueError(
                f"size {self.size} in patches of {self.patch} are {self.tokens:,} tokens; at most "
                f"{MOST_TOKENS:,} are possible"
            )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.width % 4:
            raise ValueError(f"width {self.width} is no multiple of 4, as the 2D position needs")
        if "gate" in self.final_modulation:
            raise ValueError("the final layer has no gate: final_modulation is any subset of "
                             "scale, shift, rotation")  # fmt: skip
        return self

    @property
    def head_width(self) -> int:
        """Channels of one attention head (d in the paper)."""
        return self.width // self.heads

    @property
    def tokens(self) -> int:
        """Number of patches, the length of the token sequence."""
        return (self.size // self.patch) ** 2

    @property
    def null_label(self) -> int:
        """The label that stands for "no class"."""
        return self.classes


_LADDER_STEPS: dict[str, tuple[str, ...]] = {
    "A": (),
    "B": ("cosine_attention",),
    "C": ("weight_normalization",),
    "D": ("forced_weight_normalization",),
    "E": ("mp_residual", "mp_silu", "mp_pos_enc", "mp_embedding", "no_layernorm"),
}
"""What each config adds to the one before it (the ladder A-E, arXiv 2505.19122)."""

PRESETS = tuple(_LADDER_STEPS)


def preset(name: str, **changes: Any) -> ModelConfig:
    """Config A, B, C, D or E, with any field changed.

    >>> preset("C", depth=2).cosine_attention
    True
    """
    if name not in _LADDER_STEPS:
        raise InvalidConfig(f"There is no preset {name!r}; presets are {', '.join(PRESETS)}")
    reached = PRESETS[: PRESETS.index(name) + 1]
    flags = {flag: True for step in reached for flag in _LADDER_STEPS[step]}
    return ModelConfig.checked(flags | changes)


def modulation_study(signals: tuple[Signal, ...], **changes: Any) -> ModelConfig:
    """Config E's parts with `(1 + gate) * branch` and the given signals in the blocks [MP table 2].

    The final layer keeps scale and shift, as in the paper's parameter counts."""
    chosen = {"block_modulation": signals, "gate_form": "one_plus_gate"}
    return preset("E", **(chosen | changes))


class DataInfo(Settings):
    """Which images a run was trained on, and how they were normalized.

    mean, std: one number a channel, in the units of the data; normalized = (x - mean) / std.
    folder: where latents were read from (not needed to look at a run)."""

    name: Literal["digits", "latents", "unknown"]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    folder: str | None = None

    def refuse_other_channels(self, channels: int) -> None:
        """Raises InvalidConfig unless mean and std are one number, or one a channel."""
        for field, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise InvalidConfig(
                    f"DataInfo: {field} has {len(values)} numbers; the model has {channels} "
                    "channels, and one number for all would do too"
                )


class TrainConfig(Settings):
    """How a run is trained. Steps count optimizer updates; `save_every` 0 keeps first and last.

    The learning rate rises linearly over `warmup` steps, stays, and falls as 1/sqrt(t) from
    `decay_start` on [EDM2]."""

    steps: int = Field(default=6000, ge=1)
    batch: int = Field(default=128, ge=1, le=65_536)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: int = Field(default=66, ge=0)
    decay_start: int = Field(default=1000, ge=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    label_dropout: float = Field(default=0.1, ge=0, le=1)
    seed: Seed = 0
    sigma_rels: tuple[float, ...] = (0.05, 0.10)
    log_every: int = Field(default=50, ge=1)
    evaluate_every: int = Field(default=500, ge=1)
    save_every: int = Field(default=1000, ge=0)
    ema_every: int = Field(default=1000, ge=1)
    state_every: int = Field(default=250, ge=1)
