"""What a deterministic response carries, and how its parts are hashed."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

FACTS_PATH = "/llm42/fingerprint"  # where a server tells the facts behind its fingerprint
_SHORT_HEX = 32  # characters; 128 bits


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything a client needs to check an answer, or to have it executed again."""

    verified: bool
    fingerprint: str
    output_digest: str
    seed: int | None  # None: greedy, nothing was drawn
    sampling: Mapping[str, float]  # effective parameters, the server's defaults included
    canonical_steps: int  # tokens of the output that needed no verification
    verify_passes: int
    rollbacks: int
    tokens_rolled_back: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, the layout of `meta_info.llm42`."""
        return asdict(self)


def fingerprint(facts: Mapping[str, object]) -> str:
    """Hash of all that may change a bit. `facts` must be JSON; key order does not matter."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT_HEX]


def output_digest(
    prompt_ids: Iterable[int], output_ids: Iterable[int], logprobs: Iterable[float] = ()
) -> str:
    """Hash of prompt and output token ids, and of the bits of the output's logprobs if asked for.

    Length prefixes keep the parts apart.
    """
    digest = hashlib.sha256()
    for kind, values in (("q", prompt_ids), ("q", output_ids), ("d", logprobs)):
        packed = list(values)
        if packed or kind == "q":
            digest.update(struct.pack(f"<q{len(packed)}{kind}", len(packed), *packed))
    return digest.hexdigest()[:_SHORT_HEX]
