"""Words for people that every layer says alike."""

from collections.abc import Iterable


def capital(text: str) -> str:
    """The text as a sentence begins.

    >>> capital("t = 500, EMA"), capital("")
    ('T = 500, EMA', '')
    """
    return text[:1].upper() + text[1:]


def listed(things: Iterable[object]) -> str:
    """Several things in a sentence; nothing of none.

    >>> listed(["A", "B", "C"]), listed([8]), listed([])
    ('A, B and C', '8', '')
    """
    *first, last = [str(thing) for thing in things] or [""]
    return f"{', '.join(first)} and {last}" if first else last
