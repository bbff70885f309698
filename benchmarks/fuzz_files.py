"""Damaged models, graphs, recipes, answers and notes: each gives a value or one line, never another error.

    python benchmarks/fuzz_files.py [--files 1000] [--seed 0] [--only KIND …]

A valid file of each kind is damaged in `--files` ways: in its bytes, as in fuzz_prepare.py, or, for JSON and YAML, in
its values, by other types, odd numbers, deep or missing parts; or, for the state of a training, in its arrays, by other
shapes and types, wrong declarations and compressed zeros. It is then read as srlib reads it. An error other than
SrlibError, more than one line, more than `--seconds` for a file, or a peak of memory that grows by 1 GiB is a failure.
Networks that can be read are run on a small image. Prints a table; exits with 1 on any failure.
"""

import argparse
import contextlib
import copy
import dataclasses
import functools
import hashlib
import io
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import h5py
import tensorflow as tf
from onnx import TensorProto, helper

from benchmarks.fuzz_prepare import MUTATIONS
from srlib.data.batches import open_pairs, read_index
from srlib.data.degradation import read_degradation
from srlib.engine import pin_threads
from srlib.errors import SrlibError
from srlib.evaluation.graphs import load_graph
from srlib.inference.exported import BIN, CONFIG, XML, ExportedModel, read_exported
from srlib.inference.runtime import CompiledNetwork
from srlib.inference.shipped import SHIPPED
from srlib.models import MODELS, WEIGHTS, load_model, read_config
from srlib.models.features import feature_network
from srlib.params import load_params
from srlib.pipeline import resume
from srlib.pipeline.dvc import recorded_outputs
from srlib.survey.answers import read_key, read_page
from srlib.training.callbacks import Callback, DivergenceGuard, LossLog, Validation
from srlib.training.checkpoint import FILE as STATE
from srlib.training.checkpoint import load_checkpoint, save_checkpoint
from srlib.training.metric_log import MetricLog
from srlib.training.pretrain import pixel_trainer
from srlib.training.session import Snapshot, TrainingSession, copy_weights

ROOT = Path(__file__).resolve().parents[1]

ODD_VALUES: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 2**31, 2**63, 10**300, 1e308, float("nan"), float("inf"), "", "4", "x" * 5000),
    *("\0", "\ud800", "../../x", [], {}, [[]], {"": 0}, [1, "a", None], {"a": {"b": []}}),
)

Read = Callable[[Path], object]
Change = Callable[[bytes, np.random.Generator], bytes]

LARGEST_GROWTH = 2**30
"""Bytes by which a file may raise the peak of memory."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Name in the table, and of the file.
        content: A valid file.
        read: Function that reads a file, which raises SrlibError if it is not usable.
        changed: Function that changes the content in ways of its own, beside damage of its bytes; None: only that.
    """

    name: str
    content: bytes
    read: Read
    changed: Change | None = None


