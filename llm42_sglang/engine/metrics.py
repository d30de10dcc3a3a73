"""`llm42_*` Prometheus metrics. SGLang serves them beside its own with `--enable-metrics`.

In SGLang's multiprocess mode every process writes its own file, and whoever reads /metrics adds
them up.
"""

from collections.abc import Callable, Mapping
from typing import Any

WAIT_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64)  # decode steps


class _Nothing:
    """A metric that nobody reads."""

    def inc(self, amount: float = 1) -> None:
        pass

    observe = inc


_NOTHING = _Nothing()


class LaneMetrics:
    """What one scheduler's canonical lane does."""

    def __init__(self, labels: Mapping[str, str], enabled: bool = True):
        if not enabled:  # prometheus_client would look for the folder of the multiprocess mode
            self._prefilled = self._verified = self._audited = self._passes = self._empty = _NOTHING
            self._candidates = self._committed = self._dropped = self._rollbacks = _NOTHING
            self._audit_failures = self._waited = _NOTHING
            return
        # Imported late: SGLang chooses the folder of the multiprocess mode first.
        from prometheus_client import CollectorRegistry, Counter, Histogram

        registry = CollectorRegistry()
        names = tuple(labels)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"llm42_{name}", text, names, registry=registry).labels(**labels)

        pages = Counter("llm42_pages", "Pages run in passes", (*names, "kind"), registry=registry)
        self._prefilled = pages.labels(**labels, kind="prefill")
        self._verified = pages.labels(**labels, kind="verify")
        self._audited = pages.labels(**labels, kind="audit")
        self._passes = counter("passes", "Canonical passes")
        self._empty = counter("empty_slots", "Slots that passes ran without a page")
        self._candidates = counter("candidates", "Decoded tokens that a pass has judged")
        self._committed = counter("committed_tokens", "Tokens that verification has committed")
        self._dropped = counter("rolled_back_tokens", "Candidates that verification has dropped")
        self._rollbacks = counter("rollbacks", "Verifications that dropped candidates")
        self._audit_failures = counter("audit_failures", "Audited pages that came out otherwise")
        self._waited = Histogram(
            "llm42_wait_steps",
            "Decode steps that a due page has waited for its pass",
            names,
            registry=registry,
            buckets=WAIT_BUCKETS,
        ).labels(**labels)

    def passed(self, width: int, pages: int) -> None:
        """A pass of `width` slots has run `pages` pages."""
        self._passes.inc()
        self._empty.inc(width - pages)

    def prefilled(self, pages: int) -> None:
        """Pages of prompts have run."""
        self._prefilled.inc(pages)

    def verified(self, waited: int, judged: int, committed: int, dropped: int) -> None:
        """A due page has been verified after so many decode steps: so many candidates were judged,
        tokens committed, candidates dropped."""
        self._verified.inc()
        self._waited.observe(waited)
        self._candidates.inc(judged)
        self._committed.inc(committed)
        self._dropped.inc(dropped)
        self._rollbacks.inc(dropped > 0)

    def audited(self, equal: bool) -> None:
        """A committed page was run again."""
        self._audited.inc()
        self._audit_failures.inc(not equal)


class RefusalMetrics:
    """What the process that receives requests refuses."""

    def __init__(self, enabled: Callable[[], bool] = lambda: True) -> None:
        self._enabled = enabled
        self._refused: Any = None

    def refused(self, status: int) -> None:
        """A request was refused with this HTTP status."""
        if not self._enabled():
            return
        if self._refused is None:  # not before SGLang has chosen the folder
            from prometheus_client import CollectorRegistry, Counter

            text = "Requests that were refused for what they asked beside determinism"
            self._refused = Counter(
                "llm42_refused_requests", text, ("status",), registry=CollectorRegistry()
            )
        self._refused.labels(status=str(status)).inc()
