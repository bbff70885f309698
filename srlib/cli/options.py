"""Options that several commands share."""

from typing import Annotated

import typer

Scale = Annotated[int, typer.Option(help="Upscaling factor.", min=1, max=16)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
