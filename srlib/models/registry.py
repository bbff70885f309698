"""The list of all networks. A new one is a file in `srlib/models/networks` and a line here."""

from collections.abc import Mapping

from pydantic import ValidationError

from srlib.errors import SrlibError
from srlib.models.base import Network, Option
from srlib.models.networks.compact import Compact
from srlib.models.networks.edsr import Edsr
from srlib.models.networks.espcn import Espcn
from srlib.models.networks.fsrcnn import Fsrcnn
from srlib.models.networks.large_kernel import LargeKernel
from srlib.models.networks.srcnn import Srcnn
from srlib.models.networks.srresnet import Srresnet
from srlib.schema import lines_of, text_of

_NETWORKS: tuple[type[Network], ...] = (
    Edsr,
    Srresnet,
    Compact,
    LargeKernel,
    Srcnn,
    Espcn,
    Fsrcnn,
)

MODELS: dict[str, type[Network]] = {network.model_fields["name"].default: network for network in _NETWORKS}
"""Name in params.yaml → network."""


def network_of(name: str, options: Mapping[str, Option]) -> Network:
    """Return the network of this name with these options; defaults fill in the others.

    Args:
        name: A key of `MODELS`.
        options: Option → value.

    Raises:
        SrlibError: An unknown name, an unknown option, or a value that the option cannot have.

    Example:
        >>> network_of("srcnn", {"middle": 1})
        Srcnn(name='srcnn', filters=64, middle=1)
    """
    if not isinstance(name, str) or name not in MODELS:
        raise SrlibError(f"name: expected one of {', '.join(MODELS)}, got {text_of(name)}")
    if not isinstance(options, Mapping):
        raise SrlibError(f"options: expected a mapping, got {text_of(options)}")
    try:
        return MODELS[name].model_validate({**options, "name": name})
    except ValidationError as error:
        raise SrlibError("; ".join(f"options.{line}" for line in lines_of(error, options))) from None


def model_options(name: str, options: Mapping[str, Option]) -> dict[str, Option]:
    """Return all options of the network `name`: those given, checked, and the defaults of the others.

    Raises:
        SrlibError: As `network_of`.

    Example:
        >>> model_options("compact", {"filters": 48})
        {'blocks': 16, 'filters': 48}
    """
    return network_of(name, options).options
