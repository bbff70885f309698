"""The training loop, for pre-training and the SRGAN alike."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from keras import ops

from srlib.data.batches import Batches, prefetch
from srlib.params import Training
from srlib.progress import Advance, progress
from srlib.signals import Stopped, deferred_stop
from srlib.training import distributed
from srlib.training.callbacks import Callback, Checkpoint
from srlib.training.mesh import check_division, loader_threads
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
    with _progress(session) as advance, deferred_stop() as stop:
        for _, lr, hr in prefetch(batches, session.step, session.steps, threads=loader_threads()):
            session.take_step(lr, hr)
            for callback in callbacks:
                callback.on_step_end(session, lr, hr)
            advance(1, **session.status())
            if (signum := distributed.agreed_signal(stop.signum)) is not None:
                notes = [callback.on_stop(session) for callback in callbacks]
                raise Stopped(signum, "; ".join(note for note in notes if note))


def _progress(session: TrainingSession) -> contextlib.AbstractContextManager[Advance]:
    """Show the progress of a training, in the main process only."""
    if distributed.is_main():
        return progress(session.steps, session.name, "steps", start=session.step)
    return contextlib.nullcontext(lambda n=1, **status: None)


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
    if distributed.is_main():
        checkpoint.load(session)
    share_checkpoint(session)
    fit(session, batches, [*callbacks, checkpoint] if distributed.is_main() else [])
    distributed.leave()
    if not distributed.is_main():
        sys.exit(0)
    session.log.write()
    return session.result()


def share_checkpoint(session: TrainingSession) -> None:
    """Give every process the main process's step and variables."""
    if distributed.world() == 1:
        return
    with session.variables() as variables:
        own = [np.asarray(ops.convert_to_numpy(variable)) for variable in variables]
        step, *values = distributed.broadcast([np.array([session.step], np.int32), *own])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    session.step = int(step[0])


def training_batches(name: str, patches: Path, section: Training, seed: int) -> Batches:
    """Return this process's part of the batches that a section of the recipe asks for.

    Args:
        name: Name of the section, for messages.
        patches: The folder of prepared patches.
        section: The section.
        seed: Seed for sampling order, crops and augmentation.

    Raises:
        SrlibError: The devices cannot share a batch evenly, or the patches do not fit.
    """
    check_division(name, section)
    return Batches(
        patches,
        lr_patch=section.lr_patch,
        batch=section.batch,
        seed=seed,
        sampling=section.sampling,
        positions=section.positions,
        in_memory=section.in_memory,
        rank=distributed.rank(),
        world=distributed.world(),
    )
