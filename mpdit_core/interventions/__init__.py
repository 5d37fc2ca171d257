"""Named, composable changes of a forward pass: what (`kinds`), as text (`text`), done (`acting`).

with intervening(model, [ScaleAngle(factor=0.5, blocks=(2, 3))]):
    model(x, t, y)
"""

from mpdit_core.interventions.acting import intervening
from mpdit_core.interventions.intervention import Intervention
from mpdit_core.interventions.kinds import (
    AnyIntervention,
    ScaleAngle,
    ScaleBranch,
    SetSignal,
    SkipBranch,
    ZeroChannels,
)
from mpdit_core.interventions.text import parse_interventions, written

__all__ = [
    "AnyIntervention",
    "Intervention",
    "ScaleAngle",
    "ScaleBranch",
    "SetSignal",
    "SkipBranch",
    "ZeroChannels",
    "intervening",
    "parse_interventions",
    "written",
]
