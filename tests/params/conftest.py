from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from srlib.errors import SrlibError
from srlib.params import load_params

ROOT = Path(__file__).parents[2]

MISSING = "(missing)"
"""As a value: the key is removed."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    """Write the quick start with some keys changed, at dotted paths, and return the file."""

    def write(changes: dict[str, object]) -> Path:
        content = yaml.safe_load((ROOT / "tests/recipe.yaml").read_text())
        for key, value in changes.items():
            *sections, last = key.split(".")
            section = content
            for name in sections:
                section = section[name]
            if value == MISSING:
                del section[last]
            else:
                section[last] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def lines(write: Callable[[dict[str, object]], Path]) -> Callable[..., list[str]]:
    """Return the lines about the mistakes in a changed quick start, without the file's name."""

    def lines(changes: dict[str, object], stage: str | None = None) -> list[str]:
        path = write(changes)
        with pytest.raises(SrlibError) as caught:
            load_params(path, stage=stage)
        assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())
        return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]

    return lines
