"""Run directories of the paper authors' code, map-dit, of all its three eras.

RUN/config.yaml                  model name, switches, statistics of the latents
RUN/checkpoints/0400000.pt       {"model": state dict, "opt": ...}
RUN/ema/0.050_0400000.pt         {"std", "t", "state_dict"} in half precision, buffers too

The files under ema/ are called averages, but the code that wrote them swaps beta and 1 - beta:
they are near-copies of the raw weights. That is checked for each run, not taken for granted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mpdit_core.config import ModelConfig
from mpdit_core.ema_health import examine
from mpdit_core.errors import UnreadableRun, UnsafeFile
from mpdit_core.runs.map_dit_settings import data_info, era_of, model_config, read_config
from mpdit_core.runs.map_dit_weights import buffers, plain_names, renamed
from mpdit_core.runs.pickles import read_pickle
from mpdit_core.runs.run import Run

LAYOUT = "map-dit"
TELL_TALE = b"t_embedder.mlp.net.0.weight"
"""A weight of all three eras that DiT and its other descendants call otherwise."""


def recognises(folder: Path) -> bool:
    """Whether the folder claims to be a run of this layout; nothing is unpickled.

    Either part may be missing, so that a damaged run gets its sentence and other layouts with
    checkpoints/*.pt are left to their readers."""
    config, raw_files = folder / "config.yaml", _raw_files(folder / "checkpoints").values()
    if config.is_file():
        return bool(raw_files) or _names_a_model(config)
    return any(_holds_our_names(file) for file in raw_files)


def _holds_our_names(file: Path) -> bool:
    """torch.save writes the names of the weights, uncompressed, before their numbers."""
    try:
        with file.open("rb") as opened:
            return TELL_TALE in opened.read(2**20)
    except OSError:
        return False


def _names_a_model(file: Path) -> bool:
    with file.open("rb") as opened:
        return re.search(rb"^model: .*DiT-", opened.read(2**16), flags=re.MULTILINE) is not None


def read(folder: Path) -> Run:
    """Open a run directory. Raises UnreadableRun (UnsafeFile for code) with one sentence."""
    file = folder / "config.yaml"
    found = read_config(file)
    raw_files = _raw_files(folder / "checkpoints")
    if not raw_files:
        raise UnreadableRun(f"{folder / 'checkpoints'} holds no STEP.pt, such as 0400000.pt")
    last = max(raw_files)
    state = _state(raw_files[last])
    config = model_config(state, found, file)
    # Shapes tell whether the weights fit; only a few are read, however large the model is.
    _renamed(raw_files[last], {name: tensor.to("meta") for name, tensor in state.items()}, config)
    run = Run(
        name=folder.name,
        folder=folder,
        layout=LAYOUT,
        config=config,
        data=data_info(found, config, file),
        raw_files=raw_files,
        ema_files=_ema_files(folder / "ema"),
        read=_Reader(config, buffers(state)).read,
        status="finished" if last >= (found.num_steps or 0) else "stopped",
        notes={"era": era_of(state), "model": found.model},
    )
    return replace(run, ema_trap=_trap(run))


@dataclass(frozen=True)
class _Reader:
    """Turns a file of the run into a state dict of `MPDiT`.

    buffers: from a raw checkpoint; snapshots hold them in half precision, which shifts the phase
    of a timestep's features by whole turns."""

    config: ModelConfig
    buffers: Mapping[str, Tensor]

    def read(self, file: Path) -> dict[str, Tensor]:
        return _renamed(file, _state(file), self.config) | dict(self.buffers)


def _renamed(file: Path, state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    try:
        return renamed(state, config)
    except UnreadableRun as error:
        raise UnreadableRun(f"{file} does not fit its config.yaml: {error}") from None


def _state(file: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint or a snapshot, told apart by what the file holds."""
    content = read_pickle(file)
    try:
        if isinstance(content, dict) and "state_dict" in content:
            _refuse_wrong_name(file, content)
            return plain_names(content["state_dict"])
        if isinstance(content, dict) and "model" in content:
            return plain_names(content["model"])
        return plain_names(content)
    except UnreadableRun as error:
        raise UnreadableRun(f"{file} is no checkpoint of map-dit: {error}") from None


def _refuse_wrong_name(file: Path, content: Mapping[Any, Any]) -> None:
    named = _named_average(file)
    width, step = content.get("std"), content.get("t")
    if named and isinstance(width, float) and isinstance(step, int):
        if abs(named[0] - width) > 1e-3 or named[1] != step:
            raise UnreadableRun(f"its name does not say what it holds: std {width:g}, t {step}")


def _raw_files(folder: Path) -> dict[int, Path]:
    files = (file for file in folder.glob("*.pt") if re.fullmatch(r"\d{1,12}", file.stem))
    return {int(file.stem): file for file in sorted(files)}


def _named_average(file: Path) -> tuple[float, int] | None:
    match = re.fullmatch(r"(0?\.\d{1,6})_(\d{1,12})", file.stem)
    return (float(match[1]), int(match[2])) if match else None


def _ema_files(folder: Path) -> dict[float, dict[int, Path]]:
    found: dict[float, dict[int, Path]] = {}
    for file in sorted(folder.glob("*.pt")):
        if named := _named_average(file):
            sigma, step = named
            found.setdefault(sigma, {})[step] = file
    return found


def _trap(run: Run) -> str | None:
    """Why the files under ema/ are not to be shown as averages; None if they are, or are absent."""
    if not run.ema_files:
        return None
    try:
        examined = examine(run)
    except UnsafeFile:
        raise
    except UnreadableRun as error:
        return str(error)
    if not examined:
        return ("its files under ema/ cannot be checked, as no raw checkpoint has the step of one, "
                "and map-dit is known to write near-copies in their place")  # fmt: skip
    copies = [health for health in examined if health.is_copy]
    if not copies:
        return None
    widths = " and ".join(f"{health.sigma_rel:.3f}" for health in copies)
    return (
        f"its files under ema/ of sigma_rel {widths} are near-copies of the raw weights (within "
        f"{max(health.distance for health in copies):.2%} at step {copies[0].step}), as map-dit "
        "swaps beta and 1 - beta"
    )
