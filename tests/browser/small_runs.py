"""Small untrained runs in the run format, made in a second, for pages to show."""

import json
from pathlib import Path

import torch

from mpdit_core.config import DataInfo, ModelConfig, TrainConfig, modulation_study, preset
from mpdit_core.model import MPDiT
from mpdit_core.runs.files import halved, write_json, write_tensors
from mpdit_core.runs.native import FORMAT_VERSION, ema_file, weights_file

SIZES = {"depth": 2, "width": 16, "heads": 2}
STEPS = (0, 200, 400)


def ladder() -> dict[str, ModelConfig]:
    """Configs A to E, tiny."""
    return {name: preset(name, **SIZES) for name in "ABCDE"}


def modulation_runs() -> dict[str, ModelConfig]:
    """Five runs of the modulation study, tiny."""
    sets = [("shift", "scale", "gate"), ("scale", "gate", "rotation"), ("scale", "rotation")]
    sets += [("rotation",), ("scale", "gate")]
    return {"-".join(signals): modulation_study(signals, **SIZES) for signals in sets}


def write_run(folder: Path, name: str, config: ModelConfig, averages: bool = True) -> Path:
    """A run with random weights at three steps, averages at two, and a made-up training log."""
    run = folder / name
    training = TrainConfig(steps=STEPS[-1], save_every=200, ema_every=200)
    about = {
        "format": FORMAT_VERSION,
        "name": name,
        "model": config.model_dump(mode="json"),
        "data": DataInfo(name="digits").model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "status": "finished",
    }
    torch.manual_seed(len(name))
    model = MPDiT(config)
    parameters = {parameter for parameter, _ in model.named_parameters()}
    for step in STEPS:
        for parameter in model.parameters():  # gains start at 0: random ones show more
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
        write_tensors(weights_file(run, step), model.state_dict(), {})
        if averages and step:
            for sigma in (0.05, 0.1):
                state = halved(model.state_dict(), parameters)
                write_tensors(ema_file(run, sigma, step), state, {})
    lines = [_metrics(name, step) for step in range(0, STEPS[-1] + 1, 20)]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    write_json(run / "run.json", about)
    return run


def _metrics(name: str, step: int) -> dict[str, float]:
    loss = 0.1 + 0.9 * 2 ** (-step / 60) + 0.01 * (ord(name[0]) % 5)
    line = {"step": step, "loss": loss, "learning_rate": 1e-3, "seconds": 0.1 * step}
    return line | ({"heldout_loss": loss + 0.01} if step % 100 == 0 else {})


def write_runs(folder: Path, configs: dict[str, ModelConfig]) -> Path:
    """Several runs side by side; returns the folder."""
    for name, config in configs.items():
        write_run(folder, name, config)
    return folder
