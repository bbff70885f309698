import keras
import numpy as np
import pytest
from keras import ops

from srlib.training.optimizers import Adam, Muon, orthogonalize


def variable(*values: float, name: str = "v") -> keras.Variable:
    return keras.Variable(np.array(values, np.float32), name=name)


def test_without_options_it_is_adam() -> None:
    ours, theirs = variable(1.0, -2.0), variable(1.0, -2.0)
    mine, reference = Adam(), keras.optimizers.Adam(1e-2, epsilon=1e-8)
    mine.build([ours])
    mine.learning_rate = 1e-2
    for step in range(5):
        gradient = ops.convert_to_tensor(np.array([step - 2.0, 0.3], np.float32))
        mine.apply([gradient], [ours])
        reference.apply([gradient], [theirs])
    np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_each_group_is_clipped_by_its_own_norm() -> None:
    generator, discriminator = [variable(0.0, name="g1"), variable(0.0, name="g2")], [variable(0.0, name="d")]
    optimizer = Adam(clip_norm=1.0, groups=[generator, discriminator])
    gradients = [ops.convert_to_tensor(np.array([g], np.float32)) for g in (3.0, 4.0, 0.5)]
    clipped = optimizer._clip(list(gradients), [*generator, *discriminator])
    assert [float(ops.convert_to_numpy(g)[0]) for g in clipped] == pytest.approx([0.6, 0.8, 0.5])


def test_the_average_is_a_warmed_up_moving_average() -> None:
    v = variable(0.0)
    optimizer = Adam(average=0.9)
    optimizer.build([v])
    optimizer.learning_rate = 0.1
    expected = None
    for n in range(30):
        optimizer.apply([ops.convert_to_tensor(np.array([1.0], np.float32))], [v])
        decay = min(0.9, n / (9 + n))
        now = float(ops.convert_to_numpy(v)[0])
        expected = now if expected is None else decay * expected + (1 - decay) * now
    raw = float(ops.convert_to_numpy(v)[0])
    with optimizer.averaged_weights():
        assert float(ops.convert_to_numpy(v)[0]) == pytest.approx(expected, rel=1e-5)
    assert float(ops.convert_to_numpy(v)[0]) == raw


def test_only_the_named_variables_are_averaged() -> None:
    generator, discriminator = variable(0.0, name="g"), variable(0.0, name="d")
    optimizer = Adam(average=0.9, averaged=[generator])
    optimizer.build([generator, discriminator])
    assert [own for own, _ in optimizer._averaged_pairs] == [generator]


def test_adamw_is_that_of_the_paper() -> None:
    """Algorithm 2 of Loshchilov & Hutter (2019) in NumPy, with the decay multiplied by the learning rate."""
    random = np.random.default_rng(0)
    start = random.normal(size=(3, 2)).astype(np.float32)
    kernel = keras.Variable(start, name="kernel")
    optimizer = Adam(weight_decay=0.1)
    optimizer.build([kernel])
    w, m, v = start.astype(np.float64), 0.0, 0.0
    for t in range(1, 21):
        gradient, rate = random.normal(size=(3, 2)).astype(np.float32), 0.01 / t
        optimizer.learning_rate = rate
        optimizer.apply([ops.convert_to_tensor(gradient)], [kernel])
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient.astype(np.float64) ** 2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = w - rate * (step + 0.1 * w)
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), w, rtol=1e-4)
    assert np.abs(w - start).max() > 0.01


def test_only_kernels_decay() -> None:
    lr = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(2, 3, name="a")(lr)
    x = keras.layers.BatchNormalization(name="b")(x)
    x = keras.layers.PReLU(shared_axes=[1, 2], alpha_initializer="ones", name="c")(x)
    x = keras.layers.Conv2DTranspose(1, 3, 2, name="d")(x)
    model = keras.Model(lr, x)
    for variable in model.trainable_variables:
        variable.assign(ops.ones_like(variable))
    optimizer = Adam(weight_decay=0.5)
    optimizer.build(model.trainable_variables)
    optimizer.learning_rate = 0.1
    optimizer.apply([ops.zeros_like(v) for v in model.trainable_variables], model.trainable_variables)
    values = {v.path: float(ops.max(v)) for v in model.trainable_variables}
    decayed = {path for path, value in values.items() if value != 1}
    assert decayed == {"a/kernel", "d/kernel"}
    assert [values[path] for path in sorted(decayed)] == pytest.approx([0.95, 0.95])


