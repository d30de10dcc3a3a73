"""Tests of the simulator: that it counts right, and that it shows what is known."""
