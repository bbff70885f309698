"""Reading params.yaml."""

import re
from collections.abc import Hashable
from pathlib import Path

import yaml
from pydantic import ValidationError

from srlib.errors import SrlibError, one_line
from srlib.files import read_regular
from srlib.params.inputs import input_mistakes
from srlib.params.recipe import Params
from srlib.params.renamed import translate
from srlib.schema import lines_of

LARGEST = 2**20
"""Largest size of a recipe in bytes."""

_DEEPEST = 20
"""Most brackets and braces inside each other: PyYAML's time grows with their square."""


class _Loader(yaml.SafeLoader):
    """YAML as DVC reads it: 1e-4 is a number (PyYAML's 1.1 rules make it a string), a duplicate key is an error."""

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:  # noqa: N803 (PyYAML's name)
        if self.flow_level >= _DEEPEST:
            problem = f"more than {_DEEPEST} brackets and braces inside each other"
            raise yaml.scanner.ScannerError(None, None, problem, self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        names = [(self.construct_object(key, deep=True), key.start_mark) for key in keys]
        mapping = super().construct_mapping(node, deep)
        seen = set()
        for name, mark in names:
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key `{name}`", mark)
            seen.add(name)
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Read a number that YAML 1.1 and 1.2, and so PyYAML and DVC, read alike."""
        text = self.construct_scalar(node)
        if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
            problem = f"{text} is another number in YAML 1.1 than in 1.2; write it without leading zeros and colons"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        is_float = node.tag.endswith("float")
        number: int | float = self.construct_yaml_float(node) if is_float else self.construct_yaml_int(node)
        return number


for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _Loader.add_constructor(_tag, _Loader.construct_number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)$"), list("-+0123456789.")
)


def load_params(path: Path | str = "params.yaml", *, stage: str | None = "download") -> Params:
    """Read and check a recipe, with the files that it names.

    Args:
        path: The YAML file.
        stage: The stage about to run; files that only earlier stages read are not checked. None: no file is.

    Returns:
        The recipe, with defaults for the keys left out.

    Raises:
        SrlibError: One line per mistake, each with the key, what was expected and what came.

    Example:
        >>> load_params("recipes/quickstart.yaml").pretrain.model.name
        'edsr'
    """
    path = Path(path)
    params = check_params(_read(path), path)
    if stage == "finetune":
        try:
            params.finetune_section()
        except SrlibError as error:
            raise SrlibError(f"{path}: {error}") from None
    if stage is not None and (mistakes := list(input_mistakes(params, stage))):
        raise SrlibError("\n".join(f"{path}: {key}: {message}" for key, message in mistakes))
    return params


def check_params(content: dict[str, object], source: Path | str) -> Params:
    """Check the sections of a recipe and return it; the files that it names are not checked.

    Args:
        content: Sections and their keys.
        source: Origin of the sections, named in error messages.

    Raises:
        SrlibError: One line per mistake, as `load_params`.
    """
    content, lines = translate(content)
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        lines += lines_of(error, content)
    if lines:
        raise SrlibError("\n".join(f"{source}: {line}" for line in lines))
    return params


def _read(path: Path) -> dict[str, object]:
    """Return the sections in a YAML file."""
    try:
        content = yaml.load(read_regular(path, limit=LARGEST).decode(), _Loader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise SrlibError(f"{path}: no such file; copy a recipe there, such as recipes/quickstart.yaml") from None
    except OSError as error:
        raise SrlibError(f"{path}: cannot be read: {one_line(error)}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise SrlibError(f"{path}{line}: not valid YAML: {one_line(error.problem or error.context or '')}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SrlibError(f"{path}: not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise SrlibError(f"{path}: expected sections such as `prepare:`, got {type(content).__name__}")
    return content
