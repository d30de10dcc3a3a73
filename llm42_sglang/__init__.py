"""Deterministic LLM inference on stock SGLang by verified speculation.

Reading order: `core` (the protocol, standard library only), `engine` (where it touches SGLang),
`sampling` (a token from a row), `frontend` (what a request may ask), `platform` (plain CPUs),
`repro`, `report` and `pytest_plugin` (checks in CI),
`cli`.
"""

__version__ = "0.3.0"
