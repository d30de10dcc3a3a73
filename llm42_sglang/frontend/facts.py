"""What a server's fingerprint is made of, for clients that want to know why it has changed."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

FACTS_PATH = "/llm42/fingerprint"


def facts_response(fingerprint: str, facts: Mapping[str, Any], problem: str | None) -> JSONResponse:
    """`{"fingerprint", "facts"}`; 503 with the reason while there is a problem.

    The fingerprint is `core.receipts.fingerprint(facts)`: a client can check that.
    """
    if problem is not None:
        return JSONResponse({"error": {"message": f"llm42: {problem}"}}, status_code=503)
    return JSONResponse({"fingerprint": fingerprint, "facts": dict(facts)})
