"""What a server says that cannot be deterministic as asked."""


class UnsupportedError(ValueError):
    """The server cannot be started in this mode; the message names the flag and the remedy."""
