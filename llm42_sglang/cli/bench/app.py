"""The commands of `llm42 bench`."""

import typer

from llm42_sglang.cli.bench import latency, options, passes, throughput
from llm42_sglang.cli.launch import leave_on_signals

app = typer.Typer()


@app.callback()
def bench() -> None:
    """Measure what determinism costs on this machine."""
    leave_on_signals()


app.command("throughput", context_settings=options.CONTEXT)(throughput.throughput)
app.command("latency", context_settings=options.CONTEXT)(latency.latency)
app.command("passes", context_settings=options.CONTEXT)(passes.passes)
