"""Analyses: table out of (run, weights, settings); one file per question, one line here each."""
