"""The options of all commands that ask a server which they did not start."""

from typing import Annotated, Literal

import typer

Url = Annotated[str, typer.Option("--url", help="Of the server: http://localhost:30000.")]
ApiName = Annotated[
    Literal["native", "openai"] | None,
    typer.Option("--api", help="Where prompts go; default: native if the server has it."),
]
Model = Annotated[
    str | None, typer.Option("--model", help="As the server names it; default: its first one.")
]
Key = Annotated[
    str | None,
    typer.Option("--api-key", envvar="LLM42_API_KEY", help="Sent as a bearer token."),
]
InFlight = Annotated[
    int, typer.Option("--in-flight", min=1, help="Requests under way at once, under load.")
]
