"""What pages are made of; CONTRIBUTING.md has a page that uses them, from question to link.

`question` and `answer` are its words, `empty` what stands where nothing is. `results_of` (and
`results_at`, for a sweep) gets tables, with a card in their place while they are computed. `show`
draws a figure with its definition, downloads and how it was computed; `how_computed` is that fold
for what is no figure. `scrolling` holds wide figures, `built` keeps them, and `derived` what they
are made of. `part` draws a piece of a page alone, `guarded` turns an error into a sentence, `plain`
keeps Markdown's hands off a text that holds names. `View` is what is looked at, and has the widgets
that live in the link.
"""

from app.components.built import built
from app.components.errors import guarded, part
from app.components.figure import how_computed, show
from app.components.frame import answer, empty, plain, question, scrolling
from app.components.results import Results, derived, is_stored, results_at, results_of
from app.view import View

__all__ = [
    "Results",
    "View",
    "answer",
    "built",
    "derived",
    "empty",
    "guarded",
    "how_computed",
    "is_stored",
    "part",
    "plain",
    "question",
    "results_at",
    "results_of",
    "scrolling",
    "show",
]
