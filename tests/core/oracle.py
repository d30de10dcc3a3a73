"""The right next token, as a pure function of the tokens before it.

It stands for the draw from a canonical row. Its vocabulary is small, so tokens repeat and a wrong
candidate agrees by chance now and then, as happens with a real model.
"""

from dataclasses import dataclass
from zlib import crc32

EOS = 0
VOCAB = 6
_EOS_ONE_IN = 16


@dataclass(frozen=True)
class Asked:
    """What a request asks for besides its prompt."""

    max_new: int
    stop: tuple[int, ...] = ()  # tokens that end the output; (EOS,), or a longer stop string
    grammar: bool = False  # the output has no token twice in a row


def next_token(prefix: tuple[int, ...], forbidden: int | None = None) -> int:
    """The token that the canonical row of the prefix's last position gives."""
    drawn = crc32(bytes(prefix))
    token = EOS if drawn % _EOS_ONE_IN == 0 else 1 + (drawn >> 8) % (VOCAB - 1)
    return (token + 1) % VOCAB if token == forbidden else token


def ends(output: tuple[int, ...], asked: Asked) -> bool:
    """Whether a request is over with this output."""
    stopped = bool(asked.stop) and output[-len(asked.stop) :] == asked.stop
    return len(output) >= asked.max_new or stopped


def generate(prompt: tuple[int, ...], asked: Asked) -> tuple[int, ...]:
    """The whole output of a request, one token at a time."""
    output: tuple[int, ...] = ()
    while not ends(output, asked):
        forbidden = output[-1] if asked.grammar and output else None
        output += (next_token(prompt + output, forbidden),)
    return output
