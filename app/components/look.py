"""Width, spacing and icon of all pages."""

import streamlit as st
from PIL import Image, ImageDraw

ACCENT = "#3b6fd4"
"""That of .streamlit/config.toml."""
_STYLE = """<style>
.stMainBlockContainer { max-width: 1200px; padding-top: 2.5rem; }
.stMainBlockContainer h2 { font-size: 1.6rem; font-weight: 600; padding-bottom: 0.75rem; }
[data-testid="stSidebar"] hr { margin: 0.75rem 0; }
[data-testid="stStatusWidget"] { opacity: 0.6; }
/* Streamlit's offer to its developers to install something; readers of a dashboard are none. */
.stSkillsNudge { display: none; }
/* Streamlit makes a changed chart anew, and for a moment keeps the old one under it: the page
   would jump by its height at every move of a slider. */
.stElementContainer:has(.stPlotlyChart)
  + .stElementContainer[data-stale="true"]:has(.stPlotlyChart) { display: none; }
@media (max-width: 640px) {
  .stMainBlockContainer { padding: 2.5rem 1rem; }
  .stMainBlockContainer h2 { font-size: 1.3rem; }
  /* plotly does not wrap titles */
  .stPlotlyChart .gtitle { font-size: 12px !important; }
}
</style>"""


@st.cache_resource
def _icon() -> Image.Image:
    """Five bars of equal height: magnitude preserved from block to block."""
    icon = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(icon)
    for place in range(5):
        left = 4 + place * 12
        draw.rounded_rectangle((left, 12, left + 7, 52), radius=3, fill=ACCENT)
    return icon


def dress(title: str) -> None:
    """Name the browser's tab, limit the width of the content."""
    st.set_page_config(f"{title} · MP-DiT Explorer", _icon(), layout="wide")
    st.html(_STYLE)
