import keras
import numpy as np
import pytest
from keras import ops

from srlib.params import LearningRate
from srlib.training.averaging import ExponentialMovingAverage
from srlib.training.optimizers import (
    CombinedOptimizer,
    Muon,
    NetworkUpdate,
    clip_by_norm,
    make_optimizer,
    orthogonalize,
)


def variable(*values: float, name: str = "v") -> keras.Variable:
    return keras.Variable(np.array(values, np.float32), name=name)


def tensor(*values: float):
    return ops.convert_to_tensor(np.array(values, np.float32))


def array(value) -> np.ndarray:
    return ops.convert_to_numpy(value)


def dense(units: int = 1, name: str = "dense") -> keras.Model:
    """A network with a kernel and a bias."""
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, name=name)])


def update(network: keras.Model, optimizer: str = "adam", **parts) -> NetworkUpdate:
    made = make_optimizer(optimizer, network.trainable_variables)
    return NetworkUpdate(network, made, LearningRate(peak=1e-3), **parts)


class TestMakeOptimizer:
    def test_adam_is_that_of_keras(self) -> None:
        ours, theirs = variable(1.0, -2.0), variable(1.0, -2.0)
        mine, reference = make_optimizer("adam", [ours]), keras.optimizers.Adam(1e-2, epsilon=1e-8)
        mine.learning_rate = 1e-2
        for step in range(5):
            gradient = tensor(step - 2.0, 0.3)
            mine.apply([gradient], [ours])
            reference.apply([gradient], [theirs])
        np.testing.assert_array_equal(array(ours), array(theirs))

    def test_adamw_is_that_of_the_paper(self) -> None:
        """Algorithm 2 of Loshchilov & Hutter (2019) in NumPy, with the decay multiplied by the learning rate."""
        random = np.random.default_rng(0)
        start = random.normal(size=(3, 2)).astype(np.float32)
        kernel = keras.Variable(start, name="kernel")
        optimizer = make_optimizer("adamw", [kernel], weight_decay=0.1)
        w, m, v = start.astype(np.float64), 0.0, 0.0
        for t in range(1, 21):
            gradient, rate = random.normal(size=(3, 2)).astype(np.float32), 0.01 / t
            optimizer.learning_rate = rate
            optimizer.apply([ops.convert_to_tensor(gradient)], [kernel])
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient.astype(np.float64) ** 2
            step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            w = w - rate * (step + 0.1 * w)
        np.testing.assert_allclose(array(kernel), w, rtol=1e-4)
        assert np.abs(w - start).max() > 0.01

    def test_only_kernels_decay(self) -> None:
        lr = keras.Input((None, None, 1))
        x = keras.layers.Conv2D(2, 3, name="a")(lr)
        x = keras.layers.BatchNormalization(name="b")(x)
        x = keras.layers.PReLU(shared_axes=[1, 2], alpha_initializer="ones", name="c")(x)
        x = keras.layers.Conv2DTranspose(1, 3, 2, name="d")(x)
        model = keras.Model(lr, x)
        for weight in model.trainable_variables:
            weight.assign(ops.ones_like(weight))
        optimizer = make_optimizer("adamw", model.trainable_variables, weight_decay=0.5)
        optimizer.learning_rate = 0.1
        optimizer.apply([ops.zeros_like(v) for v in model.trainable_variables], model.trainable_variables)
        values = {v.path: float(ops.max(v)) for v in model.trainable_variables}
        decayed = {path for path, value in values.items() if value != 1}
        assert decayed == {"a/kernel", "d/kernel"}
        assert [values[path] for path in sorted(decayed)] == pytest.approx([0.95, 0.95])

    def test_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected one of adam, adamw, muon, got 'sgd'"):
            make_optimizer("sgd", [variable(0.0)])


