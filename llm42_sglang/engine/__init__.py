"""Where the protocol meets SGLang 0.5.23. This is the only folder that hooks it.

    plugin, scheduler  put the folders below together, in each process
    front              the HTTP and tokenizer process
    start              flags, limits, certification, the fingerprint
    loop               the scheduler's loop: admission, decode steps, verification, commits
    passes             canonical passes, and attention backends in canonical mode
    seams              every symbol of SGLang that is relied upon, and why

docs/loop.md follows a verification pass and a canonical step through it.
"""
