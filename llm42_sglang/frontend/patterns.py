"""The patterns and grammars of a request: can they be compiled and matched in bounded time?

`stop_regex` is searched at every token. So it has the syntax of RE2, which does not backtrack. A
grammar is compiled once, in a thread, and then followed token by token. That takes long if many
ways stay open; `ambiguity` tells what a way is.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from re import _parser as parser  # SGLang too reads `stop_regex` with it
from typing import Any

from llm42_sglang.frontend.ambiguity import RegexMeasure, repeats_of_ebnf, ways_of_ebnf
from llm42_sglang.frontend.options import Refused

try:
    import re2
    from re2 import error
except ImportError:  # SGLang would log this exception and serve without the plugin
    sys.exit("llm42: the package google-re2 is not installed; run: pip install google-re2")

MAX_GRAMMAR_LENGTH = 65_536  # characters
MAX_NESTED_REPEATS = 10_000  # product of the counts of repeats inside each other
MAX_WAYS = 64  # of one pattern
MAX_WAYS_OF_SCHEMA = 256  # of all patterns of a schema
MAX_WAYS_OF_EBNF = 1024
MAX_DEPTH = 64  # brackets inside each other
# SGLang has the same two limits, but compiles first.
MAX_STOP_REGEXES = 32
MAX_STOP_REGEX_BYTES = 256
_SIMPLIFY = "avoid optional parts and repeats in a row, as in a?a?a?"
_JSON = ("json_schema", "structural_tag")
_LETTERS = r"\\.|\[(?:\\.|[^\]\\])*\]"  # escaped letters, and classes of letters
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20  # bytes; RE2 refuses a pattern that needs more


def search(pattern: str, text: str) -> Any:
    """Search like `re.search`, in time linear in the text. The match has no groups."""
    return re2.search(pattern, text, _OPTIONS)


def refuse_stop_regexes(patterns: Sequence[str]) -> None:
    """Raise Refused unless RE2 can read each pattern, and SGLang can tell its longest match."""
    if len(patterns) > MAX_STOP_REGEXES:
        raise Refused(f"stop_regex: at most {MAX_STOP_REGEXES} patterns, got {len(patterns)}")
    if any(len(pattern.encode()) > MAX_STOP_REGEX_BYTES for pattern in patterns):
        raise Refused(f"stop_regex: at most {MAX_STOP_REGEX_BYTES} bytes each")
    for pattern in patterns:
        try:
            re2.compile(pattern, _OPTIONS)
            parser.parse(pattern)
        except error as problem:
            detail = problem.args[0] if problem.args else ""
            reason = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
            raise Refused(f"stop_regex must have RE2's syntax: {reason:.200}") from None
        except (re.error, RecursionError, OverflowError) as problem:
            raise Refused(f"stop_regex cannot be read: {problem!s:.200}") from None


def refuse_large_grammar(name: str, grammar: str) -> None:
    """Raise Refused if a grammar might take long to compile or to follow. name: the option."""
    if len(grammar) > MAX_GRAMMAR_LENGTH:
        raise Refused(f"{name}: at most {MAX_GRAMMAR_LENGTH} characters, got {len(grammar)}")
    try:
        schema = _parsed(grammar) if name in _JSON else None
        depth = _depth(schema) if name in _JSON else _brackets(grammar)
    except RecursionError:
        depth = MAX_DEPTH + 1
    if depth > MAX_DEPTH:
        raise Refused(f"{name}: brackets are nested more than {MAX_DEPTH} deep; make it flatter")
    for ebnf in [grammar] if name == "ebnf" else _texts_named("grammar", schema):
        _refuse_large_ebnf(name, ebnf)
    patterns = [grammar] if name == "regex" else _patterns_in(schema)
    if sum(_ways_of(name, pattern) for pattern in patterns) > MAX_WAYS_OF_SCHEMA:
        raise Refused(f"{name}: the patterns leave too many ways open at once; {_SIMPLIFY}")


def _refuse_large_ebnf(name: str, grammar: str) -> None:
    if ways_of_ebnf(grammar) > MAX_WAYS_OF_EBNF:
        raise Refused(f"{name}: too many items in a row may be left out; require some of them")
    if repeats_of_ebnf(grammar) > MAX_NESTED_REPEATS:
        raise Refused(f"{name}: counts multiply to more than {MAX_NESTED_REPEATS}; lower them")


def _ways_of(name: str, pattern: str) -> int:
    """Return how many ways a pattern leaves open. Raises Refused if they are too many."""
    try:
        measure = RegexMeasure(pattern)
    except (re.error, RecursionError, OverflowError) as problem:
        raise Refused(f"{name}: a pattern cannot be read: {problem!s:.200}") from None
    if measure.ways > MAX_WAYS:
        raise Refused(f"{name}: a pattern leaves too many ways open at once; {_SIMPLIFY}")
    if measure.nested > MAX_NESTED_REPEATS:
        raise Refused(f"{name}: counts multiply to more than {MAX_NESTED_REPEATS}; lower them")
    return measure.ways


def _brackets(text: str) -> int:
    """Return how many round brackets are open at once at most. Escaped ones are letters."""
    depth = deepest = 0
    for sign in re2.sub(_LETTERS, "", text, options=_OPTIONS):
        depth = depth + 1 if sign == "(" else max(depth - (sign == ")"), 0)
        deepest = max(deepest, depth)
    return deepest


def _depth(value: Any) -> int:
    """Return how deep objects and lists are nested. Raises RecursionError."""
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, parts), default=0) if isinstance(value, dict | list) else 0


def _parsed(grammar: str) -> Any:
    """Return the value of a JSON text; None if it is malformed, for which SGLang has an error."""
    try:
        return json.loads(grammar)
    except ValueError:
        return None


def _patterns_in(schema: Any) -> Iterator[str]:
    """Yield the patterns in a JSON schema, or in an object that holds schemas."""
    yield from _texts_named("pattern", schema)
    for part in _objects_in(schema):
        by_pattern = part.get("patternProperties")
        yield from by_pattern if isinstance(by_pattern, dict) else ()


def _texts_named(name: str, schema: Any) -> Iterator[str]:
    """Yield the texts under that name, at any depth."""
    for part in _objects_in(schema):
        if isinstance(part.get(name), str):
            yield part[name]


def _objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a JSON value, at any depth."""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield part
        if isinstance(part, dict | list):
            stack += part.values() if isinstance(part, dict) else part
