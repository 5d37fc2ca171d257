"""What stands out in the runs in view, each sentence a link to the view that shows it."""

from collections.abc import Callable, Hashable, Mapping, Sequence

import streamlit as st

from analysis.findings import Findings, Measure, as_table, findings, scope
from analysis.findings_measures import AT, MEASURES
from analysis.interventions import NO_ROTATION, NO_THIRD_MLP
from app.components.figure import how_computed
from app.components.frame import link_here, plain
from app.components.intervention_builder import SETTING
from app.components.kept import Kept
from app.components.results import Results, is_stored, results_of
from app.link import Link
from app.view import View
from mpdit_core.interventions import written

Settings = Mapping[str, str]

OPENS: Mapping[str, tuple[str, Callable[[str], Settings]]] = {
    "growth of the stream": ("magnitudes", lambda run: {"run": run, "t": str(AT)}),
    "largest channel of the stream": (
        "channels", lambda run: {"of": "share", "branch": "mlp", "run": run, "t": str(AT)},
    ),
    "output shared by all tokens": ("channels", lambda run: {"run": run}),
    "spread of attention": ("attention", lambda run: {"run": run, "t": "500"}),
    "samples misread": ("quality", lambda _: {"mark": "recognized"}),
    "held-out loss": (
        "quality", lambda run: {"reference": run, "tab": "loss-by-timestep"},
    ),
    "distance to training images": (
        "quality", lambda run: {"pairs": run, "tab": "copies-of-training-images"},
    ),
    "skipping the MLP of block 3": (
        "interventions", lambda run: {"run": run, SETTING: written(NO_THIRD_MLP)},
    ),
    "leaving out the rotation": (
        "interventions", lambda run: {"run": run, SETTING: written(NO_ROTATION)},
    ),
}  # fmt: skip
"""Where a measure is shown: a page, and its settings for the run that the sentence starts with."""


METHOD = (
    "Each sentence is the largest ratio of one measure between two runs in view, or before and "
    "after a change of one run."
)
FORMULA = r"""The interval is that of $\log(a / b)$: Student's $t$ over units that both saw (images
or labels under the same noise), a normal distribution where each has an interval of its own, and
Katz's for counts. With $m$ comparisons each is taken at $1 - 0.05 / m$ (Bonferroni); a ratio whose
interval includes 1 is not told."""


_WRAPPED = """<style>
.st-key-findings [data-testid="stPageLink"] a { padding-left: 0; align-items: flex-start; }
.st-key-findings [data-testid="stPageLink"] a * { white-space: normal; overflow: visible; }
</style>"""


def show_findings(view: View) -> None:
    """Up to five sentences, from what is stored already; nothing is computed for them."""
    measures = [
        measure for measure in MEASURES if any(measure.applies(run.config) for run in view.runs)
    ]
    results = {measure.name: _stored(view, measure) for measure in measures}
    found = _FOUND.get(_content(results), lambda: _found(measures, results))
    st.html(_WRAPPED)
    with st.container(key="findings", gap="xsmall"):
        for one in found.found:
            path, settings = OPENS[one.measure]
            link = Link(view.run_names, str(view.weights), settings(one.runs[0]))
            st.page_link(
                view.pages[path], label=plain(one.sentence), query_params=link.parameters(),
                icon=":material/arrow_forward:",
            )  # fmt: skip
    st.caption(plain(scope(found)))
    if found.found:
        with st.expander("How this was computed"):
            how_computed([part for parts in results.values() for part in parts], METHOD, FORMULA)
            csv = as_table(found).to_csv(index=False).encode()
            st.download_button("CSV", csv, "findings.csv", "text/csv", on_click="ignore")
            link_here()


_FOUND: Kept[Findings] = Kept(64)


def _content(results: Mapping[str, list[Results]]) -> Hashable:
    """What the sentences depend on."""
    return tuple((name, tuple(each.content for each in found)) for name, found in results.items())


def _found(measures: Sequence[Measure], results: Mapping[str, list[Results]]) -> Findings:
    tables = {name: [each.table for each in found] or None for name, found in results.items()}
    return findings(measures, tables)


def _stored(view: View, measure: Measure) -> list[Results]:
    """The measure's results over the runs that have all of them; nothing where no run has."""
    runs = [
        run
        for run in view.runs
        if all(is_stored(view, asked, settings, run) for asked, settings in measure.asked)
    ]
    if not runs:
        return []
    results = [results_of(asked, view, settings, runs=runs) for asked, settings in measure.asked]
    return [each for each in results if each is not None]
