"""Print what `pyproject.toml` asks for, one requirement a line: dependencies, then extra `dev`.

Usage: python scripts/_pins.py PYPROJECT. Standard library only: it runs before any set-up.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["dev"], sep="\n")
