"""`llm42 probe`: how far is any endpoint from deterministic?"""

import json
from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.cli.endpoints import ApiName, InFlight, Key, Model, Url
from llm42_sglang.cli.output import Page, require_writable, say, table
from llm42_sglang.errors import UserError, judging
from llm42_sglang.files import write_whole
from llm42_sglang.repro import probe as probing
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.probe import COLUMNS, prompts, row_of, summary
from llm42_sglang.repro.prompts import PROMPTS
from llm42_sglang.repro.suite import load_suite


@judging
def probe(
    url: Url,
    suite: Annotated[
        Path | None, typer.Option("--suite", help="Ask this; default: built-in prompts.")
    ] = None,
    count: Annotated[
        int, typer.Option("--prompts", min=1, max=len(PROMPTS), help="Of the built-in ones.")
    ] = 4,
    tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Of each answer.")] = 96,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Of each prompt, alone and in load each.")
    ] = 3,
    in_flight: InFlight = 8,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Ask for determinism; only llm42 serve knows it."),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the JSON here as well.")] = None,
    report: Page = None,
    api: ApiName = None,
    model: Model = None,
    api_key: Key = None,
) -> None:
    """Measure how non-deterministic an endpoint is: ours, stock SGLang, vLLM, a hosted API.

    Greedy answers to the same prompts, repeated alone and in load. JSON in the last line. The
    built-in prompts are sent as chat messages, with --api native as texts to go on with.
    """
    given = load_suite(suite).cases if suite else None
    require_writable(out, report)
    with connect(url, api, model, api_key) as endpoint:
        if deterministic and not endpoint.ours:
            raise UserError(f"{url} is no llm42 server: it knows no --deterministic")
        cases = given or prompts(count, tokens, in_chat=api != "native")
        probed = probing.probe(endpoint, cases, repeats, in_flight, deterministic, say)
    workload = {
        "url": url,
        "model": endpoint.model,
        "api": endpoint.api,
        "requests": "deterministic" if deterministic else "ordinary",
        "repeats": f"{repeats} alone, {repeats} in load",
        "in_flight": in_flight,
    }
    result = summary(probed)
    table("the same prompt, again and again", COLUMNS, [row_of(one) for one in probed])
    line = json.dumps({"workload": workload, **result})
    if out is not None:
        write_whole(out, line + "\n")
    if report is not None:
        from llm42_sglang.report.probe import probe_page

        write_whole(report, probe_page(probed, result, workload))
    print(line)
