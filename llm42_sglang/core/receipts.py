"""The receipt that a deterministic response carries, and how its hashes are made."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

FACTS_PATH = "/llm42/fingerprint"  # endpoint with the facts behind a server's fingerprint
_SHORT_HEX = 32  # characters of a hash that are kept; 128 bits


class Segment(NamedTuple):
    """Consecutive tokens of an output that were drawn under the same weights."""

    fingerprint: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a client needs to check an answer, or to have it computed again."""

    verified: bool  # every output token is committed
    fingerprint: str  # see `fingerprint`; that of the last segment
    segments: tuple[Segment, ...]  # in order; several if weights were updated meanwhile
    output_digest: str  # see `output_digest`
    seed: int | None  # None for a greedy request, which draws nothing
    sampling: Mapping[str, float]  # the parameters in force, with the server's defaults filled in
    canonical_steps: int  # output tokens that canonical steps committed
    verify_passes: int  # passes that verified a page of the request
    rollbacks: int  # how many of these passes dropped candidates
    tokens_rolled_back: int  # candidates dropped, in all

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt in plain JSON types, as it stands in `meta_info.llm42`."""
        return asdict(self) | {"segments": [segment._asdict() for segment in self.segments]}


def fingerprint(facts: Mapping[str, object]) -> str:
    """Return a hash of `facts`: all that may change a bit of an answer.

    `facts` must be JSON types; anything else is a TypeError. The order of keys does not matter.
    The fact `weight_version` is left out: it is what a trainer calls the weights, and changes no
    bit. So the fingerprint comes back when the weights do.
    """
    causes = {name: fact for name, fact in facts.items() if name != "weight_version"}
    text = json.dumps(causes, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT_HEX]


def output_digest(
    prompt_ids: Iterable[int], output_ids: Iterable[int], logprobs: Iterable[float] = ()
) -> str:
    """Return a hash of the prompt's and the output's token ids.

    The bits of the output's logprobs are hashed too, if there are any. Each part is preceded by its
    length, so no two different answers hash the same bytes.
    """
    digest = hashlib.sha256()
    for kind, values in (("q", prompt_ids), ("q", output_ids), ("d", logprobs)):
        packed = list(values)
        if packed or kind == "q":
            digest.update(struct.pack(f"<q{len(packed)}{kind}", len(packed), *packed))
    return digest.hexdigest()[:_SHORT_HEX]
