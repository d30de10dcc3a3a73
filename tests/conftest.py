"""For all tests."""

import os

# Threads of a parallel loop that wait give their core away. Several processes share the cores
# here, and one that spins can take ten times as long. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
