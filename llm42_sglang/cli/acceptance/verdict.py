"""What a stage ends with."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Verdict(Enum):
    """UNKNOWN: it ran, and shows neither. A report with one has not passed."""

    PASSED = "passed"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Result:
    """One stage: what was found in a line, and all of it in JSON types."""

    stage: str
    verdict: Verdict
    finding: str
    data: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
