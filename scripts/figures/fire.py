"""The table of docs/fire.md."""

from collections import Counter
from collections.abc import Iterator

from scripts.figures.parts import Result, command, machine, table

AT_ONCE = "requests in flight at a time"
# As the judge of tests/fire counts them: requests and what came of them, then events in between.
ROWS = {
    "traces": "traces",
    "requests": "requests",
    AT_ONCE: "of them in flight at a time, at most",
    "deterministic answers": "deterministic answers, each the one that it is alone",
    "tokens": "their tokens",
    "canonical_steps": "tokens by canonical steps",
    "verify_passes": "passes that verified a page",
    "rollbacks": "rollbacks",
    "tokens_rolled_back": "candidates rolled back",
    "retractions": "retractions",
    "claims confirmed": "right claims, confirmed",
    "claims refuted": "wrong claims, placed",
    "answers of several segments": "answers that weight updates have cut into segments",
    "segments, each as alone": "their segments, each what its weights give alone",
    "segments that cannot be asked for alone": "segments not judged: they need earlier output",
    "beginnings": "deterministic answers that were cut off, each the beginning of the right one",
    "beginnings that no receipt explains": "the same, left during an update: not judged",
    "ordinary answers": "ordinary answers",
    "refused, as alone": "requests refused, as they are alone",
    "turned away by a full queue": "requests that a full queue turned away",
    "ended with an error": "requests that an abort ended before they ran",
    "left without an answer": "requests whose clients left before anything came",
    "names that came twice": "names refused because they were under way",
    "abort": "aborts",
    "storm": "moments at which every second client hung up",
    "pause": "pauses: retracting, in place, aborting",
    "update": "weight updates, some to a folder that is not there",
    "flush": "flushes of the cache",
}


def soak(result: Result) -> Iterator[str]:
    """What `scripts/soak` counted."""
    yield f"    {command(result)}"
    yield ""
    hardware, servers = result["hardware"], result["servers"]
    wrong = [why for why in result["wrong"] if ".jsonl: " not in why]  # that names a history
    interrupted = " It was interrupted." if result.get("interrupted") else ""
    yield (
        f"The last run: {result['minutes']:.0f} minutes on {machine(hardware)}; torch "
        f"{hardware['torch']}, SGLang {hardware['sglang']}. Answers that differed, leaks, hangs: "
        f"**{'; '.join(wrong) or 'none'}**.{interrupted}"
    )
    yield ""
    rows = []
    for name, text in ROWS.items():
        counts = [of_server.get(name, 0) for of_server in servers.values()]
        in_all = max(counts) if name == AT_ONCE else sum(counts)
        if in_all:
            rows.append([text, *(f"{count:,}" for count in (*counts, in_all))])
    yield from table(("what", *servers, "in all"), rows)
    if kinds := sum(map(Counter, result.get("kinds", {}).values()), Counter()):
        yield ""
        shown = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
        yield f"The deterministic answers by kind: {shown}."


def fuzz(result: Result) -> Iterator[str]:
    """What `scripts/fuzz` counted: attack, how often, what happened."""
    counts, wrong = result["counts"], len(result["wrong"])
    yield f"    {command(result)}"
    yield ""
    yield (
        f"The last run: {result['minutes']:.0f} minutes on {machine(result['hardware'])}. "
        f"{counts['requests']:,} requests; the slowest answer took {counts['slowest_s']} s, and "
        f"the server grew by {counts['memory_grown_mib']} MiB at most. Of "
        f"{counts['deterministic answers']:,} deterministic answers "
        f"{counts[AGAIN]:,} were asked for again, alone. Answers that differed, 500s, hangs, "
        f"leaks: **{wrong or 'none'}**."
    )
    yield ""
    every = {**result["attacks"], **result["files"]}
    rows = [
        [name, f"{sum(ended.values()):,}", ", ".join(_ends(ended))]
        for name, ended in sorted(every.items())
    ]
    yield from table(("attack", "how often", "what happened"), rows)
    yield ""
    by_path = sorted(result["endpoints"].items())
    rows = [[f"`{path}`", f"{sum(e.values()):,}", ", ".join(_ends(e))] for path, e in by_path]
    yield from table(("endpoint", "requests", "statuses"), rows)


AGAIN = "deterministic answers, asked for again alone"


def _ends(counts: dict[str, int]) -> Iterator[str]:
    for what, count in sorted(counts.items()):
        yield f"{what}: {count:,}"
