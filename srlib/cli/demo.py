"""`srlib demo`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 for any free one.", min=0, max=65535)] = 7860,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Further model, given as for `srlib upscale`; repeat for each. The first is the default."),
    ] = None,
    models: Annotated[
        Path, typer.Option(help="Folder of models to choose from; it need not exist.", readable=False)
    ] = Path("models"),
) -> None:
    """Open a page on this machine to upscale images and films, compare and download (needs the extra demo)."""
    from srlib.demo.choices import model_choices
    from srlib.demo.page import require_gradio, serve

    require_gradio()
    serve(model_choices(models, model or ()), port=port, report=typer.echo)
