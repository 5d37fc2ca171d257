"""A run as everyone sees it, whatever layout it was read from."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpdit_core.config import DataInfo, ModelConfig, TrainConfig
from mpdit_core.ema import WIDEST, Reconstruction, reconstruct
from mpdit_core.errors import NoSuchWeights, UnreadableRun
from mpdit_core.model import MPDiT
from mpdit_core.runs.files import sha256_of
from mpdit_core.runs.weights import Weights, sigma_text


@dataclass(frozen=True)
class BrokenRun:
    """A folder that looks like a run and cannot be read; `reason` is one sentence."""

    name: str
    folder: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Run:
    """One training: its configuration, and every set of weights it saved.

    raw_files: step -> file of weights as trained; ema_files: sigma_rel -> step -> file;
    `read` turns one of these files into a state dict of `MPDiT`."""

    name: str
    folder: Path
    layout: str
    config: ModelConfig
    data: DataInfo
    raw_files: Mapping[int, Path]
    ema_files: Mapping[float, Mapping[int, Path]]
    read: Callable[[Path], dict[str, Tensor]]
    training: TrainConfig | None = None
    status: str = "finished"
    read_metrics: Callable[[], list[dict[str, Any]]] = list
    ema_trap: str | None = None
    """Why the files under `ema_files` are no averages, where that is known; else None."""
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps whose raw weights are saved, ascending."""
        return tuple(sorted(self.raw_files))

    @property
    def ema_steps(self) -> dict[float, tuple[int, ...]]:
        """Tracked sigma_rel -> steps of its snapshots, ascending."""
        return {sigma: tuple(sorted(files)) for sigma, files in sorted(self.ema_files.items())}

    def metrics(self) -> list[dict[str, Any]]:
        """The training log, one dict per logged step; empty for layouts without one."""
        return self.read_metrics()

    def weights(self) -> list[Weights]:
        """What is saved: initial, steps in between, final, tracked EMAs."""
        found = [Weights("initial")] if 0 in self.raw_files else []
        between = [step for step in self.steps[:-1] if step > 0]
        found += [Weights("step", step=step) for step in between]
        if self.steps and self.steps[-1] > 0:
            found.append(Weights("final"))
        if self.ema_trap is None:
            found += [Weights("ema", sigma_rel=sigma) for sigma in self.ema_steps]
        return found

    def model(self, weights: Weights | str = "final") -> MPDiT:
        """The network with these weights: evaluation mode, parameters without gradient."""
        state = self.state_dict(weights)
        with torch.device("meta"):  # no random start that the loaded weights would replace
            model = MPDiT(self.config)
        try:
            model.load_state_dict(state, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UnreadableRun(
                f"The weights {weights} of run {self.name!r} in {self.folder} do not fit its "
                f"configuration: {reason[:300]}"
            ) from None
        return model.eval().requires_grad_(False)

    def state_dict(self, weights: Weights | str = "final") -> dict[str, Tensor]:
        """These weights in float32, under the names of `MPDiT`. Raises NoSuchWeights."""
        chosen = Weights.parse(weights)
        if chosen.kind == "ema":
            return self._averaged(chosen)
        return {n: tensor.float() for n, tensor in self.read(self._raw_file(chosen)).items()}

    def checkpoint_sha256(self, weights: Weights | str) -> str:
        """sha256 of the file, or of the joined hashes of the files an EMA is mixed from."""
        chosen = Weights.parse(weights)
        files = self._mixed_files(chosen) if chosen.kind == "ema" else [self._raw_file(chosen)]
        hashes = [sha256_of(file) for file in files]
        return hashes[0] if len(hashes) == 1 else _digest(hashes)

    def identity(self, weights: Weights | str) -> str:
        """What a result of these weights depends on: their bytes, the configuration, the data."""
        chosen = Weights.parse(weights)
        mixed = str(chosen) if chosen.kind == "ema" else "raw"
        config, data = self.config.model_dump_json(), self.data.model_dump_json()
        return _digest([self.checkpoint_sha256(chosen), mixed, config, data])

    def reconstruction(self, sigma_rel: float, until: int | None = None) -> Reconstruction:
        """How the snapshots are mixed into the EMA of this width, in the order of `snapshots`.

        until: the step at which the average ends, of those saved; the last without it."""
        snapshots = self.snapshots(until)
        if not snapshots:
            raise NoSuchWeights(f"Run {self.name!r} has no EMA snapshots in {self.folder}")
        steps = [step for _, step, _ in snapshots]
        return reconstruct(steps, [sigma for sigma, _, _ in snapshots], max(steps), sigma_rel)

    def snapshots(self, until: int | None = None) -> list[tuple[float, int, Path]]:
        """Every EMA snapshot, up to a step if one is given: (sigma_rel, step, file), by width."""
        return [
            (sigma, step, self.ema_files[sigma][step])
            for sigma, steps in self.ema_steps.items()
            for step in steps
            if until is None or step <= until
        ]

    def tracked(self, weights: Weights | str) -> tuple[float, int, Path] | None:
        """The snapshot that is this average as it stands, (sigma_rel, step, file).

        None if it has to be mixed from several: no width of this name was tracked to the end."""
        chosen = Weights.parse(weights)
        snapshots = self.snapshots(chosen.step)
        last = max((step for _, step, _ in snapshots), default=None)
        for sigma, step, file in snapshots:
            if step == last and Weights("ema", sigma_rel=sigma).sigma_rel == chosen.sigma_rel:
                return sigma, step, file
        return None

    def _raw_file(self, chosen: Weights) -> Path:
        step = {"initial": 0, "final": max(self.steps, default=0)}.get(chosen.kind, chosen.step)
        if step is not None and step in self.raw_files:
            return self.raw_files[step]
        saved = ", ".join(str(weights) for weights in self.weights()) or "none"
        raise NoSuchWeights(
            f"Run {self.name!r} has no weights {str(chosen)!r} in {self.folder}; saved: {saved}"
        )

    def _mixed_files(self, chosen: Weights) -> list[Path]:
        self._refuse_impossible(chosen)
        tracked = self.tracked(chosen)
        return [tracked[2]] if tracked else [file for _, _, file in self.snapshots(chosen.step)]

    def _averaged(self, chosen: Weights) -> dict[str, Tensor]:
        files = self._mixed_files(chosen)
        if len(files) == 1:
            return {name: tensor.float() for name, tensor in self.read(files[0]).items()}
        snapshots = self.snapshots(chosen.step)
        shares = self.reconstruction(chosen.sigma_rel or 0, chosen.step).coefficients
        with torch.device("meta"):
            parameters = {name for name, _ in MPDiT(self.config).named_parameters()}
        mixed: dict[str, Tensor] = {}
        last = max(step for _, step, _ in snapshots)
        for share, (_, step, file) in zip(shares, snapshots, strict=True):
            for name, tensor in self.read(file).items():
                if name in parameters:
                    part = tensor.double() * float(share)
                    mixed[name] = mixed[name] + part if name in mixed else part
                elif step == last:
                    mixed[name] = tensor
        return {name: tensor.float() for name, tensor in mixed.items()}

    def _refuse_impossible(self, chosen: Weights) -> None:
        if self.ema_trap is not None:
            raise NoSuchWeights(f"Run {self.name!r} has no average: {self.ema_trap}")
        tracked = ", ".join(map(sigma_text, self.ema_steps))
        if not tracked:
            raise NoSuchWeights(f"Run {self.name!r} has no EMA snapshots in {self.folder}")
        if not 0 < (chosen.sigma_rel or 0) <= WIDEST:
            raise NoSuchWeights(
                f"Run {self.name!r} has no EMA of sigma_rel {chosen.sigma_rel}; saved: {tracked}; "
                f"any above 0 and up to {WIDEST:.3f} can be reconstructed"
            )
        steps = sorted({step for _, step, _ in self.snapshots()})
        if chosen.step is not None and chosen.step not in steps:
            raise NoSuchWeights(
                f"Run {self.name!r} has no EMA at step {chosen.step} in {self.folder}; averages "
                f"are saved at {', '.join(map(str, steps))}"
            )


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
