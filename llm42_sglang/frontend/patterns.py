"""Patterns and grammars of a request: whether they are matched and compiled in bounded time.

`stop_regex` is searched at every token, so it follows RE2, which does not backtrack. A grammar is
compiled once and then followed token by token: long where many repeats may end at many places.
"""

import json
import re
import sys
from collections.abc import Iterator
from math import prod
from re import _parser as parser  # what SGLang reads `stop_regex` with too
from typing import Any

from llm42_sglang.frontend.options import Refused

try:
    import re2
    from re2 import error
except ImportError:  # SGLang's loader would log it, and serve without the plugin
    sys.exit("llm42: the package google-re2 is not installed; pip install google-re2")

MAX_GRAMMAR_LENGTH = 65_536  # characters
MAX_NESTED_REPEATS = 1000  # product of the counts of repeats in each other
MAX_CHOICES = 64  # repeats of a pattern that may end early: ?, *, +, {m,n}
MAX_DEPTH = 64  # of brackets
_JSON = ("json_schema", "structural_tag")
_LETTERS = r"\\.|\[(?:\\.|[^\]\\])*\]"  # what is escaped, and classes of letters
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20  # bytes; RE2 refuses what needs more


def search(pattern: str, text: str) -> Any:
    """`re.search` in time linear in the text, without groups."""
    return re2.search(pattern, text, _OPTIONS)


def refuse_stop_regex(pattern: str) -> None:
    """Raise Refused unless RE2 takes the pattern, and SGLang can tell how long a match may be."""
    try:
        re2.compile(pattern, _OPTIONS)
        parser.parse(pattern)
    except error as failed:
        said = failed.args[0] if failed.args else ""
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise Refused(f"stop_regex follows RE2's syntax: {reason:.200}") from None
    except (re.error, RecursionError, OverflowError) as failed:
        raise Refused(f"stop_regex: {failed!s:.200}") from None


def refuse_large_grammar(name: str, grammar: str) -> None:
    """Raise Refused when a grammar might take long to compile or to follow. name: the option."""
    if len(grammar) > MAX_GRAMMAR_LENGTH:
        raise Refused(f"{name}: at most {MAX_GRAMMAR_LENGTH} characters")
    try:
        schema = _parsed(grammar) if name in _JSON else None
        depth = _depth(schema) if name in _JSON else _brackets(grammar)
    except RecursionError:
        depth = MAX_DEPTH + 1
    if depth > MAX_DEPTH:
        raise Refused(f"{name}: nested more than {MAX_DEPTH} deep")
    for pattern in [grammar] if name == "regex" else _patterns_in(schema):
        _refuse_ambiguous(name, pattern)
    counts = re.findall(r"\{(?:\d{0,9},)?(\d{1,9})\}", grammar) if name == "ebnf" else ()
    if prod(map(int, counts)) > MAX_NESTED_REPEATS:  # a rule may repeat another one
        raise Refused(f"{name}: counted repeats of more than {MAX_NESTED_REPEATS} in all")


def _brackets(text: str) -> int:
    """How many round brackets are open at once, at most; not those that are letters."""
    depth = deepest = 0
    for sign in re2.sub(_LETTERS, "", text, options=_OPTIONS):
        depth = depth + 1 if sign == "(" else max(depth - (sign == ")"), 0)
        deepest = max(deepest, depth)
    return deepest


def _depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, parts), default=0) if isinstance(value, dict | list) else 0


def _refuse_ambiguous(name: str, pattern: str) -> None:
    """A text that fits in many ways keeps all of them open, at every token."""
    try:
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return  # SGLang's grammar backend names what is wrong
    choices, nested = _repeats_of(tree)
    if choices > MAX_CHOICES:
        raise Refused(f"{name}: at most {MAX_CHOICES} repeats that may end early in a pattern")
    if nested > MAX_NESTED_REPEATS:
        raise Refused(f"{name}: repeats in repeats of more than {MAX_NESTED_REPEATS} in all")


def _repeats_of(tree: Any, counts: tuple[int, ...] = ()) -> tuple[int, int]:
    """How many repeats may end early, and the largest product of counts of nested repeats."""
    choices, nested = 0, prod(counts) if len(counts) > 1 else 1
    for token, value in tree:
        inside = counts
        if token in (parser.MAX_REPEAT, parser.MIN_REPEAT, parser.POSSESSIVE_REPEAT):
            least, most, _ = value
            choices += least != most
            inside = (*counts, max(least if most is parser.MAXREPEAT else most, 1))
        for part in _trees_in(value):
            more, product = _repeats_of(part, inside)
            choices, nested = choices + more, max(nested, product)
    return choices, nested


def _trees_in(value: Any) -> Iterator[Any]:
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _trees_in(part)


def _parsed(grammar: str) -> Any:
    try:
        return json.loads(grammar)
    except ValueError:
        return None  # SGLang names what is wrong


def _patterns_in(schema: Any) -> Iterator[str]:
    """Patterns of a JSON schema, and of what holds schemas."""
    if isinstance(schema, list):
        for each in schema:
            yield from _patterns_in(each)
    elif isinstance(schema, dict):
        for name, value in schema.items():
            if name == "patternProperties" and isinstance(value, dict):
                yield from value
            if name == "pattern" and isinstance(value, str):
                yield value
            yield from _patterns_in(value)
