"""The claims of the paper [MP], in words and formulas, and which configurations they speak of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mpdit_core.config import ModelConfig

EXACT_TOLERANCE = 1e-3
"""An exact claim holds up to this: the eps of the normalization, and rounding to half precision."""

NEARLY, ROUGHLY = 0.05, 0.25
"""A claim in expectation holds within 5 % of what it predicts, and roughly within 25 %."""

NOTHING = "nothing: it holds whatever the tensors are"


@dataclass(frozen=True)
class Claim:
    """One row of the table. kind says what a departure is, see `analysis.theory_verdicts`:

    "bound" (the measured value as a share of its bound), "factor" (measured / claimed), "error"
    (relative, of what should be equal), "value" (the same, told as a factor), "cosine" (of what
    should be orthogonal).
    plain: the formula in letters; formula: the same in Markdown with LaTeX; lacking: why a
    configuration is not spoken of, or "". checked_at: which weights, if not those in view."""

    name: str
    short: str
    words: str
    plain: str
    formula: str
    assumption: str
    exact: bool
    kind: Literal["bound", "factor", "error", "value", "cosine"]
    lacking: Callable[[ModelConfig], str]
    checked_at: str = ""


def _always(config: ModelConfig) -> str:
    return ""


def _no_rotation(config: ModelConfig) -> str:
    return "" if "rotation" in config.block_modulation else "no rotation"


def _free_rows(config: ModelConfig) -> str:
    return "" if config.weight_normalization else "rows not normalized"


def _no_scale_or_shift(config: ModelConfig) -> str:
    return "" if {"scale", "shift"} & set(config.block_modulation) else "no scale, no shift"


def _plain_attention(config: ModelConfig) -> str:
    return "" if config.cosine_attention else "no cosine attention"


def _not_forced(config: ModelConfig) -> str:
    return "" if config.forced_weight_normalization else "rows not forced"


def _no_zero_gates(config: ModelConfig) -> str:
    if "gate" not in config.block_modulation:
        return "no gate"
    if not config.mp_residual:
        return "plain sum"
    return "" if config.gate_form == "gate" else "gate starts at one"


CLAIMS = (
    Claim(
        "attention", "attention bound",
        "Attention makes no token larger than the largest of its values",
        "M[att] ≤ σ for M[v] = σ; about σ/√T for uniform rows and uncorrelated values",
        r"""$M[\mathrm{att}_t] \le \sigma$ where $M[v_s] = \sigma$ for all $s$, with equality for
one-hot rows; about $\sigma/\sqrt{T}$ for uniform rows and uncorrelated values, $T$ the number of
tokens. Checked: $M[\mathrm{att}_t] / \max_s M[v_s]$ of every token and head.""",
        "nothing for the bound; uniform rows and uncorrelated values for σ/√T",
        True, "bound", _always,
    ),
    Claim(
        "rotation", "rotation",
        "Rotation keeps the magnitude of every token and of every pair of channels",
        "M[R(θ) x] = M[x] for every θ",
        r"""$M[R(\theta)\,x] = M[x]$ for every $\theta$, and the norm of every pair
$(x_i, x_j)$. Checked: the largest relative error of a token, or of a pair relative to its
token.""",
        NOTHING, True, "error", _no_rotation,
    ),
    Claim(
        "linear", "unit rows",
        "A linear layer with rows of norm 1 keeps the magnitude",
        "M[Ŵx] = σ if features have mean 0, are uncorrelated, and E[x_i²] = σ²",
        r"""$M[\hat W x] = \sigma$. With $c_i$ the mean square of column $i$, exactly
$M[\hat W x]^2 / \sigma^2 = 1 + (\textstyle\sum_i c_i E[x_i^2]/\sigma^2 - 1) + \text{means} +
\text{correlations}$: the three terms are shown, each 0 where the assumption holds.""",
        "features of mean 0, uncorrelated, equally large", False, "factor", _free_rows,
    ),
    Claim(
        "sum", "sum",
        "The sum of stream and branch has the magnitude of uncorrelated parts",
        "M[√a x + √(1−a) y]² = a σ² + (1−a) τ²; MP-sum: a = 0.845; plain sum: σ² + τ²",
        r"""$M[\sqrt a\,x + \sqrt{1-a}\,y]^2 = a\sigma^2 + (1-a)\tau^2$ for the MP-sum, with
