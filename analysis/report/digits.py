"""Which runs can be judged: those that draw digits."""

from mpdit_core.runs import Run


def no_digits(run: Run) -> str:
    """Why the samples of a run cannot be judged, or ""."""
    if run.data.name == "digits":
        return ""
    return f"{run.name} draws no digits, and only digits have a judge here."
