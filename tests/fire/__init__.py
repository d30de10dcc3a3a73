"""Timed traces of requests against a real server, and a judge that knows the right answers.

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

The oracle is what the same request gets alone, bit for bit. The idea of timed traces is from GRIEF
(arXiv 2605.11202), which has logprobs of a replay in place of the oracle.
"""
