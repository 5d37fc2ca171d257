"""Which runs are there, and how did their training go?"""

import pandas as pd
import streamlit as st

from app.components import View, answer, empty, question
from mpdit_core.runs import Run

FLAGS = (
    "cosine_attention",
    "weight_normalization",
    "forced_weight_normalization",
    "mp_residual",
    "mp_silu",
    "mp_pos_enc",
    "mp_embedding",
    "no_layernorm",
)


def page(view: View) -> None:
    question("Which runs are here, and how did their training go?")
    if not view.library.runs:
        empty("There are no runs in the folder yet; train one.", "mpdit train my-run --preset E")
    else:
        answer(f"{len(view.library.runs)} runs can be compared; {len(view.runs)} are chosen.")
        st.dataframe(_table(view), hide_index=True, width="stretch")
    for broken in view.library.unusable:
        st.warning(f"{broken.name} is not shown: {broken.reason}")


def _table(view: View) -> pd.DataFrame:
    return pd.DataFrame([_row(run) for run in view.library.runs])


def _row(run: Run) -> dict:
    flags = {name.replace("_", " "): getattr(run.config, name) for name in FLAGS}
    return {"run": run.name, "steps": max(run.steps, default=0), **flags}
