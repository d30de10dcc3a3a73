"""Files of our commands with some bytes damaged: a right verdict, or a mistake in one line.

`scripts/fuzz` runs it for as long as it attacks a server; a short sample is in
tests/repro/test_damage.py. The server is a fake one.
"""

import contextlib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from llm42_sglang.cli.main import main
from llm42_sglang.errors import UserError
from llm42_sglang.repro.exchange import load_exchange
from llm42_sglang.repro.golden import load_golden
from tests.fire.draws import draws
from tests.repro.fake_endpoint import FakeEndpoint

# What a terminal or a browser would obey, and what a file system would.
HOSTILE = (
    *('"', "\\", "{", "[", "]", "}", ",", ":", "\n", "\x1b[2J", "\\u001b]0;x\\u0007", "\0"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "../../../tmp/x", "&a", "*a"),
    *("1e999", "-0", "9" * 400, "9" * 5000, "NaN", "null", "true", "[" * 400, '{"a":' * 400),
    *("\\ud800", "\u202e", "\u2028", "!!python/object:os.system", "%s%n", "{0.__class__}"),
)
NUMBER = re.compile(rb"-?\d+(\.\d+)?")


class Ended(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


@st.composite
def damaged(draw: Callable, content: bytes) -> bytes:
    """Some bytes are cut, changed, doubled or put in; or a number is another."""
    kind = draw(st.sampled_from(("cut off", "bytes", "text", "twice", "number", "empty", "bit")))
    at = draw(st.integers(0, max(0, len(content) - 1)))
    size = draw(st.integers(0, 40))
    if kind == "cut off":
        return content[:at]
    if kind == "bytes":
        return content[:at] + draw(st.binary(max_size=8)) + content[at + size :]
    if kind == "text":
        return content[:at] + draw(st.sampled_from(HOSTILE)).encode() + content[at + size :]
    if kind == "twice":
        return content[:at] + content[at : at + size] * 2 + content[at + size :]
    if kind == "number" and (number := NUMBER.search(content, at)):
        value = draw(st.sampled_from((b"-1", b"0", b"1e308", b"9" * 30, b"0.5", b'"x"', b"[]")))
        return content[: number.start()] + value + content[number.end() :]
    if kind == "bit":
        other = content[at] ^ (1 << draw(st.integers(0, 7)))
        return content[:at] + bytes([other]) + content[at + 1 :]
    return b""


class Server(FakeEndpoint):
    """Breaks off where a request makes no sense to it. A real one would answer 400."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: standard error is the command's."""


class Damager:
    """Runs commands on damaged copies of files, and counts.

    files: by kind, "suite", "golden", "receipt": the originals. url: of the server that wrote them.
    """

    def __init__(self, url: str, files: Mapping[str, Sequence[Path]], folder: Path):
        self.url, self.folder = url, folder
        self.by_attack: dict[str, Counter[str]] = defaultdict(Counter)
        self._originals = [(kind, one) for kind, paths in files.items() for one in paths]

    def fire(self, examples: int, number: int | None = None) -> None:
        """So many damaged files. number: the seed; None: always the same. Raises AssertionError."""

        @draws(examples, number)
        @given(st.data())
        def attack(data: st.DataObject) -> None:
            kind, path = data.draw(st.sampled_from(self._originals))
            self.judge(kind, path, data.draw(damaged(path.read_bytes())))

        attack()

    def judge(self, kind: str, original: Path, content: bytes) -> None:
        """Run the commands that read such a file. Raises AssertionError if one is wrong."""
        for one in self.folder.iterdir():
            one.unlink()
        path = self.folder / original.name
        path.write_bytes(content)
        for arguments in self._commands(kind, path):
            ended = run(*arguments)
            self.by_attack[f"a damaged {kind}"][MEANINGS[ended.status]] += 1
            said = f"{arguments[0]} of {content!r}: {ended}"
            assert ended.status in (0, 1, 2), said
            assert "\x1b" not in ended.out + ended.err and "Traceback" not in ended.err, said
            if ended.status == 2:
                *progress, line = ended.err.splitlines()
                assert line.startswith("llm42: error: ") and len(line) < 2000, said
                assert all(one.startswith("llm42: ") for one in progress), said
            elif kind in BOUND and ended.status == 0:
                assert BOUND[kind](path) == BOUND[kind](original), said
        assert {one.name for one in self.folder.iterdir()} <= {path.name, *RESULTS}, "left over"
        self._look_at_pages()

    def _commands(self, kind: str, path: Path) -> list[tuple[str, ...]]:
        url, out = ("--url", self.url), str(self.folder / "out.json")
        report, junit = (str(self.folder / name) for name in ("page.html", "junit.xml"))
        if kind == "suite":
            return [("record", str(path), *url, "--out", out)]
        if kind == "golden":
            pages = ("--report", report, "--junit", junit)
            return [("check", str(path), *url, "--conditions", "alone", *pages)]
        return [("replay", str(path), *url), ("verify", str(path), *url)]

    def _look_at_pages(self) -> None:
        """A page has no element that the file has brought along, and nothing a terminal obeys."""
        for name in RESULTS[1:]:
            page = self.folder / name
            text = page.read_text(encoding="utf-8").lower() if page.exists() else ""
            assert "<script>alert" not in text and "<img src=x" not in text and "\x1b" not in text


RESULTS = ("out.json", "page.html", "junit.xml")
MEANINGS = {0: "the right verdict: nothing that counts was damaged", 1: "failed, or not known"}
MEANINGS |= {2: "a mistake in one line"}


def run(*arguments: str) -> Ended:
    """A command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([*arguments])
        except SystemExit as left:
            return Ended(left.code, out.getvalue(), err.getvalue())
    raise AssertionError("main always exits")


def answers(path: Path) -> list:
    """What a golden file says that the answers are."""
    try:
        golden = load_golden(path)
    except UserError as error:
        return [str(error)]
    return [
        (name, json.loads(output.model_dump_json(include=FIELDS)))
        for block in golden.blocks
        for name, output in sorted(block.outputs.items())
    ]


def claimed(path: Path) -> list:
    """A receipt and its answer, without logprobs, which no hash has."""
    try:
        exchange, output = load_exchange(path)
    except UserError as error:
        return [str(error)]
    answer = json.loads(output.model_dump_json(include=FIELDS - {"logprobs"}))
    return [exchange.path, json.loads(output.receipt.model_dump_json()), answer]


FIELDS = {"text", "finish_reason", "ids", "tool_calls", "logprobs"}
BOUND = {"golden": answers, "receipt": claimed}  # what status 0 says to be as it was
