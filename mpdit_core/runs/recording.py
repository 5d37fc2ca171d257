"""Writing a run while it trains, so that a kill at any moment loses at most a few steps."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mpdit_core.config import DataInfo, ModelConfig, TrainConfig
from mpdit_core.errors import AlreadyExists, Diverged, InvalidConfig, UnreadableRun
from mpdit_core.runs import native
from mpdit_core.runs.files import (
    halved,
    read_json,
    read_tensors,
    write_atomically,
    write_json,
    write_tensors,
)

if TYPE_CHECKING:
    from mpdit_core.training import TrainingState

PACKAGES = ("torch", "numpy", "diffusers", "accelerate", "safetensors")


class RunWriter:
    """One run folder that is being written. Every file appears whole; the state comes last."""

    def __init__(
        self, folder: Path, config: ModelConfig, training: TrainConfig, data: DataInfo
    ) -> None:
        self.folder = folder
        self.about = {
            "format": native.FORMAT_VERSION,
            "name": folder.name,
            "status": "training",
            "model": config.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "data": data.model_dump(mode="json"),
            "versions": {name: version(name) for name in PACKAGES},
        }

    @contextmanager
    def opened(self, state: "TrainingState") -> Iterator[None]:
        """Start a new folder, or bring `state` to where an earlier process stopped; then hold it.

        Raises InvalidConfig if the folder holds a run of another configuration, AlreadyExists if
        another process trains in it or it holds something else. A run that raises Diverged is
        marked as diverged."""
        file = self.folder / "run.json"
        if file.exists():
            self._refuse_another_run(read_json(file))
        else:
            self._refuse_what_is_no_run()
        with self._held():
            self._take_up(state)
            try:
                yield
            except Diverged:
                self._mark("diverged")
                raise

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep other processes from training in the folder; a killed one lets go of it."""
        file = self.folder / "state" / "training.lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(file).acquire(timeout=0)
        except Timeout:
            raise AlreadyExists(
                f"Another process is training in {self.folder}; wait for it, or choose another "
                "folder"
            ) from None
        with lock:
            yield

    def _take_up(self, state: "TrainingState") -> None:
        saved = native.steps_in(self.folder / "state")
        if saved:
            _restore(state, read_tensors(saved[max(saved)]))
        steps = self.about["training"]["steps"]
        if state.step > steps:
            raise InvalidConfig(
                f"{self.folder} holds a run trained for {state.step} steps already; steps was "
                f"{steps}, and a run can only be lengthened"
            )
        if state.step < steps:
            self._mark("training")
        self._cut_log(state.step)

    def _refuse_what_is_no_run(self) -> None:
        """run.json is the first file of a run, after the lock in state/."""
        inside = self.folder.iterdir() if self.folder.is_dir() else ()
        others = sorted(
            path.name for path in inside if path.name != "state" and path.name[0] != "."
        )
        if others:
            raise AlreadyExists(
                f"{self.folder} is no run, and holds {others[0]!r}; name a new or empty folder"
            )

    def _refuse_another_run(self, found: Any) -> None:
        for part in ("model", "training", "data"):
            ours, theirs = self.about[part], _part_of(found, part, self.folder)
            changed = [key for key in ours if ours[key] != theirs.get(key)]
            # More steps than before lengthen a run; anything else would be another run.
            if changed and changed != ["steps"]:
                key = changed[0]
                raise InvalidConfig(
                    f"{self.folder} holds a run with {part}.{key} = {theirs.get(key)!r}, not "
                    f"{ours[key]!r}; choose another folder, or the same settings to resume"
                )
        if found.get("status") == "finished" and not native.steps_in(self.folder / "state"):
            raise InvalidConfig(
                f"{self.folder} holds a finished run without what resuming needs; choose another "
                "folder"
            )

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def save_weights(self, state: "TrainingState", half: bool = False) -> None:
        """The raw weights of this step; in half precision between the first and the last."""
        tensors = dict(state.model.state_dict())
        if half:
            tensors = halved(tensors, {name for name, _ in state.model.named_parameters()})
        write_tensors(native.weights_file(self.folder, state.step), tensors, {"kind": "weights"})

    def save_averages(self, state: "TrainingState") -> None:
        """A snapshot of every EMA: parameters in half precision, buffers as they are."""
        for average in state.averages:
            file = native.ema_file(self.folder, average.sigma_rel, state.step)
            tensors = halved(average.state, average.averaged)
            write_tensors(file, tensors, {"kind": "ema", "sigma_rel": str(average.sigma_rel)})

    def save_state(self, state: "TrainingState") -> None:
        """What resuming needs, in one file; older ones go once it is there."""
        file = self.folder / "state" / f"step_{state.step:07d}.safetensors"
        write_tensors(file, _packed(state), {"kind": "state"})
        for other in file.parent.glob("step_*.safetensors"):
            if other != file:
                other.unlink()

    def finish(self) -> None:
        """Mark the run as finished."""
        self._mark("finished")

    def _mark(self, status: str) -> None:
        """Let run.json say this, beside the settings that are trained with now."""
        file, about = self.folder / "run.json", self.about | {"status": status}
        if not file.exists() or read_json(file) != about:
            write_json(file, about)

    def _cut_log(self, step: int) -> None:
        """Drop lines that the killed process wrote after its last saved state."""
        file = self.folder / "metrics.jsonl"
        rows = native.read_metrics(file)
        kept = [row for row in rows if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if file.exists() and file.read_text(encoding="utf-8") != text:
            write_atomically(file, lambda opened: opened.write(text.encode()))


def _part_of(found: Any, part: str, folder: Path) -> dict[str, Any]:
    theirs = found.get(part) if isinstance(found, dict) else None
    if not isinstance(theirs, dict):
        raise UnreadableRun(
            f"{folder / 'run.json'} lacks {part!r}, so no run can go on there; name another folder"
        )
    return theirs


def _packed(state: "TrainingState") -> dict[str, Tensor]:
    loss = float("nan") if state.loss is None else state.loss
    packed = {"counters": torch.tensor([state.step, loss, state.seconds], dtype=torch.float64)}
    packed |= {f"model/{name}": tensor for name, tensor in state.model.state_dict().items()}
    for average in state.averages:
        prefix = f"ema/{average.sigma_rel}"
        packed |= {f"{prefix}/{name}": tensor for name, tensor in average.state.items()}
    moments = state.optimizer.state_dict()["state"]
    for index, entries in moments.items():
        packed |= {f"optimizer/{index}/{name}": tensor for name, tensor in entries.items()}
    return packed


def _restore(state: "TrainingState", packed: dict[str, Tensor]) -> None:
    try:
        step, loss, seconds = packed["counters"].tolist()
        state.model.load_state_dict(_below(packed, "model/"))
        for average in state.averages:
            for name, tensor in _below(packed, f"ema/{average.sigma_rel}/").items():
                average.state[name].copy_(tensor)
        optimizer = state.optimizer.state_dict()
        optimizer["state"] = _moments(_below(packed, "optimizer/"))
        state.optimizer.load_state_dict(optimizer)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UnreadableRun(f"The saved state does not fit this run: {error}") from None
    state.step, state.loss, state.seconds = int(step), loss, seconds


def _below(packed: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): tensor for k, tensor in packed.items() if k.startswith(prefix)}


def _moments(flat: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        index, name = key.split("/")
        moments.setdefault(int(index), {})[name] = tensor
    return moments
