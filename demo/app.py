"""The page of `srlib demo` for a hosted Space, with limits for a small machine that many people share."""

import os
from pathlib import Path

from srlib.demo.choices import model_choices
from srlib.demo.page import serve
from srlib.demo.work import Limits

if __name__ == "__main__":
    serve(
        model_choices(Path("models")),
        host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),  # a Space sets both
        port=int(os.environ.get("GRADIO_SERVER_PORT", "0")),
        limits=Limits(megapixels=2, megabytes=50, seconds=5),
    )
