"""What `llm42 patch` does: `series` (what to apply), `diff` (zero fuzz), `wheel` (what is there),
`files` (all or nothing). Standard library only.
"""
