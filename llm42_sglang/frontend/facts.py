"""What a server's fingerprint is made of, and what was certified at its start, for clients."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

FACTS_PATH = "/llm42/fingerprint"


def facts_response(proof: Mapping[str, Any], problem: str | None) -> JSONResponse:
    """`{"fingerprint", "facts", "certificate"}`; 503 with the reason while there is a problem.

    The fingerprint is `core.receipts.fingerprint(facts)`: a client can check that. The certificate
    is what was measured at this start (`engine.certify.Certificate`), and no part of the hash.
    """
    if problem is not None:
        return JSONResponse({"error": {"message": f"llm42: {problem}"}}, status_code=503)
    return JSONResponse(dict(proof))
