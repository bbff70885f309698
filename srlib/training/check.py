"""Check before the first stage that the trainings of a recipe can be computed on this machine.

Keras is imported only where a recipe names weights of your own or micro-batches, or where memory may be short.
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

from srlib.engine import check_backend, pin_threads
from srlib.memory import free_memory, total_memory
from srlib.params import Params, Training
from srlib.params.mistakes import Mistake, attempt


def weight_mistakes(params: Params) -> Iterator[Mistake]:
    """Yield why weights of your own, to start from or of the feature network, cannot be used."""
    finetune, features = params.finetune, params.download.features
    if params.pretrain.start_from:
        pin_threads()
        from srlib.training.pretrain import pixel_trainer

        yield from attempt("pretrain.start_from", lambda: pixel_trainer(params))
    if finetune is not None and not isinstance(features, str) and finetune.features.weights == "file":
        pin_threads()
        from srlib.models.features import feature_network

        network, layer, file = finetune.features.network, finetune.features.deepest, Path(features.file).expanduser()
        yield from attempt("download.features", lambda: feature_network(network, [layer], weights=file))


def micro_batch_mistakes(params: Params) -> Iterator[Mistake]:
    """Yield the trainings with micro-batches, unless the backend is JAX, which alone computes them."""
    sections = {name: section for name, section in params.trainings.items() if section.micro_batches > 1}
    if not sections or check_backend() == "jax":
        return
    pin_threads()
    from srlib.training.mesh import check_division

    for name, section in sections.items():
        for key, line in attempt(name, functools.partial(check_division, name, section)):
            yield f"{key}.micro_batches", line.removeprefix(f"{key}.micro_batches: ")


def memory_mistakes(params: Params) -> Iterator[Mistake]:
    """Yield the trainings for which this machine has too little memory; warn of those for which too little is free."""
    total, free = total_memory(), free_memory()
    sections = params.trainings
    if total is None or free is None or max(most_memory(params, section) for section in sections.values()) < free:
        return
    if pin_threads()["devices"] != ["CPU"]:  # a GPU has its own memory
        return
    from srlib.training.memory import least_memory

    for name, section in sections.items():
        try:
            memory = least_memory(params, section)
        except RecursionError:
            yield name, "the network has too many layers for Keras; lower `blocks`"
            continue
        text = (
            f"needs at least {memory.total / 1e9:.1f} GB of memory ({memory.weights / 1e9:.1f} GB for weights and "
            f"optimizer, {memory.batch / 1e9:.1f} GB for a batch of {section.batch} × {section.lr_patch}²)"
        )
        if memory.total > total:
            advice = "lower `batch` or `lr_patch`, or make the network smaller"
            yield name, f"{text}, and this machine has {total / 1e9:.1f} GB; {advice}"
        elif memory.total > free:
            print(f"warning: params.yaml: {name}: {text}, and {free / 1e9:.1f} GB are free now", file=sys.stderr)
        elif (most := most_memory(params, section)) > free:
            text = f"may need up to {most / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free now; if it"
            print(f"warning: params.yaml: {name}: {text} is killed, lower `batch` or `lr_patch`", file=sys.stderr)


def most_memory(params: Params, section: Training) -> int:
    """Return a generous estimate in bytes, without Keras, to leave out `least_memory` for usual recipes.

    Most layers of a network work on LR pixels, a few on HR pixels; a discriminator works on HR pixels, real and
    generated ones, and halves their number along each side where it doubles its width.

    Args:
        params: The recipe.
        section: Its section `pretrain` or `finetune`.
    """
    numbers = [value for value in params.pretrain.model.options.values() if isinstance(value, int)]
    width, depth = max([*numbers, 3]), sum(numbers) + 16
    lr_pixels = section.batch * section.lr_patch**2
    hr_pixels = lr_pixels * params.scale**2
    values = width * (depth * lr_pixels + 4 * hr_pixels)
    weights = depth * (13 * width) ** 2
    if section is not params.pretrain:
        filters = params.finetune_section().discriminator_filters
        values += 2 * hr_pixels * 8 * filters
        weights += 64 * 20 * filters**2
    return 4 * (values + 5 * weights)
