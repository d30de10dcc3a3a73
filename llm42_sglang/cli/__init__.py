"""Command line: `llm42 serve | record | check | probe | ...`, and what scripts and tests share.

Modules here import SGLang, torch and transformers only inside functions: `llm42 --help` is quick.
"""
