"""What is sent to a server, and when. JSON keeps it: a line for each request and each event."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.fire.requests import Request

PLAIN, CHANGED, NONE = "plain", "changed", "none"  # weights; none: a folder that is not there
PAUSE_S = 2.5  # between events of a part of a trace, at most


@dataclass(frozen=True)
class Event:
    """One thing that happens. Fields that its kind does not need have their defaults."""

    at: float  # seconds since the beginning, at the earliest
    kind: str  # ask, abort, flush, pause, update, storm
    rid: str = ""  # of ask: its name; of abort: who is named
    request: int = 0  # of ask: its number among the requests of the trace
    deterministic: bool = True
    stream: bool = False
    leave_after: int | None = None  # of ask: messages after which the client hangs up
    slow: float = 0.0  # of ask: seconds for which the client does not read
    claim: str = ""  # of ask: "right" or "wrong", if the output is claimed
    priority: int | None = None
    mode: str = ""  # of pause, and of an update that comes in a pause
    seconds: float = 0.0  # of pause: how long
    weights: str = ""  # of update: their name


@dataclass(frozen=True)
class Trace:
    """Events in order of time, and the requests they are about."""

    server: str  # a name in `tests.fire.servers`
    seed: int  # of the events
    requests: tuple[Request, ...]
    events: tuple[Event, ...]

    def of(self, events: Sequence[Event]) -> "Trace":
        """A trace of these events only, with the requests that they are about. Where others have
        been left out, these come sooner."""
        numbers = sorted({event.request for event in events if event.kind == "ask"})
        place = {number: i for i, number in enumerate(numbers)}
        moved, at, before = [], 0.0, 0.0
        for event in events:
            at, before = at + min(event.at - before, PAUSE_S), event.at
            moved.append(replace(event, at=at, request=place.get(event.request, 0)))
        requests = tuple(self.requests[number] for number in numbers)
        return replace(self, requests=requests, events=tuple(moved))

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        content = asdict(self)
        parts = [f'"{name}": {json.dumps(content[name])}' for name in ("server", "seed")]
        for name in ("requests", "events"):
            lines = ",\n  ".join(json.dumps(_shown(one)) for one in content[name])
            parts.append(f'"{name}": [\n  {lines}\n ]')
        path.write_text("{\n " + ",\n ".join(parts) + "\n}\n")

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """Read what `save` has written."""
        content = json.loads(path.read_text())
        requests = tuple(Request(**request) for request in content.pop("requests"))
        events = tuple(Event(**event) for event in content.pop("events"))
        return cls(requests=requests, events=events, **content)


def _shown(one: dict) -> dict:
    """An event or a request without fields that have their defaults."""
    plain = {name: one_field.default for name, one_field in Event.__dataclass_fields__.items()}
    return {name: value for name, value in one.items() if value != plain.get(name, ...)}


def kept() -> list[tuple[Path, Trace]]:
    """The traces that once failed, and their files."""
    folder = Path(__file__).parent / "kept"
    return [(path, Trace.load(path)) for path in sorted(folder.glob("*.json"))]
