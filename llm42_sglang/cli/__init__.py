"""The command line: `llm42 serve | record | check | probe | ...`, and what scripts and tests share.

Modules here import SGLang, torch and transformers inside functions only, so that `llm42 --help` is
quick.
"""

import signal


def run() -> None:
    """Run the command `llm42`. Ctrl-C while its modules are imported ends it without a word."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:  # it is ignored in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from llm42_sglang.cli.main import main

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
