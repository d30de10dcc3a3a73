"""What a scheduler process tells the front process with its answer to a weight update.

SGLang's answers have a flag and a message for the client, and nothing else. So the report is JSON
at the end of the message. The client sees it too.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

VERSION_MARK = "version:"  # of the fact `weights`, where a name is believed
_MARK = "llm42: "


class Report(NamedTuple):
    """The weights of a scheduler process after an update, whether or not it succeeded."""

    fingerprint: str
    weights: str  # the fact of that name
    weight_version: str  # the fact of that name
    problem: str | None = None  # why deterministic service is off

    def added_to(self, message: str) -> str:
        """Return the message with the report at its end. What looks like another one, as a path
        in an error may, is no report any more."""
        plain = message.replace(_MARK + "{", _MARK + "(")
        return f"{plain} {_MARK}{json.dumps(self._asdict())}"


def reports_in(message: str) -> Iterator[Report]:
    """Yield the reports in a message. SGLang joins the messages of several replicas into one."""
    decoder, at = json.JSONDecoder(), 0
    while (at := message.find(_MARK + "{", at)) >= 0:
        at += len(_MARK)
        try:
            fields: Any = decoder.raw_decode(message, at)[0]
            yield Report(**fields)
        except (ValueError, TypeError):
            continue  # not ours
