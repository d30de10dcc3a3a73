"""The parts of `llm42 patch`.

- `diff`   applies unified diffs, with zero fuzz
- `wheel`  finds the patches, the sglang they go onto, and the state of its files
- `files`  replaces files, all or none
"""
