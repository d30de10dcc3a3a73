"""Where the protocol meets SGLang 0.5.23: the only folder that hooks it, seam by seam.

`seams` lists every SGLang symbol in use and why. `plugin` is the entry point. In the scheduler
process: `scheduler` (SGLang's loop, extended), `verifier` (who rides in a pass, what follows from
it), `lane` and `canonical` (pages into passes of certified shapes), `admission`, `request`,
`chooser`, `results`, `streamer`, `backends` (attention in canonical mode), and at the start
`certify`, `tune`, `fingerprint`. In the tokenizer and HTTP process: `tokenizer`, `openai_api`.
"""
