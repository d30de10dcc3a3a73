"""The `llm42_*` Prometheus metrics. With `--enable-metrics` SGLang serves them beside its own.

In SGLang's multiprocess mode every process writes a file of its own, and /metrics shows the sums.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

WAIT_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64)  # decode steps


class _Nowhere:
    """Takes the place of metrics that are not enabled, without prometheus_client."""

    def counter(self, *described: Any, **more: str) -> Any:
        return self

    def inc(self, amount: float = 1) -> None:
        pass

    histogram, observe = counter, inc


class _Registry:
    """Makes metrics that all have the same labels."""

    def __init__(self, labels: Mapping[str, str]):
        # Imported here, because SGLang must choose the folder of the multiprocess mode first.
        import prometheus_client

        self._client = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        self._labels = dict(labels)
        self._counters: dict[str, Any] = {}

    def counter(self, name: str, text: str, **more: str) -> Any:
        """Return the counter of this name. more: further labels, with their values."""
        labels = self._labels | more
        if name not in self._counters:
            self._counters[name] = self._client.Counter(
                f"llm42_{name}", text, tuple(labels), registry=self._registry
            )
        return self._counters[name].labels(**labels)

    def histogram(self, name: str, text: str, buckets: Sequence[float]) -> Any:
        labels = tuple(self._labels)
        return self._client.Histogram(
            f"llm42_{name}", text, labels, registry=self._registry, buckets=buckets
        ).labels(**self._labels)


class LaneMetrics:
    """Counts the canonical passes and steps of one scheduler."""

    def __init__(self, labels: Mapping[str, str], enabled: bool = True):
        make = _Registry(labels) if enabled else _Nowhere()
        pages = partial(make.counter, "pages", "Pages run in passes")
        self._prefilled = pages(kind="prefill")
        self._verified = pages(kind="verify")
        self._audited = pages(kind="audit")
        self._passes = make.counter("passes", "Canonical passes")
        self._empty = make.counter("empty_slots", "Slots that passes ran without a page")
        self._stepped = make.counter("canonical_tokens", "Tokens that canonical steps committed")
        self._candidates = make.counter("candidates", "Decoded tokens that a pass has judged")
        self._committed = make.counter("committed_tokens", "Tokens that verification has committed")
        self._dropped = make.counter(
            "rolled_back_tokens", "Candidates that verification has dropped"
        )
        self._rollbacks = make.counter("rollbacks", "Verifications that dropped candidates")
        self._drafted = make.counter("drafted_tokens", "Candidates that drafts have proposed")
        self._accepted = make.counter("accepted_tokens", "Those of them that were committed")
        self._audit_failures = make.counter(
            "audit_failures", "Audited pages that came out otherwise"
        )
        self._waited = make.histogram(
            "wait_steps", "Decode steps that a due page has waited for its pass", WAIT_BUCKETS
        )

    def passed(self, width: int, pages: int) -> None:
        """A pass of `width` slots has run `pages` pages."""
        self._passes.inc()
        self._empty.inc(width - pages)

    def stepped(self) -> None:
        """A canonical step has committed a token."""
        self._stepped.inc()

    def prefilled(self, pages: int) -> None:
        """Pages of prompts have run."""
        self._prefilled.inc(pages)

    def verified(self, waited: int, judged: int, committed: int, dropped: int) -> None:
        """A due page has been verified.

        waited: decode steps since it became due. judged, dropped: candidates. committed: tokens.
        """
        self._verified.inc()
        self._waited.observe(waited)
        self._candidates.inc(judged)
        self._committed.inc(committed)
        self._dropped.inc(dropped)
        self._rollbacks.inc(dropped > 0)

    def drafted(self, tokens: int, accepted: int) -> None:
        """A draft of so many tokens has been verified, and so many were right."""
        self._drafted.inc(tokens)
        self._accepted.inc(accepted)

    def audited(self, equal: bool) -> None:
        """The audit has run a committed page again. equal: with the same bits."""
        self._audited.inc()
        self._audit_failures.inc(not equal)


class RefusalMetrics:
    """Counts the requests that are refused, in the process that receives them."""

    def __init__(self, enabled: Callable[[], bool] = lambda: True) -> None:
        self._enabled = enabled
        self._registry: _Registry | None = None

    def refused(self, status: int) -> None:
        """A request was refused with this HTTP status."""
        if self._enabled():
            # Made at the first refusal: by then SGLang has chosen the folder.
            self._registry = self._registry or _Registry({})
            text = "Requests that were refused for what they asked beside determinism"
            self._registry.counter("refused_requests", text, status=str(status)).inc()
