"""docs/receipts.md names every field, and its examples are right."""

import json
import re
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from llm42_sglang.core.encoding import encoded
from tests.core import vectors

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "receipts.md").read_text()
RECEIPTS = json.loads((DOCS / "receipts" / "vectors.json").read_text())["receipts"]


def names_in(heading: str) -> set[str]:
    """What the first column of a table names."""
    table = PAGE.partition(heading)[2].partition("\n\n")[0]
    firsts = [line.split(" | ")[0] for line in table.splitlines()]
    return {name for first in firsts for name in re.findall(r"`(\w+)`", first)}


def test_every_field_of_a_receipt_and_of_sampling_is_told():
    for vector in RECEIPTS.values():
        assert names_in("| field | type |") == set(vector["receipt"])
        assert names_in("| in `sampling` |") == set(vector["receipt"]["sampling"])


def test_the_example_of_bytes_is_right():
    example = PAGE.partition('`{"a": [0.5]}` is, in hex,')[2].partition("\n- ")[0]
    hexes = re.findall(r"`([0-9a-f ]+)`", example)[0]
    assert bytes.fromhex(hexes) == encoded({"a": [0.5]})


def test_its_lines_check_a_signature_and_refuse_another():
    code = PAGE.partition("```python\n")[2].partition("```")[0]
    names: dict = {}
    exec(code, names)
    public = vectors.public_key()
    receipt = RECEIPTS["sampled"]["receipt"]
    names["check_signature"](receipt, public)
    forged = receipt | {"receipt_digest": RECEIPTS["greedy"]["receipt"]["receipt_digest"]}
    with pytest.raises(InvalidSignature):
        names["check_signature"](forged, public)
