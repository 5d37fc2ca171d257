"""PyTorch's .pt files, opened without running anything in them.

Such a file is a pickle, and a pickle can call any function. `torch.load(weights_only=True)` builds
tensors and plain containers only; what it refuses stays closed.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mpdit_core.errors import UnreadableRun, UnsafeFile

ZIP_START = b"PK\x03\x04"
HARMLESS_MODULES = ("torch", "torch._utils", "torch.storage", "torch._tensor",
                    "torch.nn.parameter", "collections", "_codecs")  # fmt: skip
"""Where the functions come from that rebuild tensors and plain containers."""

LARGEST_PICKLE = 64 * 2**20
"""Bytes of the pickled structure; the numbers of a checkpoint lie beside it, not in it."""


def read_pickle(file: Path) -> Any:
    """Tensors and plain containers of a .pt file, on the CPU, mapped from disk until copied.

    Raises UnsafeFile if it holds code or objects, UnreadableRun if it is damaged."""
    try:
        with file.open("rb") as opened:
            zipped = opened.read(len(ZIP_START)) == ZIP_START
        if zipped:
            _refuse_compression(file)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except UnreadableRun:
        raise
    except OSError as error:
        reason = error.strerror or "the file ends too early"
        raise UnreadableRun(f"{file} cannot be read: {reason}") from None
    except Exception as error:  # torch.load raises whatever the damaged bytes provoke
        if code := _called_by(file):
            raise UnsafeFile(
                f"{file} would run {code} when opened; it was not opened, since a checkpoint "
                "holds tensors and plain values only"
            ) from None
        raise UnreadableRun(
            f"{file} is no complete checkpoint of torch.save ({type(error).__name__})"
        ) from None


def _refuse_compression(file: Path) -> None:
    """torch.save stores its parts as they are; a compressed part could unpack to any size."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > file.stat().st_size:
        raise UnreadableRun(f"{file} is compressed; torch.save writes uncompressed checkpoints")


def _called_by(file: Path) -> str | None:
    """The first function or class that unpickling would call, read from the opcodes alone."""
    try:
        for called in _names_called(_structure(file)):
            module, _, name = called.partition(" ")
            if module not in HARMLESS_MODULES:
                return f"{module}.{name}"[:80]
    except Exception:  # the bytes are damaged before anything is called
        return None
    return None


def _names_called(data: bytes) -> Iterator[str]:
    """`module name` of everything looked up; the old format has several pickles in a row."""
    stream, words = io.BytesIO(data), [""]
    while stream.tell() < len(data):
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument)
            elif opcode.name == "STACK_GLOBAL":
                yield " ".join(words[-2:])
            elif isinstance(argument, str) and "UNICODE" in opcode.name:
                words.append(argument)


def _structure(file: Path) -> bytes:
    if not zipfile.is_zipfile(file):
        with file.open("rb") as opened:
            return opened.read(LARGEST_PICKLE)
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as opened:
            return opened.read(LARGEST_PICKLE)
