"""The recipe, params.yaml, as typed and frozen models: one section per stage.

`load_params` reads and checks the whole file, also across sections, so that a typo in `finetune` shows before
`pretrain` runs for days. Every mistake is one line that names the key, what was expected and what came.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from srlib.errors import SrlibError

Scale = Literal[2, 3, 4]
Precision = Literal["float32", "mixed_bfloat16"]
TestSet = Literal["sample", "Set5", "Set14", "BSD100", "Urban100", "DIV2K"]
TEST_SCALES: dict[TestSet, tuple[Scale, ...]] = {
    "Set5": (2, 3, 4),
    "Set14": (2, 3, 4),
    "BSD100": (4,),
    "Urban100": (4,),
}
"""The scales that a test set's pictures are published for; those of the other sets serve for every scale."""

Trained = Literal["pretrained", "gan"]
RegisteredName = Annotated[str, Field(pattern=r"^[\w .{}-]+$")]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of the recipe: no unknown keys, no silent conversions, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class FeatureFile(Section):
    """Weights of a feature network in a file of your own; it is copied, and checked against its SHA-256."""

    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Download(Section):
    """What is fetched. `train: none` leaves the training pictures to `prepare.images`."""

    train: Literal["sample", "div2k-bicubic", "div2k-unknown", "none"]
    test: Annotated[list[TestSet], Field(min_length=1)]
    features: Literal["none", "vgg19"] | FeatureFile

    def check(self, scale: int) -> None:
        """Tells, before any work, what is asked for and cannot be had.

        Raises:
            ValueError: One line: a test set named twice, or not there at this scale; a weights file of another kind.
        """
        for name in self.test:
            if self.test.count(name) > 1:
                raise ValueError(f"download.test: {name} stands there twice")
            if scale not in (scales := TEST_SCALES.get(name, (scale,))):
                given = ", ".join(map(str, scales))
                raise ValueError(f"download.test: {name} exists for scale {given} only, and scale is {scale}")
        if isinstance(self.features, FeatureFile) and not self.features.file.endswith(".h5"):
            raise ValueError(f"download.features.file: expected a file of Keras weights, .h5, got {self.features.file}")


class Prepare(Section):
    """How pictures become aligned LR/HR patches, in LR pixels; HR is that times `scale`. `sizes`: of the copies cut."""

    images: str
    lr: Literal["make", "given"] = "make"
    edges: Literal["clamp", "mirror"] = "mirror"
    noise: Annotated[float, Field(ge=0, le=100)] = 0.0
    jpeg: Annotated[int, Field(ge=1, le=100)] | None = None
    patch: Annotated[int, Field(ge=8, le=1024)] = 64
    stride: Positive = 64
    sizes: Annotated[list[Annotated[float, Field(ge=0.1, le=1)]], Field(min_length=1, max_length=16)] = [1.0]
    flat: Weight = 0.0
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    unusable: Literal["stop", "skip"] = "stop"

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"expected each of `sizes` once, got {self.sizes}")
        if self.lr == "given":
            if self.noise or self.jpeg:
                raise ValueError("lr: given takes the LR pictures as they are; noise and jpeg go with lr: make")
            if self.sizes != [1.0]:
                raise ValueError("lr: given takes the LR pictures as they are; smaller `sizes` go with lr: make")
        return self


class Edsr(Section):
    """EDSR (Lim et al. 2017). The baseline has 16 blocks of 64 filters; the large one 32 of 256 and scaling 0.1."""

    name: Literal["edsr"]
    blocks: Positive = 16
    filters: Positive = 64
    residual_scaling: Annotated[float, Field(gt=0, le=1)] = 1.0
    skip: Literal["none", "nearest"] = "none"


class Srresnet(Section):
    """SRResNet (Ledig et al. 2017): 16 blocks of 64 filters in the paper."""

    name: Literal["srresnet"]
    blocks: Positive = 16
    filters: Positive = 64


class Compact(Section):
    """Residual blocks at LR size and one sub-pixel convolution; see srlib/models/compact.py."""

    name: Literal["compact"]
    blocks: Positive = 16
    filters: Positive = 64


class Srcnn(Section):
    """SRCNN (Dong et al. 2014), on luma: 9×9, `middle` and 5×5 convolutions of `filters` and half of it."""

    name: Literal["srcnn"]
    filters: Annotated[int, Field(ge=2)] = 64
    middle: Literal[1, 3, 5] = 5


class Espcn(Section):
    """ESPCN (Shi et al. 2016), on luma: 5×5 and 3×3 convolutions of `filters` and half of it, sub-pixel."""

    name: Literal["espcn"]
    filters: Annotated[int, Field(ge=2)] = 64


class Fsrcnn(Section):
    """FSRCNN (Dong et al. 2016), on luma; its d, s and m are `filters`, `shrink` and `blocks`. 32, 5, 1: FSRCNN-s."""

    name: Literal["fsrcnn"]
    filters: Positive = 56
    shrink: Positive = 12
    blocks: Positive = 4


