"""What the terminal says about the health of a run's averages; the EMA page says the same."""

from analysis.ema_health import HealthSettings, ema_health, health_line
from app.commands.bars import shown_progress
from mpdit_core.runs import Run
from mpdit_core.runs.inspecting import health_lines


def ema_lines(run: Run) -> list[str]:
    """One sentence for the newest snapshot of each width, or why there are no averages."""
    if run.ema_trap is not None or not run.ema_files:
        return health_lines(run)
    with shown_progress():
        table = ema_health(run, "final", HealthSettings())
    newest = table.sort_values("step").groupby("sigma_rel", sort=True).tail(1)
    rows = newest.sort_values("sigma_rel").to_dict("records")
    return [f"the snapshot at step {row['step']} is {health_line(row)}" for row in rows]
