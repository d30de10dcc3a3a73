"""The golden file: what was asked, and what came back. It is JSON that a person can diff.

The answers are in blocks, one for each fingerprint, so that machines of several kinds can stand
side by side. Names are sorted, and cases keep the suite's order. It holds nothing that changes from
run to run, so recording the same suite on the same server again gives the same bytes.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.differences import Fingerprint, changes, digest_of
from llm42_sglang.repro.documents import Strict, read_document
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.suite import ORDERED, Case, Cases

# The facts that say what kind of machine it is. The others are about software and weights.
MACHINE = ("device", "threads")


class RecordedCase(Case):
    """A case with its recorded answer."""

    output: Output


class Block(Strict):
    """The answers under one fingerprint, by the ids of cases."""

    model: str  # as the endpoint names it
    fingerprint: Fingerprint | None = None  # None if the endpoint had none
    outputs: dict[str, Output] = Field(min_length=1)

    def distance(self, other: Fingerprint | None) -> tuple[bool, float]:
        """How far this block's fingerprint is from another: how many facts differ."""
        if self.fingerprint is None or other is None:
            return self.fingerprint is not other, math.inf
        changed = changes(self.fingerprint.facts, other.facts)
        return self.fingerprint.digest != other.digest, len(changed)


def _unique(blocks: list[Block]) -> list[Block]:
    digests = [digest_of(block.fingerprint) for block in blocks]
    for digest in digests:
        if digests.count(digest) > 1:
            raise ValueError(f"there are two blocks of fingerprint {digest}")
    return blocks


