"""Deterministic LLM inference on stock SGLang by verified speculation.

Read the packages in this order:

1. `core`      the protocol, in pure Python
2. `engine`    where the protocol meets SGLang
3. `sampling`  how a token is drawn from a row of logits
4. `frontend`  what a request may ask for
5. `platform`  SGLang on hosts without an accelerator
6. `repro`, `report` and `pytest_plugin`  checks in CI
7. `cli`       the command `llm42`
"""

__version__ = "0.3.0"
