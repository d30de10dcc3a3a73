"""Print the README's table of backends."""

from llm42_sglang.engine.backends import table

print(table())