def changed_value(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace, remove, add or nest one value anywhere in a JSON or YAML text."""
    root = {"": copy.deepcopy(yaml.safe_load(content))}
    places: list[tuple[dict | list, object]] = []
    waiting: list[object] = [root]
    while waiting:
        part = waiting.pop()
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        places += [(part, key) for key in keys]
        waiting += [part[key] for key in keys]
    container, key = places[rng.integers(len(places))]
    odd = copy.deepcopy(ODD_VALUES[rng.integers(len(ODD_VALUES))])
    action = rng.integers(6)
    if action == 0 and container is not root:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container["unknown"] = odd
    elif action == 2:
        container[key] = [container[key]]
    else:
        container[key] = odd
    if action == 5 and rng.integers(4) == 0:
        return b'{"a":' * int(rng.choice([50, 5000, 200_000])) + b"1"
    return json.dumps(root[""]).encode("utf-8", "surrogatepass")


def changed_state(content: bytes, rng: np.random.Generator) -> bytes:
    """Change the arrays of a training's state, the JSON among them, or what the file declares of them."""
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    name = str(rng.choice(list(arrays)))
    array = arrays[name]
    odd = [array.astype(kind) for kind in (np.float64, np.int8, np.bool_, np.complex64, ">f4", "U1")]
    odd += [array[None], array.reshape(-1)[:-1], np.zeros(()), np.full(9, np.nan, np.float32)]
    action = rng.integers(5)
    if action == 0:
        del arrays[name]
    elif action == 1:
        text = changed_value(arrays["state"].tobytes(), rng)
        arrays["state"] = np.frombuffer(text, np.uint8)
    elif action == 2:
        arrays[name] = odd[rng.integers(len(odd))]
    elif action == 3:  # half a gigabyte of zeros takes half a megabyte
        arrays[name] = np.zeros(2**29, np.uint8) if rng.integers(20) == 0 else array
        np.savez_compressed(buffer := io.BytesIO(), **arrays)
        return buffer.getvalue()
    np.savez(buffer := io.BytesIO(), **arrays)
    if action == 4:
        shape = f"{array.shape}".encode()
        huge = str(rng.choice([10**6, 10**10, 10**18, -1])).encode()
        return buffer.getvalue().replace(shape, b"(" + huge + b",)".ljust(len(shape) - len(huge) - 1))
    return buffer.getvalue()


def training_state(folder: Path) -> tuple[bytes, Callable[[], object]]:
    """Return the state of a small training, and a function that loads what is in its folder."""
    params = load_params(ROOT / "tests/recipe.yaml", stage=None)
    section = params.pretrain.model_copy(update={"model": MODELS["edsr"](blocks=1, filters=8), "optimizer": "adam"})
    params = params.model_copy(update={"pretrain": section})
    trainer = pixel_trainer(params)
    pairs = (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 32, 32, 3), np.uint8))

    def session() -> tuple[TrainingSession, list[Callback]]:
        guard = DivergenceGuard(section, lambda _: "")
        callbacks = [
            guard,
            LossLog(section.log_every),
            Validation(pairs, section.validate_every, guard, keep_best=True),
        ]
        return TrainingSession("pretrain", trainer, 300, MetricLog(folder)), callbacks

    def load() -> object:
        if not load_checkpoint(folder, *session()):
            raise SrlibError("starts afresh")
        return None

    begun, callbacks = session()
    begun.step = 50
    begun.log.loss.append({"step": 50.0, "loss": 0.1})
    begun.snapshots["best"] = Snapshot(50, copy_weights(trainer.network))
    save_checkpoint(folder, begun, callbacks)
    return (folder / STATE).read_bytes(), load


def run_network(folder: Path) -> object:
    """Read an exported model and run it."""
    network = CompiledNetwork(read_exported(folder), precision="float32")
    return network(np.zeros((6, 7, 3), np.float32))


def run_unchecked(folder: Path, graph: bytes, weights: bytes) -> object:
    """Run a graph whose SHA-256 agrees with its config: the attacker wrote both."""
    model = ExportedModel(read_exported(folder).config, graph, weights)
    return CompiledNetwork(model, precision="float32")(np.zeros((6, 7, 3), np.float32))


def run_foreign(path: Path) -> object:
    """Load a graph of another tool, run it, and count its multiply-adds."""
    graph = load_graph(path, 3, 4)
    return graph.run(np.zeros((1, 6, 7, 3), np.float32)), graph.cost.multiply_adds(6, 7)


def frozen_graph() -> bytes:
    with tf.Graph().as_default() as graph:
        lr = tf.compat.v1.placeholder(tf.float32, [1, None, None, 3], name="lr")
        kernel = tf.constant(np.full((3, 3, 3, 48), 0.01, np.float32))
        tf.identity(tf.nn.depth_to_space(tf.nn.conv2d(lr, kernel, 1, "SAME"), 4), name="sr")
    return graph.as_graph_def().SerializeToString()