class TestClipping:
    def test_a_long_gradient_is_scaled_to_the_limit(self) -> None:
        clipped = clip_by_norm([tensor(3.0), tensor(4.0)], 1.0)
        assert [float(array(gradient)[0]) for gradient in clipped] == pytest.approx([0.6, 0.8])

    def test_a_short_gradient_stays_as_it_is(self) -> None:
        clipped = clip_by_norm([tensor(0.3), tensor(0.4)], 1.0)
        assert [array(gradient)[0] for gradient in clipped] == [np.float32(0.3), np.float32(0.4)]


class TestCombinedOptimizer:
    def networks(self) -> tuple[keras.Model, keras.Model]:
        return dense(name="generator"), dense(name="discriminator")

    def first_moments(self, part: NetworkUpdate) -> list[np.ndarray]:
        return [array(moment) for moment in part.optimizer._momentums]

    def test_each_network_is_clipped_by_its_own_norm(self) -> None:
        updates = [update(network, clip_norm=1.0) for network in self.networks()]
        optimizer = CombinedOptimizer(updates)
        variables = [v for part in updates for v in part.network.trainable_variables]
        optimizer.build(variables)
        values = [np.full(v.shape, size, np.float32) for v, size in zip(variables, (30, 40, 0.1, 0.1), strict=True)]
        optimizer.apply([ops.convert_to_tensor(value) for value in values], variables)
        long, short = (np.concatenate([m.ravel() for m in self.first_moments(part)]) * 10 for part in updates)
        assert np.linalg.norm(long) == pytest.approx(1.0, rel=1e-4)
        np.testing.assert_allclose(short, 0.1, rtol=1e-4)

    def test_networks_may_have_other_learning_rates(self) -> None:
        updates = [update(network) for network in self.networks()]
        optimizer = CombinedOptimizer(updates)
        variables = [v for part in updates for v in part.network.trainable_variables]
        optimizer.build(variables)
        before = [array(v).copy() for v in variables]
        for rate, value in zip(optimizer.learning_rates, (0.1, 0.001), strict=True):
            rate.assign(value)
        optimizer.apply([ops.ones_like(v) for v in variables], variables)
        moved = [float(np.abs(array(v) - old).mean()) for v, old in zip(variables, before, strict=True)]
        assert moved == pytest.approx([0.1, 0.1, 0.001, 0.001], rel=1e-3)

    def test_its_variables_are_those_of_the_parts_only(self) -> None:
        """A weight among them would be saved twice, and JAX refuses to give one buffer away twice."""
        generator, discriminator = self.networks()
        average = ExponentialMovingAverage(generator.trainable_variables, 0.9)
        optimizer = CombinedOptimizer([update(generator, average=average), update(discriminator)])
        weights = [*generator.variables, *discriminator.variables]
        optimizer.build([*generator.trainable_variables, *discriminator.trainable_variables])
        assert not {id(v) for v in weights} & {id(v) for v in optimizer.variables}
        assert len({id(v) for v in optimizer.variables}) == len(optimizer.variables)
        assert len(optimizer.variables) == 2 * (2 + 2 * 2) + 2 + 1, "step, rate, moments; averages and their count"

    def test_only_a_network_with_an_average_is_averaged(self) -> None:
        generator, discriminator = self.networks()
        average = ExponentialMovingAverage(generator.trainable_variables, 0.9)
        updates = [update(generator, average=average), update(discriminator)]
        optimizer = CombinedOptimizer(updates)
        variables = [*generator.trainable_variables, *discriminator.trainable_variables]
        optimizer.build(variables)
        for rate in optimizer.learning_rates:
            rate.assign(0.1)
        for _ in range(5):
            optimizer.apply([ops.ones_like(v) for v in variables], variables)
        current = [array(v).copy() for v in variables]
        with updates[0].averaged_weights(), updates[1].averaged_weights():
            same = [np.array_equal(array(v), value) for v, value in zip(variables, current, strict=True)]
        assert same == [False, False, True, True]


