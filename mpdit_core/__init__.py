"""The magnitude-preserving diffusion transformer: model, probes, training, checkpoints.

Names resolve on first use, so that importing the package costs no torch import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpdit_core.config import ModelConfig as ModelConfig
    from mpdit_core.config import TrainConfig as TrainConfig
    from mpdit_core.config import preset as preset
    from mpdit_core.model import MPDiT as MPDiT
    from mpdit_core.model import guided as guided
    from mpdit_core.runs import BrokenRun as BrokenRun
    from mpdit_core.runs import Run as Run
    from mpdit_core.runs import Weights as Weights
    from mpdit_core.runs import find_runs as find_runs
    from mpdit_core.runs import load_run as load_run
    from mpdit_core.sampling import SamplerSettings as SamplerSettings
    from mpdit_core.sampling import sample as sample

_HOME = {
    "ModelConfig": "config",
    "TrainConfig": "config",
    "preset": "config",
    "MPDiT": "model",
    "guided": "model",
    "BrokenRun": "runs",
    "Run": "runs",
    "Weights": "runs",
    "find_runs": "runs",
    "load_run": "runs",
    "SamplerSettings": "sampling",
    "sample": "sampling",
}

__all__ = [
    "BrokenRun",
    "MPDiT",
    "ModelConfig",
    "Run",
    "SamplerSettings",
    "TrainConfig",
    "Weights",
    "find_runs",
    "guided",
    "load_run",
    "preset",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
