"""The browser's address, completed without a step in its history.

`st.query_params` always adds a step, so a page that wrote its defaults there would trap the Back
button. This replaces the address in place instead. Streamlit itself need not know: `view` holds
what the address says.
"""

import streamlit as st
from streamlit.components.v2 import component

_REPLACE = """
export default function({ data }) {
  const here = window.location;
  const page = here.pathname.replace(/\\/+$/, "").split("/").pop();
  const same = here.search.replace(/^\\?/, "") === data.query;
  // Another page may already be on its way; its address is not ours to change.
  if (!same && page === encodeURIComponent(data.page)) {
    window.history.replaceState(window.history.state, "", here.pathname + "?" + data.query);
  }
}
"""


@st.cache_resource
def _component():
    return component("mpdit_address", js=_REPLACE)


def complete_address(page: str, query: str) -> None:
    """Make `query` the address's part after "?", if the browser still shows this page.

    page: the last part of its path, empty at the bare address."""
    _component()(key="address", data={"page": page, "query": query}, height=1)
