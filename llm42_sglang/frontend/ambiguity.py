"""How many ways a grammar leaves open at once, estimated from its text.

A way is one reading of the text so far. The grammar backend follows all open ways at every token,
so their number decides what a token costs.

In "[a-z]{1,20} " the next letter shows whether the repeat has ended, so one way is open. In
"a?a?a?" what follows a repeat may begin with the same letter, so all ways stay open.
"""

import math
import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from re import _parser as parser
from typing import Any

Letters = int  # a set of letters: bit i for the letter of code i, bit 128 for all others
_OTHERS = 1 << 128
_ALL = (1 << 129) - 1
_REPEATS = (parser.MAX_REPEAT, parser.MIN_REPEAT, parser.POSSESSIVE_REPEAT)
_LETTERS = (parser.LITERAL, parser.NOT_LITERAL, parser.ANY, parser.IN)
# Measured on a vocabulary of 49,152: 64 ambiguous repeats of one letter take less than 10 ms a
# token, 12 of many letters about 0.1 s. A repeat of more than one letter costs more with its count.
_MANY_LETTERS = 10  # from so many letters on a repeat counts _MANY_WEIGHT times
_MANY_WEIGHT = 5
_MAX_LONG_WEIGHT = 40
_MAX_ROUNDS = 16
# A token that is not closed goes on to the end of the text, so that nothing is read twice.
_EBNF = re.compile(
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
    """What a regular expression costs.

    ways: the number of repeats whose end is ambiguous, each with a weight.
    nested: the largest product of the counts of repeats inside each other.
    """

    def __init__(self, pattern: str):
        """Raises re.error, RecursionError or OverflowError if Python's `re` cannot read it."""
        self.ways = 0
        self.nested = 1
        self._beginnings: dict[int, tuple[Letters, bool]] = {}  # by id of the tree
        self._tree = parser.parse(_in_python(pattern))
        self._first(self._tree, 0, 1)

    def _first(self, tree: Any, follow: Letters, times: int) -> Letters:
        """Return the letters that may come first in `tree` and what follows it; count ways in it.

        follow: the letters that may follow `tree`. times: how often `tree` may be repeated.
        """
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
        beginning, _ = self._beginning(inner)
        one_letter = len(inner) == 1 and inner[0][0] in _LETTERS
        shared_letters = beginning & follow
        if least != most and shared_letters:
            many = shared_letters.bit_count() >= _MANY_LETTERS and not (endless and one_letter)
            weight = _MANY_WEIGHT if many else 1
            self.ways += times * weight * (1 if one_letter else min(count, _MAX_LONG_WEIGHT))
        if times > 1:
            self.nested = max(self.nested, times * count)
        inner_follow = follow | beginning if most > 1 else follow
        first = self._first(inner, inner_follow, times * count)
        return first | follow if least == 0 else first

    def _beginning(self, tree: Any) -> tuple[Letters, bool]:
        """Return the letters that `tree` may begin with, and whether it may be empty."""
        if id(tree) not in self._beginnings:
            self._beginnings[id(tree)] = self._beginning_of(tree)
        return self._beginnings[id(tree)]

    def _beginning_of(self, tree: Any) -> tuple[Letters, bool]:
        letters: Letters = 0
        for token, value in tree:
            if token in _LETTERS:
                return letters | _letters(token, value), False
            if parts := [self._beginning(part) for part in _trees_in(value)]:
                letters |= reduce(or_, [beginning for beginning, _ in parts])
                empty = any(empty for _, empty in parts)
                if not empty and not (token in _REPEATS and value[0] == 0):
                    return letters, False
        return letters, True


def ways_of_ebnf(grammar: str) -> float:
    """Return a measure of the ways that an EBNF grammar leaves open.

    A run is a number of items in a row that may all be left out. The measure is the sum of the
    squares of the lengths of all runs; infinite if the rules are nested too deeply to tell.
    """
    rules = _rules_of(grammar)
    optional: set[str] = set()
    for _ in range(_MAX_ROUNDS):  # a rule may be empty because the rules that it names may be
        known_count = len(optional)
        optional.update(name for name, body in rules.items() if _runs(body, optional)[1])
        if len(optional) == known_count:
            return sum(_runs(body, optional)[0] for body in rules.values())
    return math.inf


def repeats_of_ebnf(grammar: str) -> int:
    """Return the largest count that repeats inside each other may come to in an EBNF grammar.

    A rule may repeat another one, so the counts of all repeats are multiplied. Of those that repeat
    letters alone, only the largest is.
    """
    largest_of_letters = product = 1
    before = ""  # the token before
    for token in _EBNF.findall(grammar):
        if token[0] == "{":
            count = max(map(int, re.findall(r"\d{1,9}", token)), default=1)
            if before[-1:] in ("]", '"'):  # letters, which have no repeats inside
                largest_of_letters = max(largest_of_letters, count)
            else:
                product *= max(count, 1)
        before = token
    return largest_of_letters * product


def _rules_of(grammar: str) -> dict[str, list[str]]:
    """Return the tokens of each rule, by the name of the rule."""
    rules: dict[str, list[str]] = {}
    body: list[str] = []
    tokens = [token for token in _EBNF.findall(grammar) if token[0] != "#"]
    for token, next_token in zip(tokens, [*tokens, ""][1:], strict=True):
        if next_token == "::=":
            body = rules.setdefault(token, [])
        elif token != "::=":
            body.append(token)
    return rules


def _runs(tokens: list[str], optional: set[str]) -> tuple[int, bool]:
    """Return the sum of squares of the runs in a rule, and whether the rule may be empty.

    optional: the rules that may be empty.
    """
    total, run = 0, 0
    # Whether this alternative may be empty so far, and whether one before it may be.
    empty, empty_before = True, False
    outer: list[tuple[int, bool, bool]] = []  # run, empty and empty_before, for each open bracket
    for token, sign in zip(tokens, [*tokens, ""][1:], strict=True):
        if token == "(":
            outer.append((run, empty, empty_before))
            run, empty, empty_before = 0, True, False
            continue
        if token in "?*+" or token[0] == "{":
            continue
        if token == "|":
            total, run = total + run * run, 0
            empty, empty_before = True, empty_before or empty
            continue
        skipped = sign in ("?", "*") or sign.startswith(("{0", "{,", "{ "))
        if token == ")":
            skipped |= empty or empty_before
            total += run * run
            run, empty, empty_before = outer.pop() if outer else (0, True, False)
        skipped |= token in optional or token == '""'
        total, run = (total, run + 1) if skipped else (total + run * run, 0)
        empty &= skipped
    return total + run * run, empty or empty_before


def _letters(token: Any, value: Any) -> Letters:
    """Return the letters that one item of a parsed pattern matches."""
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
    """Yield the parsed patterns inside an item of one."""
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _trees_in(part)


def _in_python(pattern: str) -> str:
    """Rewrite what ECMAScript's patterns spell in another way than Python's."""
    with_names = re.sub(r"(\\.|)\(\?<([A-Za-z_])", r"\1(?P<\2", pattern)
    return re.sub(r"(\\\\|)\\[pP]\{[^}\\]{0,40}\}", r"\1\\w", with_names)
