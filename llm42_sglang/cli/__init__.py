"""The command line: `llm42 serve | record | check | probe | ...`, and what scripts and tests share.

Modules here import SGLang, torch and transformers inside functions only, so that `llm42 --help` is
quick.
"""

import signal


def run() -> None:
    """Run the command `llm42`. Ctrl-C while its modules are imported ends it without a word."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not ignored, as in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from llm42_sglang.cli.main import main

    signal.signal(signal.SIGINT, before)
    main()
