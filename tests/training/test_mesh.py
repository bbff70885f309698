import pytest

from srlib.errors import SrlibError
from srlib.training import mesh

from .conftest import recipe


@pytest.mark.parametrize(
    ("devices", "backend", "changes", "message"),
    [
        (3, "jax", {}, r"pretrain.batch: expected a multiple of the number of devices \(3\), got 4"),
        (3, "jax", {"micro_batches": 4}, r"pretrain.micro_batches: expected a multiple of .*\(3\), got 4"),
        (1, "tensorflow", {"micro_batches": 4}, "pretrain.micro_batches: expected 1 with .*tensorflow, got 4"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    devices: int, backend: str, changes: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh, "device_count", lambda: devices)
    monkeypatch.setattr(mesh.keras.backend, "backend", lambda: backend)
    with pytest.raises(SrlibError, match=message):
        mesh.check_division("pretrain", recipe(pretrain=changes).pretrain)


def test_a_part_for_each_device_or_each_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "device_count", lambda: 2)
    mesh.check_division("pretrain", recipe().pretrain)
    assert (mesh.parts_per_process(1), mesh.parts_per_process(4)) == (2, 4)
