"""The sample project is run in a subprocess, in a copy."""

collect_ignore = ["sample"]