$a = (1-s)^2/((1-s)^2+s^2) = 0.845$ at $s = 0.3$; $\sigma^2 + \tau^2$ for the plain sum. $\sigma$:
magnitude of the stream, $\tau$: of the branch. A correlation $\rho$ adds
$2\rho\sigma\tau\sqrt{a(1-a)}$, or $2\rho\sigma\tau$. So the MP-sum preserves where
$\tau = \sigma$ and $\rho = 0$.""",
        "stream and branch uncorrelated (ρ = 0)", False, "factor", _always,
    ),
    Claim(
        "silu", "SiLU",
        "SiLU multiplies the magnitude by 0.596, so MP-SiLU preserves it",
        "M[silu(x)] = 0.596 for x ~ N(0,1); MP-SiLU divides by 0.596",
        r"""$M[\mathrm{silu}(x)] = 0.596$ for $x \sim N(0, 1)$; MP-SiLU divides by it. For
$N(0, \sigma^2)$ the factor is $\sqrt{E[\mathrm{silu}(\sigma z)^2]}/\sigma$, by integration; for
$N(\mu, \sigma^2)$ likewise, with $\mu + \sigma z$ and $\sqrt{\mu^2 + \sigma^2}$.
Checked: $M[\mathrm{act}]/M[x]$, $x$ the pre-activations of the MLP.""",
        "pre-activations Gaussian with mean 0 and σ = 1", False, "factor", _always,
    ),
    Claim(
        "modulation", "scale and shift",
        "Scale and shift do not preserve: they change the magnitude as predicted",
        "M[x(1+s)]² = mean (1+s_i)² x_i²; M[x+b]² = M[x]² + M[b]² if uncorrelated",
        r"""$M[x(1+s)]^2 = \frac1n\sum_i E[(1+s_i)^2]\,E[x_i^2]$ if scale and features are
independent; $M[x+b]^2 = M[x]^2 + M[b]^2$ if uncorrelated. What they do to the magnitude is
$M[\text{after}]/M[\text{before}]$, 1 would be preserved.""",
        "scale independent of, shift uncorrelated with the features", False, "factor",
        _no_scale_or_shift,
    ),
    Claim(
        "cosine", "cosine attention",
        "Logits of cosine attention stay within √d, however large q and k are",
        "|q·k/√d| ≤ √d, d the width of a head",
        r"""$|q \cdot k / \sqrt d| \le \sqrt d$, $d$ the width of a head: $q$ and $k$ are normalized
to norm $\sqrt d$. Without cosine attention nothing bounds them.""",
        NOTHING, True, "bound", _plain_attention,
    ),
    Claim(
        "gradient", "gradient of normalized weights",
        "The gradient of a normalized weight is orthogonal to its row",
        "⟨∂loss/∂w, w⟩ = 0, so |w+dw|² = |w|² + |dw|²: plain steps can only lengthen a row",
        r"""$\langle \partial L/\partial w_i, w_i\rangle = 0$ for each row $w_i$ used at unit norm,
up to the eps of the normalization; so $|w + dw|^2 = |w|^2 + |dw|^2$, and gradient steps can only
lengthen a row. Checked: the largest $|\cos|$ between a row and its gradient, of the training loss
on held-out images. Random directions of $n$ inputs have about $1/\sqrt n$.""",
        "the eps of the normalization is small", True, "cosine", _free_rows,
    ),
    Claim(
        "forced", "forced rows",
        "Forced normalization keeps every row at norm √n, n the number of inputs",
        "|w_i| = √n_in after every step",
        r"""$|w_i| = \sqrt{n_\text{in}}$ after every step; the effective learning rate $|dw|/|w|$ is
then the optimizer's alone. Checked on the last raw weights: an average of weights has shorter
rows, which the forward pass normalizes again.""",
        "raw weights, as the optimizer leaves them", True, "error", _not_forced,
        "last raw weights",
    ),
    Claim(
        "gates", "zero gates",
        "Zero gates multiply the stream of config E by 0.919 a branch, 0.845 a block",
        "(1−s)/√((1−s)²+s²) = 0.919 at s = 0.3; 1 for a plain sum",
        r"""The MP-sum with a branch of 0 multiplies the stream by
$(1-s)/\sqrt{(1-s)^2+s^2} = 0.919$ per branch, $0.845$ per block; a plain sum leaves it as it is.
Gates of the form $\text{gate} \cdot \text{branch}$ start at 0. So config E is not
magnitude-preserving at initialization.""",
        "gates are 0, as they are at the start", True, "value", _no_zero_gates,
        "initial weights",
    ),
)  # fmt: skip
"""In the order in which the Theory page lists them."""

BY_NAME = {claim.name: claim for claim in CLAIMS}

PARTS = {
    "qkv": "q, k, v",
    "out": "output of attention",
    "up": "first layer of the MLP",
    "down": "second layer of the MLP",
    "modulation": "modulation",
    "scale": "scale",
    "shift": "shift",
}
"""What is checked inside a branch, in words."""

BRANCHES = {"attn": "attention", "mlp": "MLP", "embedding": "embedding", "final": "final layer"}
