"""Power-function EMA of weights, and its reconstruction at any width afterwards ([EDM2] sec. 3).

At step t the average weighs the weights of step tau with the profile
p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1). Its width relative to t, sigma_rel, names it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve
from scipy.optimize import root_scalar
from torch import Tensor

from mpdit_core.errors import InvalidConfig

WIDEST = float(1 / np.sqrt(12))
"""sigma_rel of the uniform average (gamma = 0); beyond it, early weights would count most."""


def sigma_rel_of(gamma: float) -> float:
    """Relative width of the profile tau^gamma: sqrt((g+1) / ((g+2)^2 (g+3)))."""
    return float(np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))))


def gamma_of(sigma_rel: float) -> float:
    """Inverse of `sigma_rel_of`. Raises InvalidConfig outside (0, 0.288]."""
    if not 1e-6 <= sigma_rel <= WIDEST + 1e-12:
        raise InvalidConfig(
            f"sigma_rel was {sigma_rel:g}; it lies above 0 and at most {WIDEST:.3f}"
        )
    upper = 2 / sigma_rel  # sigma_rel < 1 / (gamma + 2), so the root lies below
    found = root_scalar(
        lambda gamma: sigma_rel_of(gamma) - sigma_rel,
        bracket=(-1e-9, upper),
        method="brentq",
        xtol=1e-14,
        rtol=1e-15,
    )
    return float(found.root)


def decay_factor(gamma: float, step: int, steps_at_once: int = 1) -> float:
    """beta of `ema <- beta ema + (1 - beta) theta` at step t = 1, 2, ...: (1 - k/t)^(gamma + 1).

    k = `steps_at_once` is how many steps have passed since the last update. 0 at the first
    update, which therefore copies the weights."""
    return max(0.0, 1.0 - steps_at_once / step) ** (gamma + 1)


class PowerEMA:
    """A running power-function average of a state dict; buffers are copied, never averaged."""

    def __init__(self, sigma_rel: float, start: Mapping[str, Tensor], averaged: set[str]) -> None:
        """start: the state at step 0; averaged: names of the parameters among it."""
        self.sigma_rel = sigma_rel
        self.gamma = gamma_of(sigma_rel)
        self.averaged = averaged
        self.state = {name: tensor.detach().clone() for name, tensor in start.items()}

    def to(self, device: torch.device | str) -> None:
        """Move the average to where the weights are that it will take in."""
        self.state = {name: tensor.to(device) for name, tensor in self.state.items()}

    @torch.no_grad()
    def update(self, current: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after optimizer step `step`, counted from 1."""
        share = 1 - decay_factor(self.gamma, step)
        for name, tensor in current.items():
            if name in self.averaged:
                self.state[name].lerp_(tensor.detach(), share)
            else:
                self.state[name].copy_(tensor)


@dataclass(frozen=True)
class Reconstruction:
    """How to mix snapshots into the average of another width.

    coefficients (snapshots,) as used, summing to 1; raw_sum, their sum before the division;
    error, the distance of the reconstructed profile to the ideal one relative to the latter's
    norm (0 = exact), after the division."""

    coefficients: np.ndarray
    raw_sum: float
    error: float


def profile_products(
    steps: np.ndarray, gammas: np.ndarray, other_steps: np.ndarray, other_gammas: np.ndarray
) -> np.ndarray:
    """Matrix of integrals of p_a(tau) p_b(tau), the inner products of profiles ([EDM2] app. C).

    steps, gammas (a,), other_* (b,) -> (a, b)."""
    step, gamma = steps[:, None].astype(np.float64), gammas[:, None]
    other, other_gamma = other_steps[None, :].astype(np.float64), other_gammas[None, :]
    # The profile that ends later is cut at the end of the earlier one.
    exponent = np.where(step < other, other_gamma, -gamma)
    shared = (step / other) ** exponent / np.maximum(step, other)
    return (gamma + 1) * (other_gamma + 1) / (gamma + other_gamma + 1) * shared


def raw_coefficients(
    steps: Sequence[int], sigma_rels: Sequence[float], target_step: int, target_sigma_rel: float
) -> np.ndarray:
    """Least-squares coefficients of the snapshots' profiles, not divided by their sum."""
    step, gamma = np.asarray(steps), np.array([gamma_of(s) for s in sigma_rels])
    target = np.array([target_step]), np.array([gamma_of(target_sigma_rel)])
    gram = profile_products(step, gamma, step, gamma)
    wanted = profile_products(step, gamma, *target)[:, 0]
    # Profiles scaled to norm 1: neighbouring snapshots make the system nearly singular.
    norm = np.sqrt(np.diag(gram))
    scaled = solve(gram / np.outer(norm, norm), wanted / norm, assume_a="pos")
    return scaled / norm


def reconstruct(
    steps: Sequence[int], sigma_rels: Sequence[float], target_step: int, target_sigma_rel: float
) -> Reconstruction:
    """Coefficients that turn snapshots (step, sigma_rel) into the average asked for.

    Divided by their sum, so that weights which never changed stay as they are."""
    raw = raw_coefficients(steps, sigma_rels, target_step, target_sigma_rel)
    used = raw / raw.sum()
    step, gamma = np.asarray(steps), np.array([gamma_of(s) for s in sigma_rels])
    target = np.array([target_step]), np.array([gamma_of(target_sigma_rel)])
    own = used @ profile_products(step, gamma, step, gamma) @ used
    cross = float(used @ profile_products(step, gamma, *target)[:, 0])
    ideal = float(profile_products(*target, *target)[0, 0])
    error = np.sqrt(max(0.0, own - 2 * cross + ideal) / ideal)
    return Reconstruction(used, float(raw.sum()), float(error))
