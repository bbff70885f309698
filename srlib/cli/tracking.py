"""`srlib ui`."""

from typing import Annotated

import typer


def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> None:
    """Show the recorded runs in the MLflow UI, reachable from this machine only."""
    from srlib.tracking import serve_ui

    serve_ui(port)
