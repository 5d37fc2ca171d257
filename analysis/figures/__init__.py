"""Figures: a table of one analysis in, one plotly figure out. No Streamlit, no computation."""
