"""What every super-resolution network declares: its options, what it works on, and how it is built."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from srlib.imaging.color import Channels
from srlib.schema import Section

if TYPE_CHECKING:
    import keras

Scale = Literal[2, 3, 4]
SCALES: tuple[Scale, ...] = get_args(Scale)
Option = int | float | str


class Network(Section):
    """A super-resolution network with its options.

    A subclass is one network. Its fields are the keys of `pretrain.model` in params.yaml, each with a default and a
    description; `name` is a `Literal` with the network's own name. `srlib.models.registry` lists all subclasses.

    Attributes:
        title: The name in tables.
        channels: `rgb`, or `luma-studio` for a network on Y alone (see `srlib.imaging.color`).
        smaller: The name of the network that this one is without its large-kernel blocks, if there is one.
    """

    title: ClassVar[str]
    channels: ClassVar[Channels] = "rgb"
    smaller: ClassVar[str] = ""

    name: str = ""

    @property
    def options(self) -> dict[str, Option]:
        """Every option with its value, without the name."""
        return self.model_dump(exclude={"name"})

    @property
    def equivariant_width(self) -> int | None:
        """Channels that dihedral transformations permute in groups of eight; None: cannot be made equivariant.

        `srlib.training.equivariance` says which layers such a network may have.
        """
        return None

    def extends(self, earlier: "Network") -> bool:
        """Return True if this network can start from the weights of `earlier`: it is the same one, or a larger one.

        A larger one adds large-kernel blocks to the network `smaller`, whose options it has too.
        """
        options = self.options
        return earlier == self or (
            earlier.name == self.smaller and all(options[key] == value for key, value in earlier.options.items())
        )

    @abstractmethod
    def build(self, scale: Scale, dtype: str = "float32") -> "keras.Model":
        """Build the network with fresh weights.

        Args:
            scale: Upscaling factor.
            dtype: Keras dtype policy of the hidden layers.

        Returns:
            A model from float32 [B, h, w, C] in [0, 1] to float32 [B, scale·h, scale·w, C], not clipped; C is 3 for
            `rgb` and 1 for `luma-studio`. Every layer with weights has a name.
        """
