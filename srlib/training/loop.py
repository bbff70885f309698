"""The training loop, for pre-training and the SRGAN alike."""

from collections.abc import Sequence
from pathlib import Path

from srlib.data.batches import Batches, prefetch
from srlib.params import Training
from srlib.progress import progress
from srlib.signals import Stopped, deferred_stop
from srlib.training.callbacks import Callback, Checkpoint
from srlib.training.session import Result, TrainingSession


def fit(session: TrainingSession, batches: Batches, callbacks: Sequence[Callback]) -> None:
    """Run the steps that `session` has not done yet.

    Args:
        session: The training, at any step.
        batches: The training batches, a pure function of the step.
        callbacks: Callbacks, called in this order after every step.

    Raises:
        Stopped: SIGINT, SIGTERM or SIGHUP came during a step; the step was finished first.
    """
    for callback in callbacks:
        callback.on_start(session, batches)
    with progress(session.steps, session.name, "steps", start=session.step) as advance, deferred_stop() as stop:
        for _, lr, hr in prefetch(batches, session.step, session.steps):
            session.take_step(lr, hr)
            for callback in callbacks:
                callback.on_step_end(session, lr, hr)
            advance(1, **session.status())
            if stop.signum is not None:
                notes = [callback.on_stop(session) for callback in callbacks]
                raise Stopped(stop.signum, "; ".join(note for note in notes if note))


def train(session: TrainingSession, batches: Batches, callbacks: list[Callback], resume: Path) -> Result:
    """Train from the resume state, if there is one, to the last step.

    The result has the same bytes however often the training was interrupted.

    Args:
        session: The training, at step 0.
        batches: The training batches.
        callbacks: All callbacks but the checkpoint.
        resume: The folder of the resume state.

    Raises:
        SrlibError: Training diverged; the message says where the last good weights are.
        Stopped: SIGINT, SIGTERM or SIGHUP came; the resume state was saved.
    """
    checkpoint = Checkpoint(resume, callbacks)
    checkpoint.load(session)
    fit(session, batches, [*callbacks, checkpoint])
    session.log.write()
    return session.result()


def training_batches(patches: Path, section: Training, seed: int) -> Batches:
    """Return the batches that a section of the recipe asks for."""
    return Batches(
        patches,
        lr_patch=section.lr_patch,
        batch=section.batch,
        seed=seed,
        sampling=section.sampling,
        in_memory=section.in_memory,
    )
