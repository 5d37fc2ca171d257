"""Analyses: table out of (run, weights, settings); one file per question, one line here each."""

MODULES = (
    "quality",
    "quality_sweeps",
    "copying",
    "loss_by_timestep",
    "samples",
    "magnitudes",
    "modulation",
    "modulation_angles",
    "modulation_shares",
    "modulation_change",
    "ema_profiles",
    "ema_health",
    "theory",
    "theory_weights",
    "theory_gaussian",
    "dynamics",
    "interventions",
    "attention",
    "attention_maps",
    "channels",
    "token_mean",
    "attribution",
    "attribution_patches",
)
"""Modules of this package that hold questions; a page's first results stand in their `DEFAULTS`."""
