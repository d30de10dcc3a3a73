"""Where the protocol meets SGLang 0.5.23: the only folder that hooks it, seam by seam.

`seams` lists every SGLang symbol in use and why. `plugin` is the entry point. In the scheduler
process: `scheduler` (verify between decode steps), `request`, `admission`, `results`, `streamer`,
`lane` and `canonical` (the fixed-shape forward), `certify`, `fingerprint`. In the tokenizer and
HTTP process: `tokenizer`.
"""
