"""How many ways a grammar leaves open at once, told from its text.

A repeat that may end early costs nothing where the next letter tells whether it has ended, as in
"[a-z]{1,20} ". Where what follows may begin with the same letter, as in "a?a?a?", every way stays
open, and the grammar backend follows all of them at every token.
"""

import math
import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from re import _parser as parser
from typing import Any

Letters = int  # a set: bit i for the letter of code i, bit 128 for all others
_OTHERS = 1 << 128
_ALL = (1 << 129) - 1
_REPEATS = (parser.MAX_REPEAT, parser.MIN_REPEAT, parser.POSSESSIVE_REPEAT)
_LETTERS = (parser.LITERAL, parser.NOT_LITERAL, parser.ANY, parser.IN)
_MANY_LETTERS = 10
# Measured on a vocabulary of 49,152: 64 of one letter take less than 10 ms a token, 12 of many
# letters about 0.1 s; and repeats of more than one letter take longer with their count.
_MANY_WEIGH = 5
_LONG_WEIGH = 40  # at most
_MAX_PASSES = 16
_EBNF = re.compile(  # what is not closed goes on to the end, so that nothing is read twice
    r'#[^\n]*|"(?:\\.|[^"\\])*"?|\[(?:\\.|[^\]\\])*\]?|::=|[\w.-]+|\{[^}]*\}?|[()|?*+]'
)
_BY_CATEGORY = {
    parser.CATEGORY_DIGIT: r"\d",
    parser.CATEGORY_NOT_DIGIT: r"\D",
    parser.CATEGORY_SPACE: r"\s",
    parser.CATEGORY_NOT_SPACE: r"\S",
    parser.CATEGORY_WORD: r"\w",
    parser.CATEGORY_NOT_WORD: r"\W",
}
_CATEGORIES = {
    category: sum(1 << code for code in range(128) if re.match(sign, chr(code))) | _OTHERS
    for category, sign in _BY_CATEGORY.items()
}


class RegexMeasure:
    """`ways`: repeats with several ends, weighed. `nested`: the largest product of the counts of
    repeats in each other."""

    def __init__(self, pattern: str):
        """Raises re.error, RecursionError or OverflowError when Python's `re` cannot read it."""
        self.ways = 0
        self.nested = 1
        self._begins: dict[int, tuple[Letters, bool]] = {}
        self._tree = parser.parse(_in_python(pattern))
        self._first(self._tree, 0, 1)

    def _first(self, tree: Any, follow: Letters, times: int) -> Letters:
        """The letters that may come first in `tree` with `follow` behind it."""
        for token, value in reversed(list(tree)):
            if token in _REPEATS:
                follow = self._first_of_repeat(*value, follow, times)
            elif token in _LETTERS:
                follow = _letters(token, value)
            elif parts := list(_trees_in(value)):
                follow = reduce(or_, [self._first(part, follow, times) for part in parts])
        return follow

    def _first_of_repeat(
        self, least: int, most: int, inner: Any, follow: Letters, times: int
    ) -> Letters:
        endless = most is parser.MAXREPEAT
        count = max(least if endless else most, 1)
        begins, _ = self._begin(inner)
        single = len(inner) == 1 and inner[0][0] in _LETTERS
        shared = begins & follow
        if least != most and shared:
            many = (
                _MANY_WEIGH
                if shared.bit_count() >= _MANY_LETTERS and not (endless and single)
                else 1
            )
            self.ways += times * many * (1 if single else min(count, _LONG_WEIGH))
        if times > 1:
            self.nested = max(self.nested, times * count)
        behind = follow | begins if most > 1 else follow
        first = self._first(inner, behind, times * count)
        return first | follow if least == 0 else first

    def _begin(self, tree: Any) -> tuple[Letters, bool]:
        """The letters that `tree` may begin with, and whether it may be empty."""
        if id(tree) not in self._begins:
            self._begins[id(tree)] = self._begin_of(tree)
        return self._begins[id(tree)]

    def _begin_of(self, tree: Any) -> tuple[Letters, bool]:
        letters: Letters = 0
        for token, value in tree:
            if token in _LETTERS:
                return letters | _letters(token, value), False
            if parts := [self._begin(part) for part in _trees_in(value)]:
                letters |= reduce(or_, [begins for begins, _ in parts])
                empty = any(empty for _, empty in parts)
                if not empty and not (token in _REPEATS and value[0] == 0):
                    return letters, False
        return letters, True


