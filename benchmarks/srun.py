"""A stand-in for Slurm's srun on one machine: start a program several times with the variables that Slurm sets.

    SRLIB_LAUNCHER="python benchmarks/srun.py 2" dvc repro

A signal goes to every process. After the first process that fails the others have 60 seconds (SRUN_PATIENCE); what is
left then is killed. The exit status is that of the first process that failed, 128 + the signal for a killed one, or 0.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time

PATIENCE = float(os.environ.get("SRUN_PATIENCE", "60"))


def main(count: int, program: list[str]) -> int:
    """Start the processes and wait for them."""
    job = {
        "SLURM_JOB_ID": str(random.randrange(4096)),  # JAX derives the port from it
        "SLURM_NTASKS": str(count),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_STEP_NUM_NODES": "1",
    }
    processes = [
        subprocess.Popen(program, env={**os.environ, **job, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)})
        for i in range(count)
    ]
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, frame: [p.send_signal(number) for p in processes if p.poll() is None])
    failed, deadline = 0, float("inf")
    while None in [process.poll() for process in processes]:  # a list: each of them must be asked
        status = next((p.returncode for p in processes if p.returncode), 0)
        if status and not failed:
            failed, deadline = status, time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.02)
    failed = failed or next((p.returncode for p in processes if p.returncode), 0)
    return failed if failed >= 0 else 128 - failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="number of processes")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="the program with its arguments")
    options = parser.parse_args()
    sys.exit(main(options.count, options.program))
