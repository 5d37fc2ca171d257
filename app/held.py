"""What one session remembers of the view, between two runs of its script."""

from dataclasses import dataclass, field

from app.link import Link


@dataclass
class Held:
    """What a session remembers. settings: page -> name -> text; unchecked: those from a link.

    turn: counts script runs and changes; a run of an earlier turn, which Streamlit has told to
    stop and which goes on for a while, must not write over what was changed since."""

    runs: tuple[str, ...] | None = None
    weights: str | None = None
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    page: str = ""
    unchecked: set[str] = field(default_factory=set)
    turn: int = 0
    address: str = ""
    """The query that the browser shows, as far as this session has written it."""
    notes: list[str] = field(default_factory=list)
    known_links: set[str] = field(default_factory=set)

    def note(self, sentence: str) -> None:
        """Keep a sentence about what the link asked for in vain, until the user changes a thing."""
        if sentence and sentence not in self.notes:
            self.notes.append(sentence)

    def link(self, page: str) -> Link:
        """The whole view of that page: all that was shown, and what is not shown yet."""
        return Link(self.runs or (), self.weights, dict(self.settings.get(page, {})))