def ways_of_ebnf(grammar: str) -> float:
    """The sum of the squares of the lengths of runs: items in a row that may all be left out."""
    rules = _rules_of(grammar)
    optional: set[str] = set()
    for _ in range(_MAX_PASSES):  # a rule may be empty because the rules that it names may be
        known = len(optional)
        optional.update(name for name, body in rules.items() if _runs(body, optional)[1])
        if len(optional) == known:
            return sum(_runs(body, optional)[0] for body in rules.values())
    return math.inf


def repeats_of_ebnf(grammar: str) -> int:
    """What the counts of its repeats may come to, for a rule may repeat another one."""
    single = product = 1
    before = ""
    for token in _EBNF.findall(grammar):
        if token[0] == "{":
            count = max(map(int, re.findall(r"\d{1,9}", token)), default=1)
            if before[-1:] in ("]", '"'):  # letters, which hold no repeats
                single = max(single, count)
            else:
                product *= max(count, 1)
        before = token
    return single * product


def _rules_of(grammar: str) -> dict[str, list[str]]:
    """The tokens of each rule, by its name."""
    rules: dict[str, list[str]] = {}
    body: list[str] = []
    tokens = [token for token in _EBNF.findall(grammar) if token[0] != "#"]
    for token, behind in zip(tokens, [*tokens, ""][1:], strict=True):
        if behind == "::=":
            body = rules.setdefault(token, [])
        elif token != "::=":
            body.append(token)
    return rules


def _runs(tokens: list[str], optional: set[str]) -> tuple[int, bool]:
    """The sum of squares of runs in a rule, and whether the rule may be empty."""
    total, run = 0, 0
    empty, some = True, False  # whether this alternative is empty so far, and whether one was
    outer: list[tuple[int, bool, bool]] = []
    for token, sign in zip(tokens, [*tokens, ""][1:], strict=True):
        if token == "(":
            outer.append((run, empty, some))
            run, empty, some = 0, True, False
            continue
        if token in "?*+" or token[0] == "{":
            continue
        if token == "|":
            total, run = total + run * run, 0
            empty, some = True, some or empty
            continue
        skipped = sign in ("?", "*") or sign.startswith(("{0", "{,", "{ "))
        if token == ")":
            skipped |= empty or some
            total += run * run
            run, empty, some = outer.pop() if outer else (0, True, False)
        skipped |= token in optional or token == '""'
        total, run = (total, run + 1) if skipped else (total + run * run, 0)
        empty &= skipped
    return total + run * run, empty or some


def _letters(token: Any, value: Any) -> Letters:
    if token is parser.ANY:
        return _ALL - (1 << ord("\n"))
    if token is parser.LITERAL:
        return 1 << min(value, 128)
    if token is parser.NOT_LITERAL:
        return _ALL & ~(1 << value) if value < 128 else _ALL
    letters: Letters = 0
    for kind, part in value:
        if kind is parser.LITERAL:
            letters |= 1 << min(part, 128)
        elif kind is parser.RANGE:
            letters |= (1 << min(part[1], 128) + 1) - (1 << min(part[0], 128))
        elif kind is parser.CATEGORY:
            letters |= _CATEGORIES[part]
    return _ALL & ~letters | _OTHERS if value[0][0] is parser.NEGATE else letters


def _trees_in(value: Any) -> Iterator[Any]:
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _trees_in(part)


def _in_python(pattern: str) -> str:
    """What ECMA's patterns write in another way than Python's."""
    named = re.sub(r"(\\.|)\(\?<([A-Za-z_])", r"\1(?P<\2", pattern)
    return re.sub(r"(\\\\|)\\[pP]\{[^}\\]{0,40}\}", r"\1\\w", named)
