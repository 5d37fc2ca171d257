"""The browser's address, completed without a step in its history.

`st.query_params` always adds a step, so a page that wrote its defaults there would trap the Back
button. This replaces the address in place instead. Streamlit itself need not know: `view` holds
what the address says.
"""

from collections.abc import Iterable

import streamlit as st
from streamlit.components.v2 import component

_REPLACE = """
const sorted = (query) => {
  const parameters = new URLSearchParams(query);
  parameters.sort();
  return parameters.toString();
};
export default function({ data }) {
  const here = window.location;
  const page = here.pathname.replace(/\\/+$/, "").split("/").pop();
  // The user may have moved on since: another page, another setting. That address is not ours.
  const expected = data.expected.map(sorted).includes(sorted(here.search));
  if (expected && page === encodeURIComponent(data.page)) {
    window.history.replaceState(window.history.state, "", here.pathname + "?" + data.query);
  }
}
"""


@st.cache_resource
def _component():
    return component("mpdit_address", js=_REPLACE)


def complete_address(page: str, query: str, expected: Iterable[str]) -> None:
    """Make `query` the address's part after "?", if the browser still shows what this run drew.

    page: the last part of its path, empty at the bare address. expected: the queries that the
    browser may have had when the run began."""
    data = {"page": page, "query": query, "expected": list(expected)}
    _component()(key="address", data=data, height=1)
