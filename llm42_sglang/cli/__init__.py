"""Command line: `llm42 serve | doctor | patch | model`, and what scripts and tests share with it.

Modules here import SGLang, torch and transformers only inside functions: `llm42 --help` is quick.
"""
