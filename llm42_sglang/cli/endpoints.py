"""Options of the commands that send requests to a server that is running already."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Url = Annotated[str, typer.Option("--url", help="The server, such as http://localhost:30000.")]
ApiName = Annotated[
    Literal["native", "openai"] | None,
    typer.Option("--api", help="The API to send prompts to; default: native if there is one."),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="The server's name of the model; default: its first one."),
]
Key = Annotated[
    str | None,
    typer.Option("--api-key", envvar="LLM42_API_KEY", help="The API key, sent as a bearer token."),
]
InFlight = Annotated[
    int, typer.Option("--in-flight", min=1, help="Requests under way at once, in load.")
]
SavedAnswer = Annotated[
    Path, typer.Argument(help='JSON {"request": ..., "response": ...}, or from record --receipts.')
]
SignedWith = Annotated[
    str | None,
    typer.Option(
        "--public-key", help="The key that it must be signed with; default: the server's own."
    ),
]
