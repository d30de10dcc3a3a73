"""Patterns and grammars of a request: whether they are matched and compiled in bounded time.

`stop_regex` is searched at every token, so it follows RE2, which does not backtrack. A grammar is
compiled once, in a thread, and then followed token by token: long where many ways stay open.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from re import _parser as parser  # what SGLang reads `stop_regex` with too
from typing import Any

from llm42_sglang.frontend.ambiguity import RegexMeasure, repeats_of_ebnf, ways_of_ebnf
from llm42_sglang.frontend.options import Refused

try:
    import re2
    from re2 import error
except ImportError:  # SGLang's loader would log it, and serve without the plugin
    sys.exit("llm42: the package google-re2 is not installed; pip install google-re2")

MAX_GRAMMAR_LENGTH = 65_536  # characters
MAX_NESTED_REPEATS = 10_000  # product of the counts of repeats in each other
MAX_WAYS = 64  # of one pattern; `ambiguity` tells what they are
MAX_WAYS_OF_SCHEMA = 256  # of all its patterns
MAX_WAYS_OF_EBNF = 1024
MAX_DEPTH = 64  # of brackets
MAX_STOP_REGEXES = 32  # SGLang's limits, before anything is compiled
MAX_STOP_REGEX_BYTES = 256
_JSON = ("json_schema", "structural_tag")
_LETTERS = r"\\.|\[(?:\\.|[^\]\\])*\]"  # what is escaped, and classes of letters
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20  # bytes; RE2 refuses what needs more


def search(pattern: str, text: str) -> Any:
    """`re.search` in time linear in the text, without groups."""
    return re2.search(pattern, text, _OPTIONS)


def refuse_stop_regexes(patterns: Sequence[str]) -> None:
    """Raise Refused unless RE2 takes each, and SGLang can tell how long a match may be."""
    if len(patterns) > MAX_STOP_REGEXES:
        raise Refused(f"stop_regex: at most {MAX_STOP_REGEXES} patterns")
    if any(len(pattern.encode()) > MAX_STOP_REGEX_BYTES for pattern in patterns):
        raise Refused(f"stop_regex: at most {MAX_STOP_REGEX_BYTES} bytes each")
    for pattern in patterns:
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
    for each in [grammar] if name == "ebnf" else _under("grammar", schema):
        _refuse_large_ebnf(name, each)
    patterns = [grammar] if name == "regex" else _patterns_in(schema)
    if sum(_ways_of(name, pattern) for pattern in patterns) > MAX_WAYS_OF_SCHEMA:
        raise Refused(f"{name}: its patterns leave too many ways open at once")


def _refuse_large_ebnf(name: str, grammar: str) -> None:
    if ways_of_ebnf(grammar) > MAX_WAYS_OF_EBNF:
        raise Refused(f"{name}: too many items in a row that may be left out")
    if repeats_of_ebnf(grammar) > MAX_NESTED_REPEATS:
        raise Refused(f"{name}: counted repeats of more than {MAX_NESTED_REPEATS} in all")


def _ways_of(name: str, pattern: str) -> int:
    """A text that fits in many ways keeps all of them open, at every token. Raises Refused."""
    try:
        measured = RegexMeasure(pattern)
    except (re.error, RecursionError, OverflowError) as failed:
        raise Refused(f"{name}: a pattern cannot be read: {failed!s:.200}") from None
    if measured.ways > MAX_WAYS:
        raise Refused(f"{name}: a pattern leaves too many ways open at once (as a?a?a? does)")
    if measured.nested > MAX_NESTED_REPEATS:
        raise Refused(f"{name}: repeats in repeats of more than {MAX_NESTED_REPEATS} in all")
    return measured.ways


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


def _parsed(grammar: str) -> Any:
    try:
        return json.loads(grammar)
    except ValueError:
        return None  # SGLang names what is wrong


def _patterns_in(schema: Any) -> Iterator[str]:
    """Patterns of a JSON schema, and of what holds schemas."""
    yield from _under("pattern", schema)
    for part in _objects_in(schema):
        named = part.get("patternProperties")
        yield from named if isinstance(named, dict) else ()


def _under(name: str, schema: Any) -> Iterator[str]:
    """The texts of that name, at any depth."""
    for part in _objects_in(schema):
        if isinstance(part.get(name), str):
            yield part[name]


def _objects_in(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
        if isinstance(part, dict | list):
            waiting += part.values() if isinstance(part, dict) else part
