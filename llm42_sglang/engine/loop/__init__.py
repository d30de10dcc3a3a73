"""The scheduler's loop: admission, steps, verification, commits, output. See docs/loop.md."""
