"""MLflow: one run for each stage that really executes, under one parent for each execution of the pipeline.

Nothing here changes the bytes of an output.
"""

from srlib.tracking.registry import SetScores, Verdict
from srlib.tracking.run import TrackedRun, tracked_run
from srlib.tracking.store import Store, connect, serve_ui

__all__ = ["SetScores", "Store", "TrackedRun", "Verdict", "connect", "serve_ui", "tracked_run"]
