"""What a page asks before anyone touches it: these results ship with the runs.

A module of `analysis` names them in `DEFAULTS`; `analysis.precompute` computes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from pydantic import BaseModel

from analysis.question import Question
from mpdit_core.runs.weights import SHOWN


@dataclass(frozen=True)
class Default:
    """One question as a page asks it at first, of every run that has these weights.

    runs: names of the runs it is asked of; empty means all."""

    question: Question
    settings: BaseModel
    weights: tuple[str, ...] = (SHOWN,)
    runs: tuple[str, ...] = ()


def all_defaults() -> Iterator[Default]:
    """The defaults of all modules listed in `analysis.MODULES`, in that order."""
    from analysis import MODULES

    for name in MODULES:
        yield from getattr(import_module(f"analysis.{name}"), "DEFAULTS", ())
