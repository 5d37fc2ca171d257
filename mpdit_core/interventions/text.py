"""Interventions read back from their short text, as it stands in links.

    what[@blocks][:attn|:mlp][:tSPANS][:label|:null], several with `;` between

what: `angle*0.5`, `gate=y3`, `shift=null`, `scale=t500`, `gate=y3.t500`, `angle=none`, `skip`,
`branch*0.5`, `zero.stream=3,8-10`. Blocks are counted from 1, channels and timesteps from 0.
"""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mpdit_core.errors import InvalidConfig
from mpdit_core.interventions.intervention import Intervention, spans
from mpdit_core.interventions.kinds import AnyIntervention

NOTHING = "none"
_FACTOR = r"(?P<factor>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)"
_LIST = r"\d+(-\d+)?(,\d+(-\d+)?)*"
_WHAT: dict[str, str] = {
    "scale_angle": rf"angle\*{_FACTOR}",
    "scale_branch": rf"branch\*{_FACTOR}",
    "skip": r"skip",
    "zero": rf"zero\.(?P<where>stream|in|out)=(?P<channels>{_LIST})",
    "set_signal": r"(?P<signal>shift|scale|gate|angle)="
    r"(none|(?P<label>null|y\d+)(\.t(?P<after>\d+))?|t(?P<timestep>\d+))",
}
_WHERE = rf"(@(?P<blocks>{_LIST}))?(:(?P<branch>attn|mlp))?"
_WHEN = rf"(:t(?P<timesteps>{_LIST}))?(:(?P<half>label|null))?"
_FORMS = {kind: re.compile(what + _WHERE + _WHEN) for kind, what in _WHAT.items()}
_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyIntervention)
_MOST = 100_000
"""Numbers in one list; a link must not be able to ask for more memory than there is."""


def parse_interventions(text: str) -> tuple[AnyIntervention, ...]:
    """The interventions of a text; `none` and the empty text are none. Raises InvalidConfig.

    >>> parse_interventions("angle*0.5@3-4:mlp:t500-999;skip@1")[0].name
    'MLP of blocks 3 to 4 with rotation angles × 0.5 at t = 999 to 500'
    """
    parts = [part.strip() for part in text.split(";")]
    return tuple(_parsed(part) for part in parts if part not in ("", NOTHING))


def written(interventions: Iterable[Intervention]) -> str:
    """The text that `parse_interventions` reads back; `none` for no interventions.

    >>> written(parse_interventions("gate=null@1:label;zero.out=7-9"))
    'gate=null@1:label;zero.out=7-9'
    """
    return ";".join(one.text for one in interventions) or NOTHING


def _parsed(text: str) -> AnyIntervention:
    for kind, form in _FORMS.items():
        match = form.fullmatch(text)
        if match:
            return _made(kind, match.groupdict(), text)
    raise InvalidConfig(
        f"{text[:60]!r} is no intervention; write for example angle*0.5@3-6:mlp:t500-999, gate=y3, "
        "shift=null, scale=none, skip@3:mlp, branch*0.5 or zero.stream=5,9"
    )


def _made(kind: str, found: dict[str, str | None], text: str) -> AnyIntervention:
    values: dict[str, Any] = {"kind": kind}
    for name in ("factor", "where", "signal", "half"):
        values[name] = found.get(name)
    values["branches"] = [found["branch"]] if found["branch"] else None
    values["label"] = (found.get("label") or "").removeprefix("y") or None
    values["timestep"] = found.get("timestep") or found.get("after")
    try:
        values["channels"] = _numbers(found.get("channels"))
        values["blocks"] = _numbers(found["blocks"], first=1)
        values["timesteps"] = _spans(found["timesteps"]) if found["timesteps"] else None
        return _ADAPTER.validate_python(
            {name: _digits(value) for name, value in values.items() if value is not None}
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidConfig(f"{text[:60]!r} is no intervention: {reason}") from None
    except ValueError as error:
        raise InvalidConfig(f"{text[:60]!r} is no intervention: {error}") from None


def _digits(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _spans(text: str) -> list[tuple[int, int]]:
    pairs = [part.partition("-") for part in text.split(",")]
    return [(int(low), int(high or low)) for low, _, high in pairs]


def _numbers(text: str | None, first: int = 0) -> list[int] | None:
    """Every number of a list, counted from 0."""
    if text is None:
        return None
    found = spans(_spans(text))
    if found[0][0] < first or found[-1][1] > _MOST:
        raise ValueError(f"numbers run from {first} to {_MOST}")
    return [number - first for low, high in found for number in range(low, high + 1)]
