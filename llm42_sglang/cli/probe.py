"""`llm42 probe`: how far is an endpoint from deterministic?"""

import json
from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.cli.endpoints import ApiName, InFlight, Key, ModelName, Url
from llm42_sglang.cli.output import Out, Report, require_writable, say, table
from llm42_sglang.errors import UserError, judging
from llm42_sglang.files import write_whole
from llm42_sglang.repro import probe as probing
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.probe import COLUMNS, prompts, row_of, summary
from llm42_sglang.repro.prompts import PROMPTS
from llm42_sglang.repro.suite import load_suite

SuitePath = Annotated[
    Path | None, typer.Option("--suite", help="A suite to ask; default: built-in prompts.")
]
Count = Annotated[
    int, typer.Option("--prompts", min=1, max=len(PROMPTS), help="Number of built-in prompts.")
]
Tokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Tokens of each answer.")]
Repeats = Annotated[
    int, typer.Option("--repeats", min=1, help="Answers to each prompt, alone and in load each.")
]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="Ask for determinism; only llm42 serve knows it."),
]


@judging
def probe(
    url: Url,
    suite: SuitePath = None,
    count: Count = 4,
    tokens: Tokens = 96,
    repeats: Repeats = 3,
    in_flight: InFlight = 8,
    deterministic: Deterministic = False,
    out: Out = None,
    report: Report = None,
    api: ApiName = None,
    model: ModelName = None,
    api_key: Key = None,
) -> None:
    """Measure how non-deterministic an endpoint is: llm42 serve, stock SGLang, vLLM, a hosted API.

    Asks the same prompts for greedy answers, repeatedly alone and in load. The last line is JSON.
    Built-in prompts are sent as chat messages, or with --api native as texts to go on with.
    """
    cases = load_suite(suite).cases if suite else prompts(count, tokens, in_chat=api != "native")
    require_writable(out, report)
    with connect(url, api, model, api_key) as endpoint:
        if deterministic and not endpoint.ours:
            raise UserError(f"{url} is no llm42 server, so leave --deterministic out")
        answers = probing.probe(endpoint, cases, repeats, in_flight, deterministic, say)
    workload = {
        "url": url,
        "model": endpoint.model,
        "api": endpoint.api,
        "requests": "deterministic" if deterministic else "ordinary",
        "repeats": f"{repeats} alone, {repeats} in load",
        "in_flight": in_flight,
    }
    result = summary(answers)
    table("answers to the same prompts", COLUMNS, [row_of(prompt) for prompt in answers])
    line = json.dumps({"workload": workload, **result})
    if out is not None:
        write_whole(out, line + "\n")
    if report is not None:
        from llm42_sglang.report.probe import probe_page

        write_whole(report, probe_page(answers, result, workload))
    print(line)
