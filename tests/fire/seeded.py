"""A seed makes a trace: bursts and lulls, with troubles in between."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.fire.requests import Request, requests
from tests.fire.trace import Event, Trace

# How often each trouble comes, among troubles.
TROUBLES = {"abort": 12, "flush": 2, "pause": 3, "storm": 1, "update": 2}
PAUSES = ("retract", "retract", "in_place", "in_place", "abort")
UPDATES = ("", "retract", "in_place", "retract", "in_place", "abort")  # "": without a pause
AGAIN_S = 0.3  # who tries again waits so long on average
LATEST = 64  # an abort names one of so many that came last


@dataclass(frozen=True)
class Mixture:
    """What a trace is made of."""

    seconds: float
    per_second: float  # requests
    requests: int = 60
    troubles: float = 0.04  # of these events are no requests
    deterministic: float = 0.8  # of the requests
    priorities: int = 0  # how many there are; 0: none is named
    weights: Sequence[str] = ()  # names that updates choose from


def make(server: str, seed: int, mixture: Mixture) -> Trace:
    """The trace of a seed. All traces of a server and a mixture have the same requests."""
    dice, asked = random.Random(f"trace {seed}"), requests(mixture.requests)
    events = sorted(_events(dice, mixture, asked), key=lambda event: event.at)
    return Trace(server, seed, asked, tuple(events))


def _events(dice: random.Random, mixture: Mixture, asked: Sequence[Request]) -> Iterator[Event]:
    at, named = 0.0, []
    while at < mixture.seconds:
        burst = dice.choice((1, 1, 2, 8))
        at += dice.expovariate(mixture.per_second / burst)
        for _ in range(burst):
            if dice.random() < mixture.troubles and named:
                yield _trouble(dice, at, named, mixture)
                continue
            # Some names come again, while the first is under way or after it.
            rid = dice.choice(named) if named and dice.random() < 0.03 else f"r{len(named)}"
            named.append(rid)
            ask = _ask(dice, at, rid, mixture, asked)
            yield ask
            if ask.leave_after is not None and dice.random() < 0.5:
                yield _again(dice, ask)


def _ask(
    dice: random.Random, at: float, rid: str, mixture: Mixture, asked: Sequence[Request]
) -> Event:
    number = dice.randrange(len(asked))
    stream = dice.random() < 0.5
    leaves = stream and dice.random() < 0.1
    deterministic = dice.random() < mixture.deterministic
    claims = deterministic and asked[number].samples == 1 and dice.random() < 0.15
    return Event(
        at,
        "ask",
        rid,
        request=number,
        deterministic=deterministic,
        claim=dice.choice(("right", "wrong")) if claims else "",
        stream=stream,
        leave_after=dice.randrange(6) if leaves else None,
        slow=dice.uniform(0.5, 3) if stream and dice.random() < 0.03 else 0.0,
        priority=dice.randrange(mixture.priorities) if mixture.priorities else None,
    )


def _again(dice: random.Random, ask: Event) -> Event:
    """The client that hung up tries again, under a new name."""
    later = ask.at + dice.expovariate(1 / AGAIN_S)
    return replace(ask, at=later, rid=f"{ask.rid}-again", leave_after=None)


def _trouble(dice: random.Random, at: float, named: list[str], mixture: Mixture) -> Event:
    kinds = [kind for kind in TROUBLES if kind != "update" or mixture.weights]
    (kind,) = dice.choices(kinds, [TROUBLES[kind] for kind in kinds])
    if kind == "abort":
        return Event(at, kind, dice.choice(named[-LATEST:]))
    if kind == "pause":
        return Event(at, kind, mode=dice.choice(PAUSES), seconds=dice.uniform(0, 0.5))
    if kind == "update":
        return Event(at, kind, mode=dice.choice(UPDATES), weights=dice.choice(mixture.weights))
    return Event(at, kind)