Model = Annotated[Edsr | Srresnet | Compact | Srcnn | Espcn | Fsrcnn, Field(discriminator="name")]


def model_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a network, checked, with the defaults for those left out.

    Raises:
        SrlibError: An unknown option or a value that it cannot have.
    """
    content = {**options, "name": name}
    try:
        checked: Section = TypeAdapter(Model).validate_python(content)
    except ValidationError as error:
        raise SrlibError("; ".join(_lines("options", error, content))) from None
    return checked.model_dump(exclude={"name"})


class StartFrom(Section):
    """Earlier weights to begin with: a model's folder, and the SHA-256 of its model.weights.h5."""

    folder: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class LearningRate(Section):
    """`peak` after `warmup` steps, then constant, multiplied by `factor` at each milestone, or a cosine to `final`."""

    schedule: Literal["constant", "steps", "cosine"] = "constant"
    peak: Annotated[float, Field(gt=0, lt=1)]
    warmup: Annotated[int, Field(ge=0)] = 0
    milestones: list[Positive] = []
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    final: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("`milestones` and `schedule: steps` go together")
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError("`milestones` must rise")
        return self


class Training(Section):
    """What pre-training and fine-tuning share. `crop` is in LR pixels; `sampling` is explained in `Batches`."""

    precision: Precision = "float32"
    batch: Positive = 16
    lr_patch: Annotated[int, Field(ge=8)]
    sampling: Literal["patches", "balanced"] = "patches"
    in_memory: bool = False
    learning_rate: LearningRate
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: Weight = 0.0
    log_every: Positive = 100
    validate_every: Positive = 1000


class Pretrain(Training):
    """Pre-training with a pixel loss. The budget is `steps` or `epochs` (as many patches as there are), not both."""

    model: Model
    equivariant: bool = False
    start_from: StartFrom | None = None
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    weight_decay: Weight = 0.0
    loss: Literal["mae", "mse", "charbonnier", "psnr"] = "mae"
    steps: Positive | None = None
    epochs: Positive | None = None

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("expected exactly one of `steps` and `epochs`")
        return self

    @model_validator(mode="after")
    def _decay(self) -> Self:
        if (self.optimizer == "adamw") != bool(self.weight_decay):
            raise ValueError("`weight_decay` above 0 and `optimizer: adamw` go together")
        return self

    @model_validator(mode="after")
    def _fields(self) -> Self:
        if self.equivariant and (not isinstance(self.model, Edsr | Compact) or self.model.filters % 8):
            raise ValueError(
                "`equivariant: true` needs the model edsr or compact with `filters` a multiple of 8; "
                "set it to false for any other"
            )
        return self


class Features(Section):
    """The network whose features the content loss compares, and the layer they are taken from."""

    network: Literal["vgg19", "squeezenet"] = "vgg19"
    weights: Literal["file", "random"] = "file"
    layer: str = "block5_conv4"
    pre_activation: bool = False


class Finetune(Training):
    """The SRGAN: content, MAE, what repeats of the error from LR pixel to LR pixel, and adversarial loss, weighted."""

    steps: Positive
    features: Features = Features()
    perceptual_loss: Literal["mse", "mae"] = "mse"
    perceptual_scale: Annotated[float, Field(gt=0)] = 0.00615
    perceptual_weight: Weight = 1.0
    pixel_weight: Weight = 0.0
    checkerboard_weight: Weight = 0.0
    adversarial_weight: Weight = 0.001
    adversarial: Literal["vanilla", "relativistic"] = "vanilla"
    discriminator_filters: Positive = 64
    interpolation: Fraction = 1.0


class GivenMethod(Section):
    """A row of the table from a file or folder of yours: a network, or finished pictures in one folder per set."""

    name: Annotated[str, Field(min_length=1)]
    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    channels: Literal["rgb", "luma", "luma-studio"] = "rgb"
    value_range: Literal[1, 255] = 1

    @field_validator("name")
    @classmethod
    def _folder(cls, name: str) -> str:
        if name.startswith(".") or set(name) & set("/\\"):
            raise ValueError(f"expected a name without / and \\ and a leading dot (a folder is named so), got {name!r}")
        return name


class Lpips(Section):
    """LPIPS (Zhang et al. 2018): SqueezeNet's ImageNet weights in Keras' layout, and the linear weights as .npz."""

    backbone: FeatureFile
    linear: FeatureFile


class Champion(Section):
    """When a model becomes the champion in MLflow's registry: better by more than `margin` in the mean over a set."""

    set: str
    metric: Literal["psnr_y", "ssim_y", "psnr_rgb", "color_error", "lpips"]
    margin: Weight = 0.0


