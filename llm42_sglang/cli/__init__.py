"""The command line: `llm42 serve | record | check | probe | ...`, and what scripts and tests share.

Modules here import SGLang, torch and transformers inside functions only, so that `llm42 --help` is
quick.
"""
