"""What an analysis is: a pure function (run, weights, settings) -> table, with name and version.

Pages, the store and the command line know analyses only through `Question`.
"""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel

if TYPE_CHECKING:
    from mpdit_core.runs import Run, Weights

Compute = Callable[[Any, Any, Any], pd.DataFrame]
Scope = Literal["weights", "run"]
"""What a table is made of: the weights asked for, or all saved weights of the run."""


class Question:
    """One analysis. Called like the function it wraps; see `question`.

    name: the function's name, part of every result's key.
    version: raised by hand whenever the numbers would change; part of the key too.
    of: what the table is made of; part of the key too.
    settings_type: the frozen pydantic model of the third parameter.
    """

    def __init__(self, compute: Compute, version: int, of: Scope = "weights"):
        self.compute = compute
        self.version = version
        self.of: Scope = of
        self.name = compute.__name__
        self.settings_type = _settings_type(compute)
        update_wrapper(self, compute)

    def __call__(self, run: "Run", weights: "Weights | str", settings: BaseModel) -> pd.DataFrame:
        """Compute the table anew; `analysis.store.Store.result` looks for a stored one first."""
        return self.compute(run, weights, settings)

    def __repr__(self) -> str:
        return f"<question {self.name}, version {self.version}>"


def question(version: int, of: Scope = "weights") -> Callable[[Compute], Question]:
    """Make a function (run, weights, settings) -> DataFrame an analysis of that version.

    of: "run" for one that reads other saved weights than those it is asked about. Raises TypeError
    when the third parameter is not annotated with a frozen pydantic model."""
    return lambda compute: Question(compute, version, of)


def in_words(settings: BaseModel) -> str:
    """Samples, seed and whatever else the numbers depend on, for people."""
    said = [(name, value) for name, value in settings if value not in ((), "", None)]
    words = [f"{name.replace('_', ' ')} {_value_in_words(value)}" for name, value in said]
    return ", ".join(words) or "no settings"


def _value_in_words(value: Any) -> str:
    """A value; of a long list only the ends and the length.

    >>> _value_in_words(tuple(range(1000)))
    '0, 1 ... 999 (1000)'
    """
    if not isinstance(value, tuple | list):
        return str(value)
    if len(value) <= 12:
        return ", ".join(map(str, value))
    return f"{value[0]}, {value[1]} ... {value[-1]} ({len(value)})"


def _settings_type(compute: Compute) -> type[BaseModel]:
    parameters = list(inspect.signature(compute).parameters.values())
    if len(parameters) != 3:
        raise TypeError(
            f"Analysis {compute.__name__!r} takes {len(parameters)} parameters; "
            f"it must take three: run, weights, settings."
        )
    annotation = parameters[2].annotation
    if isinstance(annotation, str):  # the module uses postponed annotations
        annotation = compute.__globals__.get(annotation)
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        raise TypeError(
            f"The settings of analysis {compute.__name__!r} are annotated with {annotation!r}; "
            f"they must be a pydantic model."
        )
    if not annotation.model_config.get("frozen"):
        raise TypeError(
            f"The settings {annotation.__name__!r} of analysis {compute.__name__!r} can change; "
            f"they must be frozen, because the result's key is made of them."
        )
    return annotation
