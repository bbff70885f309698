"""Speed and peak memory of each engine that upscales an image: the reason for the default engine.

    python benchmarks/upscale.py MODEL_DIR [--torch-python PYTHON] [--sizes 480x270 1920x1080] [--repeats 3]

MODEL_DIR is a trained model of the pipeline (config.json, model.weights.h5); it is exported to ONNX and OpenVINO first.
Each engine runs in a fresh process, on the same random image, with all cores that this process may use: Keras
(TensorFlow), ONNX Runtime, OpenVINO and PyTorch on the whole image, then `srlib` itself (OpenVINO in tiles, uint8 in
and out). PyTorch, which srlib does not need, runs the ONNX file's operators in an environment of its own and is timed
where it knows all of them. Printed are megapixels of output per second, median and best, and the
largest resident memory. An image that does not fit into memory is reported by the signal that ended the process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ENGINES = (
    "keras float32",
    "onnxruntime float32",
    "openvino float32",
    "openvino bfloat16",
    "torch float32",
    "torch bfloat16",
    "srlib float32",
    "srlib bfloat16",
)


def keras_engine(folder: Path, precision: str) -> Callable:
    from srlib.engine import pin_threads

    pin_threads()
    import tensorflow as tf

    from srlib.models import load_model

    model, _ = load_model(folder / "keras")
    graph = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec([1, None, None, 3])])
    return lambda lr: graph(tf.constant(lr[None])).numpy()


def onnxruntime_engine(folder: Path, precision: str) -> Callable:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda lr: session.run(None, {"lr": lr[None]})


def openvino_engine(folder: Path, precision: str) -> Callable:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32", "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(folder / "openvino" / "model.xml", "CPU", options).create_infer_request()
    return lambda lr: request.infer(openvino.Tensor(lr[None]), share_inputs=True, share_outputs=True)


def srlib_engine(folder: Path, precision: str) -> Callable:
    from srlib.inference.upscaler import open_model

    upscaler = open_model(str(folder / "openvino"), precision=precision)
    return lambda lr: upscaler((lr * 255).astype("uint8"))


def torch_engine(folder: Path, precision: str) -> Callable:
    """Run the graph that `torch_graph` wrote, node by node, channels last."""
    import numpy as np
    import torch
    from torch.nn import functional as f

    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    graph = json.loads((folder / "torch.json").read_text())
    arrays = np.load(folder / "torch.npz")
    constants = {}
    for name in arrays.files:
        value = torch.from_numpy(arrays[name])
        if value.is_floating_point():
            value = value.to(kind)
            value = value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
        constants[name] = value

    kinds = {1: kind, 6: torch.int32, 7: torch.int64}

    def part(x: list, a: dict) -> "torch.Tensor":
        axes = x[3].tolist() if len(x) > 3 else range(x[0].ndim)
        for axis, start, stop in zip(axes, x[1].tolist(), x[2].tolist(), strict=True):
            x[0] = x[0].narrow(axis, start, min(stop, x[0].shape[axis]) - start)
        return x[0]

    def unsqueeze(x: list, a: dict) -> "torch.Tensor":
        for axis in sorted(x[1].tolist()):
            x[0] = x[0].unsqueeze(axis)
        return x[0]

    def conv(x: list, a: dict) -> "torch.Tensor":
        return f.conv2d(x[0], x[1], x[2] if len(x) > 2 else None, padding=x[1].shape[2] // 2)

    operations = {
        "Conv": conv,
        "Relu": lambda x, a: f.relu(x[0]),
        "Sigmoid": lambda x, a: torch.sigmoid(x[0]),
        "Add": lambda x, a: x[0] + x[1],
        "Sub": lambda x, a: x[0] - x[1],
        "Mul": lambda x, a: x[0] * x[1],
        "Concat": lambda x, a: torch.cat(x, a["axis"]),
        "Cast": lambda x, a: x[0].to(kinds[a["to"]]),
        "Shape": lambda x, a: torch.tensor(x[0].shape),
        "Slice": part,
        "Squeeze": lambda x, a: x[0].squeeze(tuple(x[1].tolist())),
        "Unsqueeze": unsqueeze,
        "Reshape": lambda x, a: x[0].reshape(x[1].tolist()),
        "Tile": lambda x, a: x[0].repeat(x[1].tolist()),
        "Transpose": lambda x, a: x[0].permute(a["perm"]),
        "DepthToSpace": lambda x, a: _depth_to_space(x[0], a["blocksize"]),
    }
    unknown = {node["op"] for node in graph} - set(operations)
    if unknown:
        sys.exit(f"not timed: the network has {', '.join(sorted(unknown))}")

    def run(lr: "np.ndarray") -> "torch.Tensor":
        values = {**constants, "lr": torch.from_numpy(lr[None]).to(kind)}
        left = {name: sum(name in node["in"] for node in graph) for node in graph for name in node["out"]}
        with torch.inference_mode():
            for node in graph:
                values[node["out"][0]] = operations[node["op"]]([values[name] for name in node["in"]], node["a"])
                for name in set(node["in"]) & set(left):
                    left[name] -= 1
                    if not left[name]:
                        del values[name]
            return values["sr"].float().contiguous()

    return run


def _depth_to_space(x: "torch.Tensor", block: int) -> "torch.Tensor":  # noqa: F821
    """Compute ONNX's mode DCR: the channel is the last of (row, column, channel)."""
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // block**2, h * block, w * block)


