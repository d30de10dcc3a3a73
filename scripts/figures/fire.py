"""The table of docs/fire.md."""

from collections.abc import Iterator

from scripts.figures.parts import Result, command, machine, table

# As the judge of tests/fire counts them: requests and what came of them, then events in between.
ROWS = {
    "traces": "traces",
    "requests": "requests",
    "deterministic answers": "deterministic answers, each the one that it is alone",
    "tokens": "their tokens",
    "canonical_steps": "tokens by canonical steps",
    "verify_passes": "passes that verified a page",
    "rollbacks": "rollbacks",
    "tokens_rolled_back": "candidates rolled back",
    "retractions": "retractions",
    "claims confirmed": "right claims, confirmed",
    "claims refuted": "wrong claims, placed",
    "ordinary answers": "ordinary answers",
    "beginnings": "deterministic answers that were cut off, each the beginning of the right one",
    "names that came twice": "names refused because they were under way",
    "abort": "aborts",
    "pause": "pauses: retracting, in place, aborting",
    "flush": "flushes of the cache",
}


def soak(result: Result) -> Iterator[str]:
    """What `scripts/soak` counted."""
    yield f"    {command(result)}"
    yield ""
    hardware, servers = result["hardware"], result["servers"]
    wrong = len(result["wrong"])
    yield (
        f"The last run: {result['minutes']:.0f} minutes on {machine(hardware)}; torch "
        f"{hardware['torch']}, SGLang {hardware['sglang']}. Answers that differed, leaks, hangs: "
        f"**{wrong or 'none'}**."
    )
    yield ""
    rows = []
    for name, text in ROWS.items():
        counts = [of_server.get(name, 0) for of_server in servers.values()]
        rows.append([text, *(f"{count:,}" for count in (*counts, sum(counts)))])
    yield from table(("what", *servers, "in all"), rows)
