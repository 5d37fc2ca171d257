"""The dashboard: `mpdit dashboard FOLDER`, or `streamlit run app/main.py`.

A new page: one file in `app/pages`, one line in this list.
"""

from app.dashboard import Entry, run_dashboard
from app.pages import (
    attention,
    attribution,
    channels,
    compare,
    dynamics,
    ema,
    interventions,
    magnitudes,
    modulation,
    quality,
    runs,
    samples,
    theory,
)

PAGES = (
    Entry("Look", "Runs", "runs", runs.page, needs_runs=False),
    Entry("Look", "Magnitudes", "magnitudes", magnitudes.page),
    Entry("Look", "Modulation", "modulation", modulation.page),
    Entry("Look", "EMA", "ema", ema.page),
    Entry("Look", "Samples", "samples", samples.page),
    Entry("Understand", "Quality", "quality", quality.page),
    Entry("Understand", "Weight dynamics", "dynamics", dynamics.page),
    Entry("Understand", "Interventions", "interventions", interventions.page),
    Entry("Understand", "Attention", "attention", attention.page),
    Entry("Understand", "Attribution", "attribution", attribution.page),
    Entry("Understand", "Channels and tokens", "channels", channels.page),
    Entry("Understand", "Theory", "theory", theory.page),
    Entry("Compare", "Compare", "compare", compare.page),
)  # fmt: skip

run_dashboard(PAGES)
