"""Many numbers in few words."""

import pytest

from llm42_sglang.core.ranges import ranges


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([7], "7"),
        ([1, 2], "1-2"),
        ([2, 3, 4, 5, 9, 12, 13], "2-5, 9, 12-13"),
        ([-1, 0, 1], "-1-1"),
        ([1, 3, 5], "1, 3, 5"),
    ],
)
def test_runs_are_shortened(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
