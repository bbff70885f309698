"""Pre-training: a super-resolution network learns to minimise a pixel loss."""

import math
from pathlib import Path
from typing import Any

import keras

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.models import WEIGHTS, ModelConfig, build, load_model, read_config
from srlib.params import Params, StartFrom
from srlib.training.equivariance import is_shared, orbits_of, share
from srlib.training.loop import Curves, Result, Trainer, train, training_batches
from srlib.training.losses import PIXEL_LOSSES, mae
from srlib.training.optimizers import OPTIMIZERS
from srlib.training.validation import write_model


class PixelTrainer(Trainer):
    """Trains a network by one of `PIXEL_LOSSES`.

    The logarithm in `psnr` hides an explosion, so that its MAE is followed as well, and logged.
    """

    def __init__(self, network: keras.Model, loss: str) -> None:
        super().__init__(network, name="pretrain")
        self.pixel_loss = PIXEL_LOSSES[loss]
        self.error = keras.metrics.Mean(name="mae") if loss == "psnr" else None
        self.watched = "loss" if self.error is None else "mae"

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The pixel loss between HR (uint8 RGB) and SR (float32), on luma where the network works on it."""
        hr = self.encode(y)
        if self.error is not None:
            self.error.update_state(mae(hr, y_pred))
        return self.pixel_loss(hr, y_pred)


def model_config(params: Params) -> ModelConfig:
    """The config of the network that the recipe asks for."""
    options = params.pretrain.model.model_dump()
    return ModelConfig(name=options.pop("name"), scale=params.scale, options=options)


def pixel_trainer(params: Params) -> PixelTrainer:
    """The recipe's network with its initial or earlier weights, compiled with the recipe's loss and optimizer."""
    section, config = params.pretrain, model_config(params)
    keras.utils.set_random_seed(params.seed)
    network = build(config, dtype=section.precision)
    if section.equivariant:
        share(network)
    if section.start_from is not None:
        _start_from(network, config, section.start_from)
        if section.equivariant and not is_shared(network):
            raise SrlibError(
                f"pretrain.start_from: {section.start_from.folder} was not trained with pretrain.equivariant: true; "
                "set it to false, or start from other weights"
            )
    trainer = PixelTrainer(network, section.loss)
    optimizer = OPTIMIZERS[section.optimizer](
        clip_norm=section.clip_norm,
        average=section.ema_decay,
        weight_decay=section.weight_decay,
        orbits=orbits_of(network) if section.equivariant else (),
    )
    trainer.compile_with(optimizer)
    return trainer


def pretrain(params: Params, patches: Path, out: Path, *, state: Path, curves: Curves) -> tuple[keras.Model, Result]:
    """Trains the recipe's network on `patches` and writes the weights of the best validation PSNR to `out`.

    Returns:
        The network with these weights, in float32, and the result of training.
    """
    section, config = params.pretrain, model_config(params)
    trainer = pixel_trainer(params)
    batches = training_batches(patches, section, params.seed)
    steps = section.steps or math.ceil((section.epochs or 0) * len(batches) / section.batch)
    result = train(
        trainer, batches, section, config=config, steps=steps, patches=patches, state=state, curves=curves,
        label="pretrain", keep_best=True,
    )  # fmt: skip
    return write_model(result.weights, config, out), result


def _start_from(network: keras.Model, config: ModelConfig, start: StartFrom) -> None:
    """Fills `network` with earlier weights: of the same network, or of one for another scale all but its upsampling.

    Raises:
        SrlibError: No model there, other weights than the recipe means, or a model that does not fit.
    """
    folder = Path(start.folder)
    try:
        found = read_config(folder)
        if (got := file_hash(folder / WEIGHTS)) != start.sha256:
            raise SrlibError(f"{folder / WEIGHTS} has the SHA-256 {got}; write that if these are the weights you mean")
        if (found.name, found.options) != (config.name, config.options):
            wanted = f"pretrain.model is {config.name} {config.options}"
            raise SrlibError(f"{folder} holds {found.name} {found.options}, but {wanted}")
        earlier, _ = load_model(folder)
    except FileNotFoundError as error:
        raise SrlibError(f"pretrain.start_from: {error.filename}: no such file") from None
    except SrlibError as error:
        removed = "" if folder.is_dir() else "; DVC removes a stage's outputs before it runs: keep a copy elsewhere"
        raise SrlibError(f"pretrain.start_from: {error}{removed}") from None
    for layer in network.layers:
        if found.scale == config.scale or not layer.name.startswith("upsample"):
            layer.set_weights(earlier.get_layer(layer.name).get_weights())
