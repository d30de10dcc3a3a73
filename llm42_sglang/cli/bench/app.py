"""The commands of `llm42 bench`."""

import typer

from llm42_sglang.cli.bench import (
    beside,
    divergence,
    invariance,
    latency,
    options,
    passes,
    throughput,
)
from llm42_sglang.cli.launch import leave_on_signals

app = typer.Typer()


@app.callback()
def bench() -> None:
    """Measure this machine: cost of determinism, and what it cures."""
    leave_on_signals()


app.command("throughput", context_settings=options.CONTEXT)(throughput.throughput)
app.command("latency", context_settings=options.CONTEXT)(latency.latency)
app.command("beside", context_settings=options.CONTEXT)(beside.beside)
app.command("divergence", context_settings=options.CONTEXT)(divergence.divergence)
app.command("passes", context_settings=options.CONTEXT)(passes.passes)
app.command("invariance")(invariance.invariance)