class TestMuon:
    @pytest.mark.parametrize("shape", [(3, 40, 8), (2, 8, 40), (1, 16, 16)])
    def test_singular_values_become_equal_and_directions_stay(self, shape: tuple[int, ...]) -> None:
        """Against NumPy's singular value decomposition: U and V stay, S lies in the band that Jordan states."""
        x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        results = np.asarray(array(orthogonalize(ops.convert_to_tensor(x))), np.float64)
        for matrix, result in zip(x, results, strict=True):
            u, s, vt = np.linalg.svd(matrix, full_matrices=False)
            core = u.T @ result @ vt.T
            large = s > 0.05 * np.linalg.norm(s)
            np.testing.assert_allclose(core - np.diag(np.diag(core)), 0, atol=1e-4)
            np.testing.assert_allclose(u @ core @ vt, result, atol=1e-4)
            assert np.diag(core)[large].min() > 0.65 and np.diag(core).max() < 1.25

    def test_hidden_kernels_follow_the_formula_and_the_rest_adam(self) -> None:
        """Momentum, Nesterov's look-ahead and the length of the step in NumPy, with the exact polar factor."""
        random = np.random.default_rng(0)
        shapes = {"first": (3, 3, 2, 4), "hidden": (3, 3, 4, 4), "wide": (1, 1, 4, 8), "last": (3, 3, 8, 1)}
        starts = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        kernels = {name: keras.Variable(value, name="kernel") for name, value in starts.items()}
        bias = variable(0.5, name="bias")
        theirs = {name: keras.Variable(value, name="kernel") for name, value in starts.items()}
        their_bias = variable(0.5, name="bias")
        muon = make_optimizer("muon", [*kernels.values(), bias])
        adam = make_optimizer("adam", [*theirs.values(), their_bias])
        muon.learning_rate = adam.learning_rate = 1e-3
        momentum = {name: np.zeros(shape) for name, shape in shapes.items()}
        expected = {name: value.astype(np.float64) for name, value in starts.items()}
        for _ in range(3):
            gradients = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
            tensors = [*map(ops.convert_to_tensor, gradients.values()), tensor(0.1)]
            muon.apply(list(tensors), [*kernels.values(), bias])
            adam.apply(list(tensors), [*theirs.values(), their_bias])
            for name in ("hidden", "wide"):
                momentum[name] = 0.95 * momentum[name] + gradients[name]
                ahead = (gradients[name] + 0.95 * momentum[name]).reshape(-1, shapes[name][-1])
                u, _, vt = np.linalg.svd(ahead, full_matrices=False)
                expected[name] -= 1e-3 * 0.2 * max(ahead.shape) ** 0.5 * (u @ vt).reshape(shapes[name])
        for name in ("first", "last"):
            np.testing.assert_array_equal(array(kernels[name]), array(theirs[name]))
        np.testing.assert_array_equal(array(bias), array(their_bias))
        for name in ("hidden", "wide"):
            moved, reference = array(kernels[name]) - starts[name], expected[name] - starts[name]
            assert np.corrcoef(moved.ravel(), reference.ravel())[0, 1] > 0.97
            assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(reference), rel=0.25)

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_without_a_hidden_kernel_it_is_adam(self, count: int) -> None:
        ours, theirs = ([keras.Variable(np.ones((3, 3, 2, 2)), name="kernel") for _ in range(count)] for _ in "ab")
        ours, theirs = [*ours, variable(1.0)], [*theirs, variable(1.0)]
        gradients = [ops.convert_to_tensor(np.full(v.shape, 0.3, np.float32)) for v in ours]
        muon, adam = make_optimizer("muon", ours), make_optimizer("adam", theirs)
        assert type(muon) is Muon
        for optimizer, variables in ((muon, ours), (adam, theirs)):
            optimizer.learning_rate = 1e-2
            optimizer.apply(list(gradients), variables)
        for mine, reference in zip(ours, theirs, strict=True):
            assert array(mine).ravel()[0] != 1
            np.testing.assert_array_equal(array(mine), array(reference))