def torch_graph(folder: Path) -> None:
    """Convert the ONNX file for an environment with PyTorch and NumPy only."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(folder / "onnx" / "model.onnx").graph
    nodes = [
        {
            "op": node.op_type,
            "in": [name for name in node.input if name],
            "out": list(node.output),
            "a": {
                item.name: list(item.ints) or item.i
                for item in node.attribute
                if item.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS)
            },
        }
        for node in graph.node
    ]
    (folder / "torch.json").write_text(json.dumps(nodes))
    np.savez(folder / "torch.npz", **{value.name: numpy_helper.to_array(value) for value in graph.initializer})


def measure(engine: str, folder: Path, height: int, width: int, repeats: int) -> None:
    """Print the seconds of each repeat and the peak memory as JSON, in a fresh process."""
    import numpy as np

    if (mine := Path("/proc/self/oom_score_adj")).exists():
        mine.write_text("1000")  # if memory runs out, this process is killed first
    name, precision = engine.split()
    run = globals()[f"{name}_engine"](folder, precision)
    lr = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run(lr)
        seconds.append(time.perf_counter() - start)
    # Not getrusage's ru_maxrss, which includes the parent's peak from before exec.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"seconds": seconds[1:] or seconds, "peak": int(status["VmHWM"].split()[0]) / 1024}))


def main() -> None:
    """Export the model, run each engine by itself and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--torch-python", default=None, help="Python with PyTorch (default: PyTorch is not timed)")
    parser.add_argument("--sizes", nargs="+", default=["480x270", "1920x1080"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        engine, width, height = options.one
        measure(engine, options.model, int(height), int(width), options.repeats)
        return
    from srlib.inference.export import export

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "keras").symlink_to(options.model.resolve())
        for form in ("onnx", "openvino"):
            export(options.model, folder / form, format=form)
        config = json.loads((folder / "openvino" / "config.json").read_text())
        torch_graph(folder)
        print(f"{config['title']} ×{config['scale']}\n")
        print("| engine | image | MP/s | best | peak memory, MB |\n|---|---|---:|---:|---:|")
        for size in options.sizes:
            width, height = size.split("x")
            for engine in options.engines:
                if engine.startswith("torch") and not options.torch_python:
                    continue
                python = options.torch_python if engine.startswith("torch") else sys.executable
                command = [python, __file__, str(folder), "--repeats", str(options.repeats)]
                done = subprocess.run(
                    [*command, "--one", engine, width, height], capture_output=True, text=True, env=dict(os.environ)
                )
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
                    print(f"| {engine} | {size} | {reason} | | |", flush=True)
                    continue
                result = json.loads(done.stdout.splitlines()[-1])
                megapixels = int(width) * int(height) * config["scale"] ** 2 / 1e6
                median, best = (megapixels / pick(result["seconds"]) for pick in (statistics.median, min))
                print(f"| {engine} | {size} | {median:.2f} | {best:.2f} | {result['peak']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
