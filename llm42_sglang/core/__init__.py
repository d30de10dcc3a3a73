"""The protocol, in pure Python: no SGLang, no torch, no I/O.

What happens to a deterministic request, and where it is written:

    its prompt is prefilled in canonical passes, page by page      `pages`, `packing`
    it decodes in SGLang's ordinary batch                          `track`: Stepped, Proposed
    its due page is verified in a canonical pass, when that pays   `policy`
    tokens that agree are committed, the others are rolled back    `verdict`, `track`: Verified
    ordinary requests are served in between                        `fairness`
    its answer carries a receipt                                   `receipts`
    an answer that somebody claims is checked, not generated       `claim`

Read the files in this order; it takes ten minutes in all:

1. `pages`    positions, pages and spans
2. `verdict`  what a canonical pass decides about the candidates
3. `track`    the state of one request, its events, and the actions that follow from them
4. `packing`  how pages are divided among passes
5. `policy`   when a canonical pass runs, and which due requests it verifies
6. `fairness` how long an ordinary request may have to wait for deterministic ones
7. `claim`    how far an output that a client claims is right
8. `receipts` what a deterministic response carries, and `encoding`, the bytes that are hashed
9. `seeds`    of requests that name none, and of samples
10. `config`   the settings: T, G and how long pages may wait

The words are those of docs/concepts.md: page, slot, candidate, committed, canonical pass, rollback.
"""
