"""Why a server does not start, or ends: each is one line, what is wrong and what to do."""


class EngineError(RuntimeError):
    """The server cannot be deterministic. The message is shown to the operator as it is."""


class UnsupportedError(EngineError):
    """What was asked for has no deterministic form; the message names the flag and the remedy."""


class SeamError(EngineError):
    """The installed SGLang is not the one that this plugin was written against."""


class CertificationError(EngineError):
    """The canonical pass is not canonical here; the message names the assumption."""


class RanksDisagreeError(EngineError):
    """The ranks are not at the same pass, or not in the same state."""
