"""Any folder of saved weights in order of step, whatever the model; nothing in a file is run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mpdit_core.errors import UnreadableRun
from mpdit_core.runs.files import read_tensors
from mpdit_core.runs.pickles import read_pickle

ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt")

NESTS = ("model", "state_dict", "model_state_dict", "module", "net", "ema")
"""Where training scripts put the weights in what they save, the first that is there."""

WRAPPERS = ("_orig_mod.", "module.")
"""What compiling and data-parallel training put before every name."""


def state_files(folder: Path) -> dict[int, Path]:
    """Step -> file, ascending; the step is the last number in the file's name.

    Raises UnreadableRun where there is no such file, or two of one step."""
    found: dict[int, Path] = {}
    for file in _files(folder):
        step = _step(file)
        if step in found:
            raise UnreadableRun(
                f"{folder} holds two files of step {step}, {found[step].name} and {file.name}; "
                "one file a step was expected, with the step as the last number of its name"
            )
        if step is not None:
            found[step] = file
    if not found:
        raise UnreadableRun(
            f"{folder} holds no weights in order of step; files such as step_1000.safetensors or "
            f"0001000.pt were expected ({', '.join(ENDINGS)})"
        )
    return dict(sorted(found.items()))


def without_step(folder: Path) -> list[Path]:
    """Files of weights whose names hold no number, so that they have no place in the order."""
    return [file for file in _files(folder) if _step(file) is None]


def holds_states(folder: Path) -> bool:
    """Whether files of weights with a step in their name lie in the folder itself."""
    return folder.is_dir() and any(_step(file) is not None for file in _files(folder))


def read_state(file: Path) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict, on the CPU, nested or not, in their own order.

    Raises UnreadableRun (UnsafeFile for code) with one sentence."""
    tensors = read_tensors(file) if file.suffix == ".safetensors" else _unnested(file)
    found = {
        name: tensor.detach()
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel()
    }
    if not found:
        raise UnreadableRun(f"{file} holds no weights; found: {_names(tensors)}")
    return _unwrapped(found)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UnreadableRun(f"There is no folder {folder}; name a folder of weights")
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix in ENDINGS and file.is_file() and not file.name.startswith(".")
    )


def _step(file: Path) -> int | None:
    numbers = re.findall(r"\d{1,18}", file.stem)
    return int(numbers[-1]) if numbers else None


def _unnested(file: Path) -> Mapping[Any, Any]:
    content = read_pickle(file)
    while isinstance(content, Mapping):
        inner = next((content[n] for n in NESTS if isinstance(content.get(n), Mapping)), None)
        if inner is None:
            return content
        content = inner
    raise UnreadableRun(
        f"{file} holds a {type(content).__name__}; a state dict was expected, by itself or under "
        f"{', '.join(NESTS)}"
    )


def _unwrapped(state: dict[Any, Tensor]) -> dict[str, Tensor]:
    named = {str(name): tensor for name, tensor in state.items()}
    while True:
        shared = [w for w in WRAPPERS if all(name.startswith(w) for name in named)]
        if not shared:
            return named
        named = {name.removeprefix(shared[0]): tensor for name, tensor in named.items()}


def _names(content: Mapping[Any, Any]) -> str:
    return ", ".join(str(name)[:40] for name in list(content)[:5]) or "nothing"
