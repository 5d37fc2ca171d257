"""The text of a link: which runs, which weights, which page settings; no Streamlit.

`runs=A,B&weights=ema-0.100&t=500`: runs and weights belong to all pages, the rest to the page.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlencode

RUNS, WEIGHTS = "runs", "weights"


@dataclass(frozen=True)
class Link:
    """What a link asks for, as text, unchecked. None: the link does not say."""

    runs: tuple[str, ...] | None = None
    weights: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> dict[str, str]:
        """The query parameters in the order they are written."""
        shared = {}
        if self.runs is not None:
            shared[RUNS] = ",".join(quote(name, safe=" /+()@") for name in self.runs)
        if self.weights is not None:
            shared[WEIGHTS] = self.weights
        return {**shared, **self.settings}

    def query(self) -> str:
        """The link's part after the question mark.

        >>> Link(("A", "B"), "ema-0.100", {"t": "500"}).query()
        'runs=A,B&weights=ema-0.100&t=500'
        """
        return urlencode(self.parameters(), safe=",")


def read_link(parameters: Mapping[str, str]) -> Link:
    """The link that these query parameters make.

    >>> read_link({"runs": "A,B", "t": "500"})
    Link(runs=('A', 'B'), weights=None, settings={'t': '500'})
    """
    settings = {name: text for name, text in parameters.items() if name not in (RUNS, WEIGHTS)}
    runs = parameters.get(RUNS)
    names = None if runs is None else tuple(unquote(name) for name in runs.split(",") if name)
    return Link(names, parameters.get(WEIGHTS), settings)
