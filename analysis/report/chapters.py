"""Everything a report can show, page by page; a new page: one file here, one line in this list."""

from dataclasses import replace

from analysis.report import (
    attention,
    attribution,
    channels,
    compare,
    dynamics,
    ema,
    findings,
    interventions,
    magnitudes,
    modulation,
    quality,
    runs,
    samples,
    theory,
)

PARTS = (
    replace(runs.PART, chapters=(findings.CHAPTER, *runs.PART.chapters)),
    magnitudes.PART,
    modulation.PART,
    ema.PART,
    samples.PART,
    quality.PART,
    dynamics.PART,
    interventions.PART,
    attention.PART,
    attribution.PART,
    channels.PART,
    theory.PART,
    compare.PART,
)
"""In the order of the dashboard's pages."""
