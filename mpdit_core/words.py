"""Words for people that every layer says alike."""

from collections.abc import Iterable


def listed(things: Iterable[object]) -> str:
    """Several things in a sentence; nothing of none.

    >>> listed(["A", "B", "C"]), listed([8]), listed([])
    ('A, B and C', '8', '')
    """
    *first, last = [str(thing) for thing in things] or [""]
    return f"{', '.join(first)} and {last}" if first else last