def onnx_graph() -> bytes:
    kernel = helper.make_tensor("w", TensorProto.FLOAT, (48, 3, 3, 3), np.full(48 * 27, 0.01, np.float32).tolist())
    nodes = [
        helper.make_node("Conv", ["lr", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["a"], ["sr"], blocksize=4),
    ]
    lr = helper.make_tensor_value_info("lr", TensorProto.FLOAT, [1, 3, "h", "w"])
    sr = helper.make_tensor_value_info("sr", TensorProto.FLOAT, [1, 3, "H", "W"])
    graph = helper.make_graph(nodes, "g", [lr], [sr], [kernel])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def feature_weights() -> bytes:
    network = feature_network("squeezenet", ["fire2"])
    with h5py.File(buffer := io.BytesIO(), "w") as file:
        for layer in network.layers:
            if layer.weights:
                group = file.create_group(layer.name)
                group.attrs["weight_names"] = [b"kernel", b"bias"]
                for name, value in zip(("kernel", "bias"), layer.get_weights(), strict=True):
                    group[name] = value
    return buffer.getvalue()


def patches(folder: Path) -> None:
    for split, count in (("train", 3), ("validation", 1)):
        for kind, side in (("lr", 8), ("hr", 32)):
            np.save(folder / f"{split}_{kind}.npy", np.zeros((count, side, side, 3), np.uint8))


def survey_files(folder: Path) -> tuple[bytes, bytes]:
    """Return a page and its key."""
    from srlib.imaging.write import write_png
    from srlib.survey.page import SurveyOptions, make_page

    rng = np.random.default_rng(0)
    for method in ("bicubic", "original"):
        for name in "abc":
            write_png(folder / "images/Set5" / method / f"{name}.png", rng.integers(0, 256, (20, 20, 3), np.uint8))
    make_page(folder / "images", folder / "page.html", folder / "key.json", SurveyOptions(examples=1))
    return (folder / "page.html").read_bytes(), (folder / "key.json").read_bytes()


def kinds(folder: Path) -> Iterator[Kind]:
    """Yield every kind of file, each read below `folder`."""
    shipped, keras = SHIPPED / "psnr-x4", SHIPPED / "psnr-x4" / "keras"
    for name, source in (("exported", shipped), ("keras", keras)):
        shutil.copytree(source, folder / name)
    own = folder / "keras"

    def into(place: Path, read: Callable[[], object]) -> Read:
        def put(path: Path) -> object:
            before = place.read_bytes()
            place.write_bytes(path.read_bytes())
            try:
                return read()
            finally:
                place.write_bytes(before)

        return put

    exported = folder / "exported"
    graph, weights = (exported / XML).read_bytes(), (exported / BIN).read_bytes()
    yield Kind(
        "exported config.json",
        (exported / CONFIG).read_bytes(),
        into(exported / CONFIG, lambda: run_network(exported)),
        changed_value,
    )
    yield Kind("exported model.xml", graph, lambda path: run_unchecked(exported, path.read_bytes(), weights))
    yield Kind("exported model.bin", weights, lambda path: run_unchecked(exported, graph, path.read_bytes()))
    yield Kind(
        "keras config.json", (own / CONFIG).read_bytes(), into(own / CONFIG, lambda: read_config(own)), changed_value
    )
    yield Kind("keras weights", (own / WEIGHTS).read_bytes(), into(own / WEIGHTS, lambda: load_model(own)))
    (folder / "damaged-graph.bin").write_bytes(weights)
    yield Kind("graph.pb", frozen_graph(), run_foreign)
    yield Kind("graph.onnx", onnx_graph(), run_foreign)
    yield Kind("graph.xml", graph, run_foreign)
    yield Kind("features.h5", feature_weights(), lambda path: feature_network("squeezenet", ["fire2"], weights=path))
    recipe = (ROOT / "tests/recipe.yaml").read_bytes()
    yield Kind("params.yaml", recipe, functools.partial(load_params, stage=None), changed_value)
    page, key = survey_files(folder)
    yield Kind("survey page.html", page, read_page)
    yield Kind("survey key.json", key, read_key, changed_value)
    survey = read_key(folder / "key.json").public
    items = survey.presentation("a")
    answers = {
        "format": "srlib survey answers 1",
        "survey": survey.survey,
        "rater": "a",
        "revision": 1,
        "language": "en",
    }
    answers |= {"votes": [[item, 3] for item in items], "seal": "0" * 64}
    yield Kind(
        "survey answers.json", json.dumps(answers).encode(), lambda path: survey.check(path.read_bytes()), changed_value
    )
    note = {"facts": {"params": {"seed": 1}}, "run": "a", "outputs": {"models/a": "0" * 32}}
    yield Kind("resume note.json", json.dumps(note).encode(), resume._read, changed_value)
    state, load = training_state(folder)
    yield Kind("training state.npz", state, into(folder / STATE, load), changed_state)
    patches(folder)
    lr = folder / "train_lr.npy"
    yield Kind("patches train_lr.npy", lr.read_bytes(), into(lr, lambda: open_pairs(folder, "train", in_memory=True)))
    index = b"split,row,image,size,y,x\n" + b"".join(b"train,%d,a.png,1.0,0,0\n" % row for row in range(3))
    (folder / "index.csv").write_bytes(index)
    yield Kind("patches index.csv", index, into(folder / "index.csv", lambda: read_index(folder, "train", 3)))
    passes = {"clean": 0.1, "passes": [{"blur": {"sigma": [0.2, 3.0]}}]}
    (folder / "degradation.json").write_text(json.dumps(passes))
    degradation = folder / "degradation.json"
    yield Kind(
        "degradation.json", degradation.read_bytes(), into(degradation, lambda: read_degradation(folder)), changed_value
    )
    lock = {"schema": "2.0", "stages": {"prepare": {"cmd": "x", "outs": [{"path": "data/patches", "md5": "0" * 32}]}}}
    yield Kind("dvc.lock", yaml.safe_dump(lock).encode(), recorded_outputs, changed_value)


def damaged(kind: Kind, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged files of a kind with the name of the damage; the same seed gives the same files."""
    rng = np.random.default_rng([seed, *hashlib.sha256(kind.name.encode()).digest()[:4]])
    for number in range(count):
        if kind.changed and number % 4:
            yield kind.changed.__name__, kind.changed(kind.content, rng)
        else:
            mutation = MUTATIONS[number // (4 if kind.changed else 1) % len(MUTATIONS)]
            yield mutation.__name__, mutation(kind.content, rng)


def attempt(kind: Kind, content: bytes, path: Path, seconds: float) -> tuple[bool, str]:
    """Read a damaged file; return whether it was accepted, and what went wrong or an empty text."""
    path.write_bytes(content)
    start, before = time.perf_counter(), peak()
    is_accepted, problem = False, ""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            kind.read(path)
        is_accepted = True
    except SrlibError as error:
        # A recipe has one line per mistake.
        problem = f"several lines: {error}" if "\n" in str(error) and kind.name != "params.yaml" else ""
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error)[:200]}"
    if (took := time.perf_counter() - start) > seconds:
        problem = problem or f"{took:.0f} s"
    if (growth := peak() - before) > LARGEST_GROWTH:
        problem = problem or f"{growth / 2**30:.1f} GiB of memory"
    return is_accepted, problem


def peak() -> int:
    """Return the largest memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    """Damage and read files of every kind, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="words in the names of kinds")
    options = parser.parse_args()
    pin_threads()
    failures = []
    print(f"{'kind':24} accepted refused failures")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for kind in kinds(folder):
            if options.only and not any(word in kind.name for word in options.only):
                continue
            path = folder / f"damaged-{kind.name.replace(' ', '-')}"
            accepted, before = 0, len(failures)
            for number, (damage, content) in enumerate(damaged(kind, options.files, options.seed)):
                is_accepted, problem = attempt(kind, content, path, options.seconds)
                accepted += is_accepted
                if problem:
                    failures.append(f"{kind.name}, {damage}, {number}: {problem}")
            wrong = len(failures) - before
            print(f"{kind.name:24} {accepted:8} {options.files - accepted - wrong:7} {wrong:8}", flush=True)
    for failure in failures[:60]:
        print("FAILURE", failure)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
