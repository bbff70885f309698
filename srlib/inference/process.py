"""Run a module of srlib in a process of its own."""

import os
import subprocess
import sys


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module in a new process and return how it ended, with what it printed.

    It imports from where this process does, and nothing else: `python -m` alone looks into the working folder first,
    and would run the `onnx.py` or `torch.py` that lies beside a downloaded model.

    Args:
        name: Name of the module.
        arguments: What it finds in `sys.argv`.
    """
    places = os.pathsep.join(place or os.getcwd() for place in sys.path)
    environment = {**os.environ, "PYTHONPATH": places, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-P", "-m", name, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)
