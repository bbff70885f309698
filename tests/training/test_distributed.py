"""Starting several processes: the launcher's command and the variables of launchers. No process joins here."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.training import distributed

ROOT = Path(__file__).parents[2]
LAUNCH = """
from srlib.training import distributed
from srlib.stage import errors_in_one_line
with errors_in_one_line("pretrain"):
    distributed.join()
    distributed.launch({"SRLIB_EXECUTION": "abc"})
    print("not launched")
"""


def launch(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SRLIB_", "KERAS_"))}
    return subprocess.run(
        [sys.executable, "-c", LAUNCH, "a b"],
        env=environment | variables, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_launcher_gets_the_command_and_its_variables() -> None:
    done = launch(SRLIB_LAUNCHER="printf '%s\\n'", KERAS_BACKEND="jax", DVC_STAGE="pretrain")
    command = done.stdout.splitlines()
    assert command[0] == "env"
    assert {"KERAS_BACKEND=jax", "DVC_STAGE=pretrain", "SRLIB_EXECUTION=abc", "SRLIB_LAUNCHED=1"} <= set(command)
    assert command[-3:] == [sys.executable, "-c", "a b"]


def test_without_a_launcher_nothing_happens() -> None:
    assert launch().stdout == "not launched\n"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SRLIB_LAUNCHER": "srun"}, "error: SRLIB_LAUNCHER: training in several processes needs KERAS_BACKEND=jax"),
        ({"SRLIB_LAUNCHER": "srun 'x", "KERAS_BACKEND": "jax"}, "error: SRLIB_LAUNCHER: expected a command such as"),
        ({"SRLIB_LAUNCHER": "no-such-program", "KERAS_BACKEND": "jax"}, "error: SRLIB_LAUNCHER: cannot run no-such-"),
        ({"JAX_NUM_PROCESSES": "2"}, "error: JAX_NUM_PROCESSES: training in several processes needs KERAS_BACKEND=jax"),
        ({"JAX_NUM_PROCESSES": "2", "KERAS_BACKEND": "jax"}, "error: JAX_COORDINATOR_ADDRESS: not set; several"),
        (
            {"SRLIB_LAUNCHED": "1", "KERAS_BACKEND": "jax", "SRLIB_HEARTBEAT": "soon"},
            "error: SRLIB_HEARTBEAT: expected",
        ),
        ({"SRLIB_LAUNCHED": "1", "KERAS_BACKEND": "jax"}, "error: several processes: coordinator_address should be"),
    ],
)
def test_a_mistake_is_one_line(variables: dict[str, str], message: str) -> None:
    done = launch(**variables)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


ADDRESS = {"JAX_COORDINATOR_ADDRESS": "first:1234"}


@pytest.mark.parametrize(
    ("variables", "count", "index"),
    [
        ({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}, 4, 3),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, 2, 0),
    ],
)
def test_numbered_processes(variables: dict[str, str], count: int, index: int) -> None:
    place = distributed._place(ADDRESS | variables)
    assert (place["num_processes"], place["process_id"]) == (count, index)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"JAX_NUM_PROCESSES": "4"}, "JAX_PROCESS_ID: not set"),
        ({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "4"}, r"JAX_PROCESS_ID: expected less than .*\(4\), got 4"),
        (
            {"JAX_NUM_PROCESSES": "four", "JAX_PROCESS_ID": "0"},
            "JAX_NUM_PROCESSES: expected .*'four'",
        ),
    ],
)
def test_mistakes_in_numbers(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SrlibError, match=message):
        distributed._place(ADDRESS | variables)


def test_open_mpi_4_and_slurm_are_left_to_jax() -> None:
    assert distributed._place({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "x"}) == {"local_device_ids": None}
    assert distributed._place({"SLURM_NTASKS": "2"}) == {"local_device_ids": None}


@pytest.mark.parametrize(
    ("visible", "tasks", "hosts", "index", "expected"),
    [
        ("0,1,2,3,4,5,6,7", 32, 4, 3, [3]),  # a process for each GPU
        ("0,1,2,3", 2, 2, 0, [0, 1, 2, 3]),  # a process for each host
        ("0,1,2,3", 2, 1, 1, [2, 3]),
        ("0", 8, 1, 5, [0]),  # --gpus-per-task=1: each process sees one GPU, as number 0
        ("", 2, 1, 1, None),  # no GPUs
    ],
)
def test_gpus_of_a_slurm_process(visible: str, tasks: int, hosts: int, index: int, expected: list[int] | None) -> None:
    variables = {"SLURM_NTASKS": str(tasks), "SLURM_STEP_NUM_NODES": str(hosts), "SLURM_LOCALID": str(index)}
    assert distributed._slurm_gpus(variables | {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_a_single_process_is_the_main_one_and_waits_for_nobody() -> None:
    assert (distributed.rank(), distributed.world(), distributed.is_main()) == (0, 1, True)
    assert distributed.gather({"a": 1}) == [{"a": 1}]
    values = [np.float32([-0.0, 1.5])]
    assert distributed.broadcast(values)[0].tobytes() == values[0].tobytes()
    assert distributed.agreed_signal(None) is None and distributed.agreed_signal(15) == 15
    distributed.leave()


def test_an_error_of_a_single_process_is_raised_as_usual() -> None:
    with pytest.raises(KeyError), distributed.ended_at_once(), distributed.collective():
        raise KeyError
