"""Deterministic LLM inference on stock SGLang by verified speculation.

Reading order: `core` (the protocol, standard library only), `engine` (where it touches SGLang),
`frontend` (what a request may ask), `platform` (plain CPUs), `cli`.
"""

__version__ = "0.1.0"
