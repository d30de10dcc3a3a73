"""What a deterministic response carries, and how its parts are hashed."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

_SHORT_HEX = 32  # characters; 128 bits


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything a client needs to check an answer, or to have it executed again."""

    verified: bool
    fingerprint: str
    output_digest: str
    verify_passes: int
    rollbacks: int
    tokens_rolled_back: int

    def as_dict(self) -> dict[str, bool | str | int]:
        """Plain JSON types, the layout of `meta_info.llm42`."""
        return asdict(self)


def fingerprint(facts: Mapping[str, object]) -> str:
    """Hash of all that may change a bit. `facts` must be JSON; key order does not matter."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT_HEX]


def output_digest(prompt_ids: Iterable[int], output_ids: Iterable[int]) -> str:
    """Hash of prompt and output token ids; the length prefix keeps the two apart."""
    digest = hashlib.sha256()
    for ids in (prompt_ids, output_ids):
        packed = list(ids)
        digest.update(struct.pack(f"<q{len(packed)}q", len(packed), *packed))
    return digest.hexdigest()[:_SHORT_HEX]
