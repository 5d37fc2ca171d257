"""Files of a run: written whole or not at all, read without running anything in them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mpdit_core.errors import UnreadableRun


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write(file)` on a temporary file beside `path`, flush it to disk, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, atomically."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """Read JSON. Raises UnreadableRun naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableRun(f"{path} is not readable JSON: {error}") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write safetensors with text metadata, atomically; the same content gives the same bytes."""
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry: safetensors writes several in an order that changes from process to process, and
    # a checkpoint's identity is the sha256 of its bytes.
    data = safetensors.torch.save(owned, {"about": json.dumps(dict(about), sort_keys=True)})
    write_atomically(path, lambda file: file.write(data))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises UnreadableRun naming the file."""
    try:
        return safetensors.torch.load(path.read_bytes())
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise UnreadableRun(f"{path} is no complete safetensors file: {error}") from None


def halved(state: Mapping[str, Tensor], parameters: set[str]) -> dict[str, Tensor]:
    """The state with its parameters in half precision; buffers keep theirs."""
    return {
        name: tensor.to(torch.float16) if name in parameters else tensor
        for name, tensor in state.items()
    }


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hex; remembered until the file changes."""
    try:
        stat = path.stat()
        return _sha256(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise UnreadableRun(f"{path} cannot be read: {error.strerror}") from None


@lru_cache(maxsize=4096)
def _sha256(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
