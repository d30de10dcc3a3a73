"""What is sent to a server, and when. A seed makes a trace; JSON keeps it."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PAUSES = ("retract", "in_place", "abort")


@dataclass(frozen=True)
class Event:
    """One thing that happens. Fields that its kind does not need have their defaults."""

    at: float  # seconds since the beginning
    kind: str  # ask, abort, flush, pause, update
    rid: str = ""  # of ask: its name; of abort: who is named
    request: int = 0  # of ask: its number among the requests of the trace
    deterministic: bool = True
    stream: bool = False
    leave_after: int | None = None  # of ask: messages after which the client hangs up
    claim: str = ""  # of ask: "right" or "wrong", if the output is claimed
    priority: int | None = None
    mode: str = ""  # of pause; of update: the name of the weights
    seconds: float = 0.0  # of pause: how long


@dataclass(frozen=True)
class Trace:
    """Events in order of time, and the requests they are about."""

    seed: int
    requests: int  # how many there are to choose from
    events: tuple[Event, ...]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """Read what `save` has written."""
        content = json.loads(path.read_text())
        events = tuple(Event(**event) for event in content.pop("events"))
        return cls(events=events, **content)


@dataclass(frozen=True)
class Mixture:
    """What a trace is made of."""

    seconds: float
    per_second: float  # requests
    requests: int = 60
    troubles: float = 0.08  # of these events are no requests
    priorities: bool = False
    weights: Sequence[str] = ()  # names that updates choose from


def make(seed: int, mixture: Mixture) -> Trace:
    """The trace of a seed: bursts and lulls, with troubles in between."""
    events = sorted(_events(random.Random(f"trace {seed}"), mixture), key=lambda event: event.at)
    return Trace(seed, mixture.requests, tuple(events))


def _events(dice: random.Random, mixture: Mixture) -> Iterator[Event]:
    at, number, named = 0.0, 0, []
    while at < mixture.seconds:
        burst = dice.choice((1, 1, 2, 8))
        at += dice.expovariate(mixture.per_second / burst)
        for _ in range(burst):
            if dice.random() < mixture.troubles and named:
                yield _trouble(dice, at, named, mixture)
                continue
            # Some names come again, while the first is under way or after it.
            rid = dice.choice(named) if named and dice.random() < 0.03 else f"r{number}"
            number += 1
            named.append(rid)
            yield _ask(dice, at, rid, mixture)


def _ask(dice: random.Random, at: float, rid: str, mixture: Mixture) -> Event:
    stream = dice.random() < 0.5
    leaves = stream and dice.random() < 0.15
    deterministic = dice.random() < 0.6
    claims = deterministic and dice.random() < 0.15
    return Event(
        at,
        "ask",
        rid,
        request=dice.randrange(mixture.requests),
        deterministic=deterministic,
        claim=dice.choice(("right", "wrong")) if claims else "",
        stream=stream,
        leave_after=dice.randrange(6) if leaves else None,
        priority=dice.randrange(3) if mixture.priorities else None,
    )


def _trouble(dice: random.Random, at: float, named: list[str], mixture: Mixture) -> Event:
    kinds = ["abort"] * 6 + ["flush", "pause"] + ["update"] * bool(mixture.weights)
    kind = dice.choice(kinds)
    if kind == "abort":
        return Event(at, kind, dice.choice(named[-20:]))
    if kind == "pause":
        return Event(at, kind, mode=dice.choice(PAUSES), seconds=dice.uniform(0, 0.5))
    if kind == "update":
        return Event(at, kind, mode=dice.choice(mixture.weights))
    return Event(at, kind)
