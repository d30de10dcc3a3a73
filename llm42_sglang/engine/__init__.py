"""Where the protocol meets SGLang 0.5.23: the only folder that hooks it, seam by seam.

`seams` lists every SGLang symbol in use and why. `plugin` is the entry point. In the scheduler
process: `scheduler` (SGLang's loop, extended), `verifier` (who rides in a pass, what follows from
it), `lane` and `canonical` (pages into passes of certified shapes), `graphs` and `backends` (CUDA
graphs, and attention in canonical mode), `admission`, `request`, `chooser`, `results`, `streamer`,
and at the start `certify`, `fingerprint`; `ranks` and `replicas` where there are several.
In the tokenizer and HTTP process: `gatekeeper`, `openai_api`.
"""
