"""The `llm42` command."""

import sys

import typer
from typer.exceptions import TyperException

from llm42_sglang.cli import (
    certify,
    check,
    doctor,
    key,
    model,
    patch,
    probe,
    record,
    replay,
    serve,
    verify,
)
from llm42_sglang.cli.bench import drafts, latency, options, passes, throughput
from llm42_sglang.cli.launch import leave_on_signals
from llm42_sglang.errors import UserError, printable

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("model")(model.model)
app.command("doctor")(doctor.doctor)
app.add_typer(patch.app, name="patch")
app.command("record")(record.record)
app.command("check")(check.check)
app.command("certify", context_settings=serve.CONTEXT)(certify.certify)
app.command("replay")(replay.replay)
app.command("verify")(verify.verify)
app.command("key")(key.key)
app.command("probe")(probe.probe)
bench = typer.Typer(help="Measure what determinism costs on this machine.")
for command in (throughput.throughput, latency.latency, passes.passes, drafts.drafts):
    bench.command(context_settings=options.CONTEXT)(command)
app.add_typer(bench, name="bench", callback=leave_on_signals)
app.command("serve", context_settings=serve.CONTEXT)(serve.serve)


@app.callback()
def root() -> None:
    """Deterministic LLM inference on stock SGLang by verified speculation."""


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit. The status is 0, unless the command exits with another.

    A `UserError` is one line on stderr and status 1; from a command that judges it is status 2. A
    wrong command line is one line and status 2. After Ctrl-C the status is 130.
    """
    sys.exit(_status(argv))


def _status(argv: list[str] | None) -> int:
    try:
        return app(argv, standalone_mode=False) or 0
    except UserError as error:
        print(f"llm42: error: {printable(str(error))}", file=sys.stderr)
        return error.status
    except TyperException as error:
        print(f"llm42: error: {error.format_message()} (try: llm42 --help)", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130


if __name__ == "__main__":
    main()
