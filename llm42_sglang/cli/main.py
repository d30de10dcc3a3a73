"""The `llm42` command."""

import os
import sys
from contextlib import suppress

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
from llm42_sglang.cli.signals import leave_on_signals
from llm42_sglang.errors import TOO_DEEP, UserError, one_line, printable

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
app.add_typer(bench, name="bench")
app.command("serve", context_settings=serve.CONTEXT)(serve.serve)


@app.callback()
def root(context: typer.Context) -> None:
    """Deterministic LLM inference on stock SGLang by verified speculation."""
    if context.invoked_subcommand != "serve":  # SGLang has its own handlers
        leave_on_signals()


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit. The status is 0, unless the command exits with another.

    A `UserError` is one line on stderr and status 1; from a command that judges it is status 2. A
    wrong command line is one line and status 2. After Ctrl-C the status is 130. Where nobody reads
    the output any more it is 1.
    """
    status = _status(argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _unwritten(error)
    sys.exit(status)


def _status(argv: list[str] | None) -> int:
    try:
        return app(argv, standalone_mode=False) or 0
    except UserError as error:
        print(f"llm42: error: {printable(str(error))}", file=sys.stderr)
        return error.status
    except OSError as error:  # of the output: all that has to do with files is a UserError
        return _unwritten(error)
    except RecursionError:
        print(f"llm42: error: {TOO_DEEP}", file=sys.stderr)
        return 2  # in every command: 1 may be a verdict
    except TyperException as error:
        said = one_line(error.format_message())
        print(f"llm42: error: {said} (try: llm42 --help)", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130


def _unwritten(error: OSError) -> int:
    """What a command ends with that could not write its output, or a file that nobody checks."""
    if isinstance(error, BrokenPipeError):
        status = 1  # as click has it
    else:
        print(f"llm42: error: {one_line(str(error))}", file=sys.stderr)
        status = 2  # in every command: 1 may be a verdict
    with suppress(OSError, ValueError):  # else Python would try again at its end, and say so
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    main()
