"""Figures built once for all sessions.

plotly takes a third of a second to build a figure of many panels, more than a slider may take to
answer; copying what was built and checked already takes a twentieth of that.
"""

from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.components.kept import Kept

_FIGURES: Kept[dict[str, Any]] = Kept(256)


def built(build: Callable[..., go.Figure], *given: Any, **named: Any) -> go.Figure:
    """`build(*given, **named)`, or a copy of what it gave for equal tables and settings before.

    The caller may change what it gets: mark the slider's place, for example."""
    key = (build, _content(given), _content(named))
    properties = _FIGURES.get(key, lambda: build(*given, **named).to_dict())
    return go.Figure(deepcopy(properties), _validate=False)


def _content(value: Any) -> Hashable:
    """The value as part of a key: equal content, equal key."""
    if isinstance(value, pd.DataFrame):
        hashes = pd.util.hash_pandas_object(value, index=False)
        return (tuple(value.columns), hashes.to_numpy().tobytes())
    if isinstance(value, pd.Series):
        return pd.util.hash_pandas_object(value, index=False).to_numpy().tobytes()
    if isinstance(value, Mapping):
        return tuple((name, _content(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_content, value))
    return value
