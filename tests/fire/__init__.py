"""A real server under fire: timed traces of requests, faults, and attacks.

Traces, and a judge that knows the right answers (`scripts/soak`):

    requests   the requests that traces choose from: all kinds
    trace      what is sent, and when; kept as JSON
    seeded     a seed makes a trace
    servers    where traces are played
    alone      the right answers
    play       plays a trace, and writes its history as JSONL
    judge      a program of its own: PASSED, FAILED or UNKNOWN from a history alone
    answers    when an answer is right
    excuses    what may end a request early, at that time
    texts      what a text may be made of
    shrink     a trace that fails becomes a small one
    soak       many traces, one after the other
    kept/      traces that once failed

Faults, one at a time, each on a server of its own (`scripts/drill`):

    broken     a server that breaks at one place
    drill      one fault: what may come of it, and what has
    drills     all of them, and the command

Attacks (`scripts/fuzz`):

    attacks    requests with something wrong in them
    fuzz       sends them, and judges what comes back
    damage     damaged files, for the commands that read them
    fuzzing    both, and the command

The oracle is what the same request gets alone, bit for bit. The idea of timed traces is from GRIEF
(arXiv 2605.11202), which has logprobs of a replay in place of the oracle.
"""
