"""Seeds: where those of samples come from, and how far the server's own ones reach."""

import pytest

from llm42_sglang.core import seeds
from llm42_sglang.core.seeds import fresh_seed, seed_of_sample

LEAST, MOST = -(2**63), 2**63 - 1


@pytest.mark.parametrize(
    ("seed", "index", "expected"),
    [
        (None, 0, 42),
        (None, 3, 45),
        (0, 0, 0),
        (7, 2, 9),
        (-5, 1, -4),
        (MOST, 0, MOST),
        (MOST, 1, LEAST),  # wrapped
        (LEAST, 0, LEAST),
        (LEAST, 5, LEAST + 5),
    ],
)
def test_the_seed_of_a_sample(seed: int | None, index: int, expected: int) -> None:
    assert seed_of_sample(seed, index) == expected


def test_a_fresh_seed_has_52_bits_of_the_systems_randomness(monkeypatch) -> None:
    """So the seeds of 4096 samples stay below 2**53, which doubles hold exactly."""
    asked = []
    monkeypatch.setattr(seeds.secrets, "randbits", lambda bits: asked.append(bits) or 5)
    assert fresh_seed() == 5 and asked == [52]
    assert seeds.FRESH == "fresh"