def test_the_averages_and_nothing_of_the_model_are_the_optimizers_own() -> None:
    """A weight among them would be saved twice, and JAX refuses to give one buffer away twice."""
    v, w = variable(0.0), variable(1.0, 2.0, name="w")
    optimizer = Adam(average=0.9, averaged=[w])
    optimizer.build([v, w])
    assert not {id(v), id(w)} & {id(own) for own in optimizer.variables}
    assert len(optimizer.variables) == 2 + 2 * 2 + 1, "step and rate, two moments each, one average"


class TestMuon:
    @pytest.mark.parametrize("shape", [(3, 40, 8), (2, 8, 40), (1, 16, 16)])
    def test_singular_values_are_made_alike_and_directions_stay(self, shape: tuple[int, ...]) -> None:
        """Against NumPy's singular value decomposition: U and V stay, S lies in the band that Jordan states."""
        x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        found = np.asarray(ops.convert_to_numpy(orthogonalize(ops.convert_to_tensor(x))), np.float64)
        for matrix, made in zip(x, found, strict=True):
            u, s, vt = np.linalg.svd(matrix, full_matrices=False)
            core = u.T @ made @ vt.T
            kept = s > 0.05 * np.linalg.norm(s)
            np.testing.assert_allclose(core - np.diag(np.diag(core)), 0, atol=1e-4)
            np.testing.assert_allclose(u @ core @ vt, made, atol=1e-4)
            assert np.diag(core)[kept].min() > 0.65 and np.diag(core).max() < 1.25

    def test_it_is_the_formula_on_hidden_kernels_and_adam_on_the_rest(self) -> None:
        """Momentum, Nesterov's look-ahead and the length of the step in NumPy, with the exact polar factor."""
        random = np.random.default_rng(0)
        shapes = {"first": (3, 3, 2, 4), "hidden": (3, 3, 4, 4), "wide": (1, 1, 4, 8), "last": (3, 3, 8, 1)}
        starts = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        kernels = {name: keras.Variable(value, name="kernel") for name, value in starts.items()}
        bias = variable(0.5, name="bias")
        muon, adam = Muon(), Adam()
        theirs = {name: keras.Variable(value, name="kernel") for name, value in starts.items()}
        their_bias = variable(0.5, name="bias")
        muon.build([*kernels.values(), bias])
        adam.build([*theirs.values(), their_bias])
        muon.learning_rate = adam.learning_rate = 1e-3
        momentum = {name: np.zeros(shape) for name, shape in shapes.items()}
        expected = {name: value.astype(np.float64) for name, value in starts.items()}
        for _ in range(3):
            gradients = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
            tensors = [*map(ops.convert_to_tensor, gradients.values()), ops.convert_to_tensor(np.float32([0.1]))]
            muon.apply(list(tensors), [*kernels.values(), bias])
            adam.apply(list(tensors), [*theirs.values(), their_bias])
            for name in ("hidden", "wide"):
                momentum[name] = 0.95 * momentum[name] + gradients[name]
                ahead = (gradients[name] + 0.95 * momentum[name]).reshape(-1, shapes[name][-1])
                u, _, vt = np.linalg.svd(ahead, full_matrices=False)
                expected[name] -= 1e-3 * 0.2 * max(ahead.shape) ** 0.5 * (u @ vt).reshape(shapes[name])
        for name in ("first", "last"):
            np.testing.assert_array_equal(ops.convert_to_numpy(kernels[name]), ops.convert_to_numpy(theirs[name]))
        np.testing.assert_array_equal(ops.convert_to_numpy(bias), ops.convert_to_numpy(their_bias))
        for name in ("hidden", "wide"):
            moved, wanted = ops.convert_to_numpy(kernels[name]) - starts[name], expected[name] - starts[name]
            assert np.corrcoef(moved.ravel(), wanted.ravel())[0, 1] > 0.97
            assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(wanted), rel=0.25)

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_without_a_hidden_kernel_it_is_adam(self, count: int) -> None:
        ours, theirs = ([keras.Variable(np.ones((3, 3, 2, 2)), name="kernel") for _ in range(count)] for _ in "ab")
        ours, theirs = [*ours, variable(1.0)], [*theirs, variable(1.0)]
        gradients = [ops.convert_to_tensor(np.full(v.shape, 0.3, np.float32)) for v in ours]
        for optimizer, variables in ((Muon(clip_norm=1.0), ours), (Adam(clip_norm=1.0), theirs)):
            optimizer.build(variables)
            optimizer.apply(list(gradients), variables)
        for mine, reference in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(mine), ops.convert_to_numpy(reference))
