"""The receipt that a deterministic response carries, and how its hashes are made.

docs/receipts.md says the same byte by byte, for other languages.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from llm42_sglang.core.encoding import digest, packed

VERSION = 2
FACTS_PATH = "/llm42/fingerprint"  # endpoint with the facts behind a server's fingerprint
VERIFY_PATH = "/llm42/verify"  # endpoint that checks a claimed answer
REFUTED = "refuted"  # field that stands in place of a receipt where a claim was wrong
SIGNATURE = ("key", "signature")  # fields that a signing server adds to a receipt
_NOT_HASHED = ("receipt_digest", *SIGNATURE)
_SHORT_HEX = 32  # characters of a fingerprint; 128 bits


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
    request_digest: str  # see `request_digest`
    output_digest: str  # see `output_digest`
    seed: int | None  # None for a greedy request, which draws nothing
    sampling: Mapping[str, object]  # what is in force, with the server's defaults filled in
    nonce: str | None  # the client's
    canonical_steps: int  # output tokens that canonical steps committed
    verify_passes: int  # passes that verified a page of the request
    rollbacks: int  # how many of these passes dropped candidates
    tokens_rolled_back: int  # candidates dropped, in all

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt in plain JSON types, as it stands in `meta_info.llm42`."""
        segments = [segment._asdict() for segment in self.segments]
        fields = {"version": VERSION} | asdict(self) | {"segments": segments}
        return fields | {"receipt_digest": receipt_digest(fields)}


def fingerprint(facts: Mapping[str, object]) -> str:
    """Return a hash of `facts`: all that may change a bit of an answer.

    `facts` must be JSON types; anything else is a TypeError. The order of keys does not matter.
    The fact `weight_version` is left out: it is what a trainer calls the weights, and changes no
    bit. So the fingerprint comes back when the weights do.
    """
    causes = {name: fact for name, fact in facts.items() if name != "weight_version"}
    text = json.dumps(causes, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT_HEX]


def request_digest(
    prompt_ids: Iterable[int], sampling: Mapping[str, object], seed: int | None
) -> str:
    """Return a hash of all that an answer depends on besides the fingerprint.

    prompt_ids: after the chat template. sampling: JSON types; what the receipt says under that
    name. Sample i of n has seed + i. So it is the request with that seed and n = 1, and has its
    digest.
    """
    return digest("llm42 request 2", packed("q", prompt_ids), dict(sampling), seed)


def output_digest(
    output_ids: Iterable[int],
    finish_reason: str,
    matched: str | int | None,
    logprobs: Iterable[float] | None = None,
) -> str:
    """Return a hash of an answer.

    finish_reason: "stop", "length" or "abort". matched: the stop token or string, None if there is
    none. logprobs: of the output tokens, whose bits are hashed; None if they were not asked for.
    """
    bits = None if logprobs is None else packed("d", logprobs)
    return digest("llm42 output 2", packed("q", output_ids), finish_reason, matched, bits)


def receipt_digest(receipt: Mapping[str, object]) -> str:
    """Return a hash of all fields of a receipt, but for itself and the signature.

    It is what a server signs: the 32 bytes, not the digits. receipt: JSON types, else TypeError.
    """
    fields = {name: value for name, value in receipt.items() if name not in _NOT_HASHED}
    return digest("llm42 receipt 2", fields)


def key_id(public_key: bytes) -> str:
    """Return the name of an Ed25519 key in receipts, 16 hex digits. public_key: its 32 bytes."""
    return hashlib.sha256(public_key).hexdigest()[:16]
