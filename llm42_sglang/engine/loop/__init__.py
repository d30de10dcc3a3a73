"""The scheduler's loop: admission, decode steps, verification, commits, output. See docs/loop.md."""
