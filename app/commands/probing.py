"""`mpdit probe`."""

from pathlib import Path
from typing import Any

from analysis.probing import ProbeSettings, record, tidy, tidy_channels
from app.commands.bars import shown_progress
from app.commands.choosing import chosen_weights, table_file, write_table
from mpdit_core.runs import load_run


def probe_run(
    folder: Path,
    weights: str | None,
    points: str,
    settings: dict[str, Any],
    channels: bool,
    out: Path,
) -> None:
    """Record at the points and write the tidy table; settings that are None keep their defaults."""
    file = table_file(out)
    given = {name: value for name, value in settings.items() if value is not None}
    asked = ProbeSettings.checked(given)
    run = load_run(folder)
    patterns = [part.strip() for part in points.split(",")]
    with shown_progress():
        recording = record(run, chosen_weights(run, weights), patterns, asked)
    write_table((tidy_channels if channels else tidy)(recording), file)
