"""Runs of theirs: RUN/theirs.json says what the model is, RUN/checkpoints/400.pt holds weights."""

from pathlib import Path

from torch import Tensor

from mpdit_core.config import DataInfo, ModelConfig
from mpdit_core.errors import InvalidConfig, UnreadableRun
from mpdit_core.runs.files import read_json
from mpdit_core.runs.pickles import read_pickle
from mpdit_core.runs.run import Run
from mpdit_core.runs.shapes import refuse_other_shapes

LAYOUT = "theirs"


def recognises(folder: Path) -> bool:
    """Whether the folder claims to be a run of this layout; no checkpoint is opened."""
    return (folder / "theirs.json").is_file()


def read(folder: Path) -> Run:
    """Open a run. Raises UnreadableRun (UnsafeFile for code) with one sentence."""
    config = _config(folder / "theirs.json")
    found = (folder / "checkpoints").glob("*.pt")
    files = {int(file.stem): file for file in found if file.stem.isdecimal()}
    if not files:
        raise UnreadableRun(f"{folder / 'checkpoints'} holds no STEP.pt, such as 400.pt")
    _weights(files[max(files)], config)  # a damaged run is named as such before anyone chooses it
    zeros, ones = (0.0,) * config.channels, (1.0,) * config.channels
    return Run(
        name=folder.name,
        folder=folder,
        layout=LAYOUT,
        config=config,
        data=DataInfo(name="unknown", mean=zeros, std=ones),
        raw_files=files,
        ema_files={},
        read=lambda file: _weights(file, config),
    )


def _config(file: Path) -> ModelConfig:
    try:
        return ModelConfig.checked(read_json(file))
    except InvalidConfig as error:
        raise UnreadableRun(f"{file}: {error}") from None


def _weights(file: Path, config: ModelConfig) -> dict[str, Tensor]:
    """Parameters and buffers under the names of `MPDiT`; theirs begin with `net.`."""
    content = read_pickle(file)
    tensors = isinstance(content, dict) and all(isinstance(t, Tensor) for t in content.values())
    if not tensors:
        raise UnreadableRun(f"{file} is no state dict; it should hold tensors by name")
    state = {str(name).removeprefix("net."): tensor for name, tensor in content.items()}
    try:
        refuse_other_shapes({name: tensor.shape for name, tensor in state.items()}, config)
    except UnreadableRun as error:
        raise UnreadableRun(f"{file} does not fit theirs.json: {error}") from None
    return state
