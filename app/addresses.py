"""Which page an address means: every page by its path, the first one also at the bare address.

A path that is none opens the nearest page instead of Streamlit's dialog.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from urllib.parse import unquote, urlsplit

import streamlit as st

_READABLE = re.compile(r"[\w.-]{1,60}")


def nothing() -> None:
    """What Streamlit runs as the page; the dashboard draws it itself, once it has the view."""


def nearest_path(asked: str, paths: Sequence[str]) -> str:
    """The path most like the one asked for, else the first.

    >>> nearest_path("magnitude", ["runs", "magnitudes"]), nearest_path("x", ["runs", "ema"])
    ('magnitudes', 'runs')
    """
    alike = get_close_matches(asked.lower(), paths, n=1)
    return alike[0] if alike else paths[0]


def asked_path() -> str:
    """The last part of the browser's path; empty at the bare address."""
    return unquote(urlsplit(st.context.url or "").path.rstrip("/").rpartition("/")[2])


class Addresses:
    """The paths of this session, right and wrong, and the page that each opens."""

    def __init__(self, titles: dict[str, str]):
        """titles: path -> title of every page, the first one first."""
        self.paths = list(titles)
        wrong: dict[str, str] = st.session_state.setdefault("wrong paths", {})
        asked = asked_path()
        if asked not in titles and _READABLE.fullmatch(asked):
            wrong[asked] = nearest_path(asked, self.paths)
        # A wrong path stays known, so that Back can come to it again.
        self._opens = {"": self.paths[0], self.paths[0]: self.paths[0], **wrong}
        self._pages = {
            path: st.Page(nothing, title=titles[self._meant(path)], url_path=path, default=not path)
            for path in ["", *self.paths, *wrong]
        }
        self.current = st.navigation(list(self._pages.values()), position="hidden")

    @property
    def path(self) -> str:
        """The path of the page that is open."""
        return self._meant(self.current.url_path)

    @property
    def mistake(self) -> str:
        """One sentence when the address named no page, else empty."""
        asked = self.current.url_path
        return "" if asked in ("", *self.paths) else f"There is no page called {asked}."

    def page(self, path: str) -> st.Page:
        """Streamlit's page for a link: the open one stays itself, so that it is highlighted."""
        if path == self.path:
            return self.current
        return self._pages["" if path == self.paths[0] else path]

    def _meant(self, path: str) -> str:
        return self._opens.get(path, path)
