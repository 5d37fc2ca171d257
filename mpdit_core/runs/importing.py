"""Turn a run of any known layout into this project's run folder."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpdit_core.errors import AlreadyExists
from mpdit_core.progress import track
from mpdit_core.runs import load_run, native
from mpdit_core.runs.files import halved, sha256_of, write_atomically, write_json, write_tensors
from mpdit_core.runs.run import Run
from mpdit_core.runs.shapes import parameter_shapes

Copy = Callable[[Run, Path, Path], None]
"""Called with (run, file of the source, place in the new folder)."""


def import_run(source: str | Path, destination: str | Path) -> Run:
    """Convert the run in `source` and open the result; `destination` appears whole or not at all.

    Snapshots that are no averages come along, with the reason in run.json. Raises
    AlreadyExists, or UnreadableRun if any file of the run is damaged."""
    target = Path(destination)
    if os.path.lexists(target):
        raise AlreadyExists(f"{target} exists already; name a folder that does not")
    if target.resolve().is_relative_to(Path(source).resolve()):
        raise AlreadyExists(f"{target} lies inside of {source}; name a folder outside of it")
    run = load_run(source)
    with _appearing_at(target) as folder:
        for write, place, file in track(_copies(run, folder), f"Importing {run.name}"):
            write(run, file, place)
        _write_log(run, folder)
        write_json(folder / "run.json", _about(run, target.name))
    return load_run(target)


@contextmanager
def _appearing_at(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that is renamed to it, or removed after an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _copies(run: Run, folder: Path) -> list[tuple[Copy, Path, Path]]:
    """(how, to, from) of every file of weights."""
    raw: list[tuple[Copy, Path, Path]] = [(_copy_raw, native.weights_file(folder, step), file)
           for step, file in sorted(run.raw_files.items())]  # fmt: skip
    averages = [
        (_copy_average, native.ema_file(folder, sigma, step), file)
        for sigma, step, file in run.snapshots()
    ]
    return raw + averages


def _copy_raw(run: Run, file: Path, place: Path) -> None:
    write_tensors(place, run.read(file), {"kind": "weights"})


def _copy_average(run: Run, file: Path, place: Path) -> None:
    state = halved(run.read(file), set(parameter_shapes(run.config)))
    write_tensors(place, state, {"kind": "ema", "sigma_rel": place.parent.name[len("sigma_") :]})


def _write_log(run: Run, folder: Path) -> None:
    if run.layout == native.LAYOUT and (run.folder / "metrics.jsonl").is_file():
        log = (run.folder / "metrics.jsonl").read_bytes()
        write_atomically(folder / "metrics.jsonl", lambda file: file.write(log))


def _about(run: Run, name: str) -> dict[str, Any]:
    about = {
        "format": native.FORMAT_VERSION,
        "name": name,
        "status": run.status,
        "model": run.config.model_dump(mode="json"),
        "training": run.training.model_dump(mode="json") if run.training else None,
        "data": run.data.model_dump(mode="json"),
        "imported": {
            "name": run.name,
            "layout": run.layout,
            "sha256": {file.name: sha256_of(file) for file in run.raw_files.values()},
        },
    }
    return about | ({"ema_trap": run.ema_trap} if run.ema_trap else {})
