"""How to write a page: one function `page(view)` in `app/pages/<question>.py`, thin.

    from analysis.figures.stream import magnitude_by_block
    from analysis.stream import StreamSettings, stream_magnitude
    from app.components import View, answer, built, question, results_of, show

    def page(view: View) -> None:
        question("Does the stream keep its magnitude from block to block?")
        results = results_of(stream_magnitude, view, StreamSettings())
        if results is None:        # a card with progress stands where the figure will be
            return
        t = view.choice("t", "Timestep", timesteps_of(results.table), 500, kind="slider")
        rows = at_timestep(results.table, t)
        answer(stream_answer(rows))
        show(built(magnitude_by_block, rows), rows, "stream", results,
             definition="Magnitude: root mean square over the channels of a token.",
             formula=r"$M[x] = \\sqrt{\\frac{1}{n}\\sum_i E[x_i^2]}$")

and one line in the list of `app/main.py`. A page never computes, never imports torch or another
page, and never touches `st.query_params`: `view.choice`, `view.slider`, `view.number`,
`view.toggle`, `view.several`, `view.focus` are widgets whose values live in the link. A control
that changes one figure only stands with it in a function under `@part`, which is drawn alone.
`built` keeps a figure, so that a slider that only moves a mark on it answers at once.
"""

from app.components.built import built
from app.components.errors import guarded, part
from app.components.figure import how_computed, show
from app.components.frame import answer, empty, question
from app.components.results import Results, results_of
from app.view import View

__all__ = [
    "Results",
    "View",
    "answer",
    "built",
    "empty",
    "guarded",
    "how_computed",
    "part",
    "question",
    "results_of",
    "show",
]
