"""Options that several commands share."""

from typing import Annotated

import typer

Scale = Annotated[int, typer.Option(help="Upscaling factor.", min=1, max=16)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
PartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        help="Only part K of N of the files, such as 3/32, for job arrays; a file's part follows from its name.",
        metavar="K/N",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers do the work.",
        envvar="DASK_SCHEDULER_ADDRESS",
        metavar="ADDRESS",
    ),
]
