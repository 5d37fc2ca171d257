"""The run folder of this project: run.json, metrics.jsonl, weights/, ema/ (docs/reference.md).

RUN/run.json                                    what was trained, and how
RUN/metrics.jsonl                               one line a log step
RUN/weights/step_0002500.safetensors            raw weights
RUN/ema/sigma_0.050/step_0002500.safetensors    averages; parameters in half precision
RUN/state/                                      what resuming needs; never shipped
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpdit_core.config import DataInfo, ModelConfig, TrainConfig
from mpdit_core.errors import MPDiTError, UnreadableRun
from mpdit_core.runs.files import read_json, read_tensors
from mpdit_core.runs.run import Run
from mpdit_core.runs.shapes import refuse_other_shapes, safetensors_shapes
from mpdit_core.runs.weights import sigma_text

FORMAT_VERSION = 1
LAYOUT = "mpdit"


def recognises(folder: Path) -> bool:
    """Whether the folder claims to be a run of this layout."""
    return (folder / "run.json").is_file()


def read(folder: Path) -> Run:
    """Open a run folder. Raises UnreadableRun with one sentence."""
    about = read_json(folder / "run.json")
    if not isinstance(about, dict) or about.get("format") != FORMAT_VERSION:
        found = about.get("format") if isinstance(about, dict) else type(about).__name__
        raise UnreadableRun(
            f"{folder / 'run.json'} has format {found!r}; this version reads {FORMAT_VERSION}"
        )
    missing = [key for key in ("name", "model", "data") if key not in about]
    if missing:
        raise UnreadableRun(f"{folder / 'run.json'} lacks {', '.join(missing)}")
    raw_files = steps_in(folder / "weights")
    if not raw_files:
        raise UnreadableRun(f"{folder / 'weights'} holds no step_*.safetensors")
    settings = _settings(folder / "run.json", about)
    _refuse_misfit(raw_files[max(raw_files)], settings["config"])
    return Run(
        name=str(about["name"]),
        folder=folder,
        layout=LAYOUT,
        raw_files=raw_files,
        ema_files=_averages_in(folder / "ema"),
        read=read_tensors,
        status=str(about.get("status", "unknown")),
        read_metrics=lambda: read_metrics(folder / "metrics.jsonl"),
        ema_trap=str(about["ema_trap"]) if about.get("ema_trap") else None,
        notes={key: about[key] for key in ("versions", "seconds", "imported") if key in about},
        **settings,
    )


def _refuse_misfit(file: Path, config: ModelConfig) -> None:
    """Reads the file's header only: a damaged run is named as such before anyone chooses it."""
    found = safetensors_shapes(file)
    try:
        refuse_other_shapes(found, config)
    except UnreadableRun as error:
        raise UnreadableRun(f"{file} does not fit run.json: {error}") from None


def _settings(file: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    try:
        training = about.get("training")
        config, data = ModelConfig.checked(about["model"]), DataInfo.checked(about["data"])
        data.refuse_other_channels(config.channels)
        return {
            "config": config,
            "data": data,
            "training": None if training is None else TrainConfig.checked(training),
        }
    except MPDiTError as error:
        raise UnreadableRun(f"{file}: {error}") from None


def weights_file(folder: Path, step: int) -> Path:
    """Where the raw weights of a step live."""
    return folder / "weights" / f"step_{step:07d}.safetensors"


def ema_file(folder: Path, sigma_rel: float, step: int) -> Path:
    """Where the EMA snapshot of a step lives."""
    return folder / "ema" / f"sigma_{sigma_text(sigma_rel)}" / f"step_{step:07d}.safetensors"


def steps_in(folder: Path) -> dict[int, Path]:
    """Step -> step_*.safetensors of a folder, ascending."""
    found = {}
    for file in folder.glob("step_*.safetensors"):
        match = re.fullmatch(r"step_(\d+)\.safetensors", file.name)
        if match and file.is_file():  # a pipe would never end
            found[int(match[1])] = file
    return dict(sorted(found.items()))


def _averages_in(folder: Path) -> dict[float, dict[int, Path]]:
    found = {}
    for inner in sorted(folder.glob("sigma_*")):
        match = re.fullmatch(r"sigma_(0?\.\d+)", inner.name)
        if match and float(sigma_text(float(match[1]))) == float(match[1]) > 0:
            found[float(match[1])] = steps_in(inner)
    return {sigma: steps for sigma, steps in found.items() if steps}


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; a last line that a killed process left incomplete is dropped."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableRun(f"{file} cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if number < len(lines):
                raise UnreadableRun(f"{file} line {number} is no JSON") from None
            continue
        if not _is_row(row):
            raise UnreadableRun(
                f"{file} line {number} is no row of a log: an object with a whole step, and numbers"
            )
        rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    """An object with a whole step, whose values are null or numbers that a float can hold."""
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return False
    numbers = [value for value in row.values() if value is not None]
    return all(
        isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)
        for value in numbers
    )
