"""HTML of a report: the index and each figure; every name in it is escaped."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.figures.saved import figure_json, looks_json
from analysis.report.chapter import Figure


@lru_cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("analysis.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def index_html(content: Mapping[str, Any]) -> str:
    """The first page; content: what `writing` knows of the report."""
    return _environment().get_template("index.html").render(content)


def figure_html(figure: Figure, title: str, said: str, back: str) -> str:
    """A figure with its title and a sentence; back: the address of its place in the index.

    The JSON is not escaped, since a script element keeps it as it is: no `<` is left in it."""
    return _environment().get_template("figure.html").render(
        title=title, said=said, back=back,
        figure=figure_json(figure), looks=looks_json(),
    )  # fmt: skip