class GoldenFile(Strict):
    """The whole content of a golden file."""

    format: Literal["llm42-golden"] = "llm42-golden"
    version: Literal[2] = 2
    cases: Cases[Case]
    blocks: Annotated[list[Block], Field(min_length=1), AfterValidator(_unique)]

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        """Version 1 had one fingerprint, and each case its answer."""
        match content:
            case {"version": 1, "model": model, "cases": [*cases], **others} if all(
                isinstance(case, dict) and isinstance(case.get("id"), str) for case in cases
            ):
                block = {"model": model, "fingerprint": others.pop("fingerprint", None)}
                block["outputs"] = {case["id"]: case.get("output") for case in cases}
                asked = [{k: v for k, v in case.items() if k != "output"} for case in cases]
                return others | {"cases": asked, "blocks": [block]}
        return content

    @model_validator(mode="after")
    def _every_case_has_an_answer(self) -> "GoldenFile":
        asked = {case.id for case in self.cases}
        answered = {name for block in self.blocks for name in block.outputs}
        for name in sorted(asked - answered):
            raise ValueError(f"no block has an answer to case {name!r}")
        for name in sorted(answered - asked):
            raise ValueError(f"a block has an answer to {name!r}, and no case has that id")
        return self

    def selected(self, ids: Sequence[str], tags: Sequence[str] = ()) -> list[Case]:
        """The cases that have one of these ids or tags. If none is named, all cases.

        Raises UserError for an id or a tag that no case has.
        """
        known_ids = [case.id for case in self.cases]
        known_tags = list(dict.fromkeys(tag for case in self.cases for tag in case.tags))
        for kind, names, known in (("case", ids, known_ids), ("case with tag", tags, known_tags)):
            for unknown in (name for name in names if name not in known):
                choices = ", ".join(known) or "none"
                raise UserError(f"no {kind} {unknown!r}; there are {choices}")
        return [
            case
            for case in self.cases
            if not (ids or tags) or case.id in ids or not {*case.tags}.isdisjoint(tags)
        ]

    def of_fingerprint(self, fingerprint: Fingerprint | None) -> Block | None:
        """The block of this fingerprint, None if there is none."""
        digest = digest_of(fingerprint)
        return next((b for b in self.blocks if digest_of(b.fingerprint) == digest), None)

    def nearest(self, fingerprint: Fingerprint | None, case: Case | None = None) -> Block:
        """The block of this fingerprint, else the one of which the fewest facts differ.

        case: only blocks with an answer to this case of the file count.
        """
        blocks = [block for block in self.blocks if case is None or case.id in block.outputs]
        return min(blocks, key=lambda block: block.distance(fingerprint))

    def of_machine(self, fingerprint: Fingerprint | None) -> list[Block]:
        """The blocks of this kind of machine under other fingerprints: of other software, say."""
        if fingerprint is None:
            return []
        here = [fingerprint.facts.get(name) for name in MACHINE]
        return [
            block
            for block in self.blocks
            if block.fingerprint is not None
            and block.fingerprint.digest != fingerprint.digest
            and [block.fingerprint.facts.get(name) for name in MACHINE] == here
        ]

    def recorded(
        self, case: Case, fingerprint: Fingerprint | None
    ) -> tuple[RecordedCase, Fingerprint | None]:
        """A case of the file with the answer of the nearest block, and the fingerprint of that."""
        block = self.nearest(fingerprint, case)
        output = block.outputs[case.id]
        # In files of version 1 an answer may be older than the fingerprint.
        of_block = digest_of(block.fingerprint) == output.fingerprint
        return with_output(case, output), block.fingerprint if of_block else None

    def with_block(
        self, new: Block, cases: Sequence[Case], old: Sequence[Block] = ()
    ) -> "GoldenFile":
        """The file with these cases, and new answers to some of them.

        They join the answers of their fingerprint, or are a block of its own. The blocks `old` lose
        their answers to the same cases. Answers to what is asked no longer are left out.
        """
        before = {case.id: case for case in self.cases}
        same = {c.id for c in cases if c.id in before and c.asks_the_same(before[c.id])}
        own = self.of_fingerprint(new.fingerprint)
        place = own or next(iter(old), None)
        blocks: list[Block] = []
        for block in self.blocks:
            gone = new.outputs.keys() if block is own or block in old else set()
            kept = {k: v for k, v in block.outputs.items() if k in same and k not in gone}
            if block is place:
                joined = kept if block is own else {}
                blocks.append(new.model_copy(update={"outputs": joined | new.outputs}))
            if kept and block is not own:
                blocks.append(block.model_copy(update={"outputs": kept}))
        blocks += [] if place else [new]
        return GoldenFile(cases=list(cases), blocks=blocks)


def with_output(case: Case, output: Output) -> RecordedCase:
    """The case with an answer."""
    asked = {name: getattr(case, name) for name in Case.model_fields}
    return RecordedCase(**asked, output=output)


def load_golden(path: Path) -> GoldenFile:
    """Read a golden file. Raises UserError."""
    return read_document(GoldenFile, path)


def save_golden(golden: GoldenFile, path: Path) -> None:
    """Write a golden file, as a whole or not at all. Raises UserError."""
    write_whole(path, _layout(golden.model_dump(mode="json", exclude_none=True)) + "\n")


def _layout(value: Any, indent: str = "", name: str = "", ordered: bool = False) -> str:
    """JSON with sorted names, except where their order counts.

    Lists of ids and tokens are one line each, and texts have a line for each of theirs.
    """
    inner, ordered = indent + "  ", ordered or name in ORDERED
    if isinstance(value, dict) and value:
        start, end = "{}"
        names = value if ordered else sorted(value)
        parts = [f"{json.dumps(key)}: {_layout(value[key], inner, key, ordered)}" for key in names]
    elif isinstance(value, list) and (name == "text" or any(isinstance(v, dict) for v in value)):
        start, end = "[]"
        parts = [_layout(item, inner, "", ordered) for item in value]
    else:
        return json.dumps(value, ensure_ascii=False, sort_keys=not ordered)
    lines = ",\n".join(inner + part for part in parts)
    return f"{start}\n{lines}\n{indent}{end}" if parts else start + end