class Evaluate(Section):
    """`images` holds one folder per set. `strips` and `strip_size` (HR pixels) belong to the image strips."""

    images: str
    interpolations: list[Literal["nearest", "bilinear", "bicubic"]] = ["nearest", "bilinear", "bicubic"]
    self_ensemble: bool = False
    methods: list[GivenMethod] = []
    lpips: Lpips | None = None
    strips: Annotated[int, Field(ge=0)] = 8
    strip_size: Annotated[int, Field(ge=16, le=512)] = 96
    champion: dict[Trained, Champion] = {}

    @model_validator(mode="after")
    def _measured(self) -> Self:
        for name, rule in self.champion.items():
            if rule.metric == "lpips" and self.lpips is None:
                raise ValueError(f"champion.{name}.metric: lpips needs the weights that `lpips` names")
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [*self.interpolations, "original", *(method.name for method in self.methods)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"every row needs a name of its own; {', '.join(twice)} is taken")
        return self


class Registry(Section):
    """The names of the trained models in MLflow's model registry. No stage runs again for a change here."""

    pretrained: RegisteredName = "srlib-x{scale}"
    gan: RegisteredName = "srlib-x{scale}-gan"

    def names(self, scale: int) -> dict[str, str]:
        """Model → name, with the scale in the place of `{scale}`."""
        return {key: str(value).replace("{scale}", str(scale)) for key, value in self}

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.pretrained == self.gan:
            raise ValueError("`pretrained` and `gan` need different names")
        return self


class Params(Section):
    """The whole recipe."""

    scale: Scale
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    download: Download
    prepare: Prepare
    pretrain: Pretrain
    finetune: Finetune
    evaluate: Evaluate
    registry: Registry = Registry()

    @model_validator(mode="after")
    def _across_sections(self) -> Self:
        self.download.check(self.scale)
        for name in ("pretrain", "finetune"):
            lr_patch = getattr(self, name).lr_patch
            if lr_patch > self.prepare.patch:
                raise ValueError(
                    f"{name}.lr_patch: expected at most prepare.patch ({self.prepare.patch}), got {lr_patch}"
                )
        features = self.finetune.features
        if features.weights == "file" and self.download.features == "none":
            raise ValueError(
                "finetune.features.weights: file needs weights: set download.features to vgg19 or to a file of yours, "
                "or finetune.features.weights to random"
            )
        if features.network == "squeezenet" and self.download.features == "vgg19":
            raise ValueError("finetune.features.network: squeezenet cannot use download.features: vgg19")
        return self


class _Loader(yaml.SafeLoader):
    """YAML as DVC reads it: 1e-4 is a number (PyYAML's 1.1 rules make it a string), a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise SrlibError(f"params.yaml, line {node.start_mark.line + 1}: the key `{key}` stands here twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)$"), list("-+0123456789.")
)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks a recipe.

    Raises:
        SrlibError: One line per mistake, each naming the key, what was expected and what came.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise SrlibError(f"{path}: no such file; copy a recipe there, such as recipes/quickstart.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SrlibError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SrlibError(f"{path}: expected sections such as `prepare:`, got {type(content).__name__}")
    return check_params(content, path)


def check_params(content: dict[str, Any], source: Path | str) -> Params:
    """The recipe that these sections are; `source` says in a mistake's line where they came from.

    Raises:
        SrlibError: One line per mistake, as `load_params`.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise SrlibError("\n".join(_lines(source, error, content))) from None


def _lines(path: Path | str, error: ValidationError, content: dict[str, Any]) -> list[str]:
    """One line for each key that is wrong; what the members of a union expected is joined by `or`."""
    found: dict[tuple[str, str], list[str]] = {}
    for detail in error.errors():
        expected, got = _expectation(detail)
        found.setdefault((_key(detail, content), got), []).append(expected)
    return [f"{path}: {key}{' or '.join(expected)}{got}" for (key, got), expected in found.items()]


def _expectation(detail: Any) -> tuple[str, str]:
    """What was expected, and what came where that says more."""
    match detail["type"]:
        case "missing":
            return "expected, but missing", ""
        case "extra_forbidden":
            return "unknown key", ""
        case "value_error":
            return str(detail["ctx"]["error"]), ""
        case "union_tag_invalid":
            return f"expected `name` to be one of {detail['ctx']['expected_tags']}", f", got {detail['ctx']['tag']!r}"
        case "model_type":
            return "expected keys and values", f", got {detail['input']!r}"
    message = re.sub(r"^\w+ should (be|have|match) ", "", detail["msg"]).replace("a valid ", "a ")
    return f"expected {message}", f", got {detail['input']!r}"


def _key(detail: Any, content: dict[str, Any]) -> str:
    """Where the mistake is: `finetune.learning_rate.peak: `, without the names that pydantic gives to union members."""
    value: Any = content
    key = ""
    for part in detail["loc"]:
        if isinstance(part, int):
            value, key = value[part], f"{key}[{part}]"
        elif isinstance(value, dict) and (part in value or (part, detail["type"]) == (detail["loc"][-1], "missing")):
            value, key = value.get(part), f"{key}.{part}"
    return f"{key.lstrip('.')}: " if key else ""
