"""What `llm42 patch` does: `diff` (zero fuzz), `wheel` (which state), `files` (all or nothing)."""
