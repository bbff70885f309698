"""Pre-training: a super-resolution network learns to minimize a pixel loss."""

from functools import partial
from pathlib import Path

import keras
import numpy as np

from srlib.data.batches import Batches
from srlib.data.model_inputs import input_range, is_downscaled
from srlib.engine import seed_all
from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.models import WEIGHTS, ModelConfig, build, load_model, read_config
from srlib.models.blocks import LARGE_KERNEL_END
from srlib.params import Params, StartFrom
from srlib.training.averaging import ExponentialMovingAverage
from srlib.training.callbacks import LAST_GOOD, Callback, DivergenceGuard, LossLog, Validation
from srlib.training.equivariance import OrbitProjection, is_equivariant, make_equivariant
from srlib.training.loop import train, training_batches
from srlib.training.losses import PIXEL_LOSSES, mae
from srlib.training.mesh import check_division
from srlib.training.metric_log import MetricLog
from srlib.training.optimizers import NetworkUpdate, make_optimizer
from srlib.training.samples import Samples
from srlib.training.session import Result, TrainingSession
from srlib.training.trainer import Trainer
from srlib.training.types import Tensor
from srlib.training.validation import ValidationPairs, save_last_good, save_weights, validation_sample


class PixelTrainer(Trainer):
    """Trains a network by one of `PIXEL_LOSSES`.

    With a loss that hides an explosion, the mean absolute error is monitored and logged, too.

    Args:
        network: The network to train.
        loss: A key of `PIXEL_LOSSES`.
    """

    def __init__(self, network: keras.Model, loss: str) -> None:
        super().__init__(network, name="pretrain")
        self.pixel_loss = PIXEL_LOSSES[loss].function
        self.error = keras.metrics.Mean(name="mae") if PIXEL_LOSSES[loss].hides_explosion else None
        self.monitored = "loss" if self.error is None else "mae"

    def compute_loss(self, x: Tensor, y: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        """Return the pixel loss, on luma where the network works on it.

        Args:
            x: LR, uint8 RGB. Not used.
            y: HR, uint8 RGB.
            y_pred: SR, float32, RGB or luma.
            sample_weight: Not used.
        """
        hr = self.to_network(y)
        if self.error is not None:
            self.error.update_state(mae(hr, y_pred))
        return self.pixel_loss(hr, y_pred)


def model_config(params: Params, pairs: ValidationPairs | None = None) -> ModelConfig:
    """Return the config of the network that the recipe asks for.

    Args:
        params: The recipe.
        pairs: Patches that show whether given LR images are clean; without them, they count as clean.
    """
    options = params.pretrain.model.model_dump()
    name, inputs = options.pop("name"), input_range(params.prepare, params.scale)
    is_known = params.prepare.lr == "make" or pairs is None or is_downscaled(*pairs)
    return ModelConfig(name=name, scale=params.scale, options=options, inputs=inputs if is_known else None)


def pixel_trainer(params: Params) -> PixelTrainer:
    """Return a trainer for the recipe's network, with initial or earlier weights, compiled with its optimizer.

    Raises:
        SrlibError: The weights of `pretrain.start_from` do not fit.
    """
    section, config = params.pretrain, model_config(params)
    seed_all(params.seed)
    network = build(config, dtype=section.precision)
    if section.equivariant:
        make_equivariant(network)
    if section.start_from is not None:
        _load_start(network, config, section.start_from)
        if section.equivariant and not is_equivariant(network):
            raise SrlibError(
                f"pretrain.start_from: {section.start_from.folder} was not trained with pretrain.equivariant: true; "
                "set it to false, or start from other weights"
            )
    trainer = PixelTrainer(network, section.loss)
    weights = network.trainable_variables
    update = NetworkUpdate(
        network,
        make_optimizer(section.optimizer, weights, weight_decay=section.weight_decay),
        section.learning_rate,
        clip_norm=section.clip_norm,
        projection=OrbitProjection(network) if section.equivariant else None,
        average=ExponentialMovingAverage(weights, section.ema_decay) if section.ema_decay else None,
    )
    trainer.compile_with([update])
    return trainer


def pretraining(
    params: Params, patches: Path, resume: Path, log: MetricLog
) -> tuple[TrainingSession, Batches, list[Callback]]:
    """Return the session, the batches and the callbacks of a pre-training, as `srlib.training.loop.train` takes them.

    Args:
        params: The recipe.
        patches: The folder of prepared patches.
        resume: The folder of the resume state.
        log: Log that receives the records.

    Raises:
        SrlibError: The patches or the initial weights do not fit the recipe, or the devices that of the fine-tuning.
    """
    section = params.pretrain
    if params.finetune is not None:
        check_division("finetune", params.finetune)  # now, and not after hours of pre-training
    trainer = pixel_trainer(params)
    batches = training_batches("pretrain", patches, section, params.seed)
    steps = section.steps_with(len(batches))
    if mistakes := [f"pretrain.{key}: {text}" for key, text in section.epoch_mistakes(len(batches))]:
        raise SrlibError("\n".join(mistakes))  # with `epochs`, the steps are known exactly only now
    pairs = validation_sample(patches)
    rescue = partial(save_last_good, pairs=pairs, config=model_config(params, pairs), folder=resume / LAST_GOOD)
    guard = DivergenceGuard(section, rescue)
    loss_log = LossLog(section.log_every, section.validate_every)
    validation = Validation(pairs, section.validate_every, guard, keep_best=True)
    samples = Samples(patches, section.validate_every)
    session = TrainingSession("pretrain", trainer, steps, log, section.micro_batches)
    return session, batches, [guard, loss_log, validation, samples]


def pretrain(params: Params, patches: Path, out: Path, *, resume: Path, log: MetricLog) -> tuple[keras.Model, Result]:
    """Train the recipe's network and write the weights with the best validation PSNR to `out`.

    Args:
        params: The recipe.
        patches: The folder of prepared patches.
        out: Folder for the model.
        resume: The folder of the resume state.
        log: Log that receives the records.

    Returns:
        The network with these weights, in float32, and the result of training.

    Raises:
        SrlibError: The patches or the initial weights do not fit the recipe, or training diverged.
    """
    session, batches, callbacks = pretraining(params, patches, resume, log)
    result = train(session, batches, callbacks, resume)
    return save_weights(result.weights, model_config(params, validation_sample(patches)), out), result


def _load_start(network: keras.Model, config: ModelConfig, start: StartFrom) -> None:
    """Load earlier weights: all layers that both networks have, but for upsampling layers of another scale.

    Large-kernel blocks that the earlier network lacks begin with zeros in their last layer, so that the network
    computes what the earlier one did (Net2Net, Chen et al. 2016, arXiv:1511.05641).

    Raises:
        SrlibError: No model in the folder, weights with another SHA-256, or a model that does not fit.
    """
    folder = Path(start.folder)
    try:
        earlier = read_config(folder)
        if (digest := file_hash(folder / WEIGHTS)) != start.sha256:
            raise SrlibError(
                f"{folder / WEIGHTS} has the SHA-256 {digest}; write this SHA-256 if these are the weights you mean"
            )
        if not config.network.extends(earlier.network):
            expected = f"pretrain.model is {config.name} {config.options}"
            raise SrlibError(f"{folder} holds {earlier.name} {earlier.options}, but {expected}")
        model, _ = load_model(folder)
    except FileNotFoundError as error:
        raise SrlibError(f"pretrain.start_from: {error.filename}: no such file") from None
    except SrlibError as error:
        hint = "" if folder.is_dir() else "; DVC removes a stage's outputs before it runs: keep a copy elsewhere"
        raise SrlibError(f"pretrain.start_from: {error}{hint}") from None
    layers = {layer.name: layer for layer in network.layers if layer.weights}
    scaled = [name for name in layers if earlier.scale != config.scale and name.startswith("upsample")]
    added = [name for name in layers if name not in {layer.name for layer in model.layers}]
    shared = [name for name in layers if name not in (*scaled, *added)]
    for name in shared:
        layers[name].set_weights(model.get_layer(name).get_weights())
    for name in added:
        if name.endswith(LARGE_KERNEL_END):
            layers[name].set_weights([np.zeros_like(values) for values in layers[name].get_weights()])
    notes = f"; new, since they are for ×{earlier.scale}: {', '.join(scaled)}" if scaled else ""
    notes += f"; {len(added)} are new and change nothing yet" if added else ""
    print(f"pretrain: starts from {folder}: {len(shared)} of {len(layers)} layers{notes}", flush=True)
