from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from srlib.params import Features
from srlib.training.gan.gradient_shares import gradient_norms, shares
from srlib.training.gan.terms import loss_terms
from srlib.training.gan.warnings import GanWarnings, WarningState

from .test_trainer import SECTION, batch, losses

CALM = {"score_hr": 0.7, "score_sr": 0.3}


def warnings_of(**options) -> SimpleNamespace:
    warnings, state = GanWarnings(SECTION.model_copy(update=options)), WarningState()
    return SimpleNamespace(
        state=state,
        of_terms=partial(warnings.of_terms, state),
        of_discriminator=partial(warnings.of_discriminator, state),
        of_scores=warnings.of_scores,
    )


def measured(**values: float) -> dict[str, float]:
    return {f"share_{term.name}": values.get(term.name, 0.0) for term in loss_terms(SECTION)}


def test_norms_equal_closed_forms() -> None:
    random = np.random.default_rng(0)
    hr, sr = random.random((2, 2, 4, 5, 3)).astype(np.float32)
    count = hr.size
    norms = gradient_norms(
        lambda x: {
            "absolute": ops.mean(ops.abs(x - hr)),
            "squared": ops.mean(ops.square(x - hr)),
            "constant": ops.sum(ops.convert_to_tensor(hr)),
        },
        ops.convert_to_tensor(sr),
    )
    assert norms["absolute"] == pytest.approx(1 / np.sqrt(count), rel=1e-5)
    assert norms["squared"] == pytest.approx(2 * np.linalg.norm(sr - hr) / count, rel=1e-5)
    assert norms["constant"] == 0


def test_shares_sum_to_one() -> None:
    assert shares({"a": 3.0, "b": 1.0}) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 0.0, "b": 0.0}) == {"a": 0.0, "b": 0.0}


class TestTermWarnings:
    def test_at_the_start_one_measurement_is_enough(self) -> None:
        options = {"perceptual_scale": 1e-12, "pixel_weight": 0.0, "adversarial_weight": 0.01}
        gan, warns = losses(**options), warnings_of(**options)
        values = gan.gradient_shares(*batch())
        (warning,) = warns.of_terms(values, at_start=True)
        assert "the perceptual term is negligible" in warning
        assert "raise finetune.perceptual_scale (now 1e-12; 10 % would be about " in warning
        assert warns.of_terms(values) == warns.of_terms(values) == [], "each warning comes once"

    def test_the_advice_gives_about_ten_percent(self) -> None:
        options = {"perceptual_scale": 1e-12, "pixel_weight": 0.0, "adversarial_weight": 0.01}
        (warning,) = warnings_of(**options).of_terms(losses(**options).gradient_shares(*batch()), at_start=True)
        advised = float(warning.split("about ")[1].split(")")[0])
        better = losses(**options | {"perceptual_scale": advised}).gradient_shares(*batch())
        assert better["share_perceptual"] == pytest.approx(0.1, abs=0.06), "one digit of advice"

    def test_later_two_consecutive_ones_are_needed(self) -> None:
        warns = warnings_of(pixel_weight=0.1)
        fine = measured(perceptual=0.5, pixel=0.3, adversarial=0.2)
        low = measured(perceptual=0.6, pixel=0.395, adversarial=0.005)
        assert [warns.of_terms(values) for values in (fine, low, fine, low)] == [[], [], [], []]
        (warning,) = warns.of_terms(low)
        assert warning.startswith("the adversarial term is negligible: 0.50% of the gradient; ")
        assert "raise finetune.adversarial_weight (now 0.001; 10 % would be about 0.02)" in warning

    def test_a_dominant_perceptual_loss_is_named_by_its_own_key(self) -> None:
        """Features of SqueezeNet with the factor for VGG19: what is wrong is not the weight of the other terms."""
        features = Features(network="squeezenet", layer="fire3", pre_activation=True)
        warns = warnings_of(features=features, checkerboard_weight=0.0, perceptual_scale=0.00615, pixel_weight=0.01)
        values = measured(perceptual=0.99974, pixel=0.00001, adversarial=0.00025)
        assert warns.of_terms(values, at_start=True) == [
            "the perceptual term dominates: 99.97% of the gradient (the others are negligible: pixel 0.001%, "
            "adversarial 0.03%); lower finetune.perceptual_scale (now 0.00615; 90% would be about 1e-05); auto takes "
            "9.3e-06 for squeezenet's fire3"
        ]
        assert warns.of_terms(values) == []

    def test_with_a_single_other_term_the_calibration_decides(self) -> None:
        features = Features(network="squeezenet", layer="fire3", pre_activation=True)
        values = measured(perceptual=0.995, adversarial=0.005)
        for scale, start in (
            (0.00615, "the perceptual term dominates"),
            ("auto", "the adversarial term is negligible"),
        ):
            warns = warnings_of(features=features, checkerboard_weight=0.0, perceptual_scale=scale, pixel_weight=0.0)
            (warning,) = warns.of_terms(values, at_start=True)
            assert warning.startswith(start)

    def test_calibrated_features_are_not_blamed(self) -> None:
        features = Features(network="squeezenet", layer="fire3", pre_activation=True)
        warns = warnings_of(features=features, checkerboard_weight=0.0, perceptual_scale="auto", pixel_weight=0.001)
        warnings = warns.of_terms(measured(perceptual=0.995, pixel=0.0003, adversarial=0.0047), at_start=True)
        assert [text.split(" term")[0] for text in warnings] == ["the pixel", "the adversarial"]

    def test_a_dominant_adversarial_loss_is_named_by_its_own_key(self) -> None:
        warns = warnings_of(pixel_weight=0.01, checkerboard_weight=1.0)
        values = measured(perceptual=0.004, pixel=0.001, checkerboard=0.005, adversarial=0.99)
        (warning,) = warns.of_terms(values, at_start=True)
        assert warning.startswith("the adversarial term dominates: 99.00% of the gradient")
        assert "lower finetune.adversarial_weight (now 0.001; 90% would be about 9e-05)" in warning

    def test_a_factor_far_too_small_is_named_with_the_calibrated_one(self) -> None:
        warns = warnings_of(perceptual_scale=5e-7)
        (warning,) = warns.of_terms(measured(perceptual=0.001, adversarial=0.999), at_start=True)
        assert warning.endswith("; auto takes 0.00615 for vgg19's block5_conv4")

    def test_a_term_without_weight_is_no_matter(self) -> None:
        warns = warnings_of(pixel_weight=0.0)
        assert warns.of_terms(measured(perceptual=0.5, adversarial=0.5), at_start=True) == []


class TestDiscriminatorWarnings:
    @pytest.mark.parametrize(
        ("scores", "share", "words"),
        [
            ((0.999, 0.001), 0.5, "separates HR and SR perfectly"),
            ((0.501, 0.499), 0.0001, "cannot tell HR from SR"),
            ((0.501, 0.499), 0.3, None),
            ((0.9, 0.1), 0.5, None),
        ],
    )
    def test_a_collapse_is_reported_once(self, scores: tuple, share: float, words: str | None) -> None:
        warns = warnings_of()
        losses = {"score_hr": scores[0], "score_sr": scores[1]}
        values = measured(perceptual=1 - share, adversarial=share)
        warnings = [w for n in range(1, 901) for w in warns.of_discriminator(losses, {} if n % 300 else values)]
        assert len(warnings) == (words is not None)
        assert all(warning.startswith("the discriminator has collapsed") for warning in warnings)
        assert all(words in warning for warning in warnings)

    def test_ordinary_scores_start_the_count_again(self) -> None:
        warns = warnings_of()
        for _ in range(150):
            warns.of_discriminator({"score_hr": 0.999, "score_sr": 0.001}, {})
        assert warns.state.saturated_steps == 150
        warns.of_discriminator(CALM, {})
        assert warns.state.saturated_steps == warns.state.level_steps == 0


class TestScores:
    def test_a_slow_fall_is_reported_at_once_and_at_the_end(self) -> None:
        scores = [30.0, 31.0, 27.0, 24.9, 22.0, 25.5, 24.0]
        records = [{"step": 40.0 * number, "psnr_y": score} for number, score in enumerate(scores)]
        warns = warnings_of()
        lists = [warns.of_scores(records[: end + 1], at_end=False) for end in range(len(records))]
        assert [bool(warnings) for warnings in lists] == [False, False, False, True, False, False, True]
        assert lists[3][0].startswith(
            "the weights have 24.90 dB PSNR-Y on held-out patches, 6.1 dB less than those of step 40; lower finetune."
        )
        (warning,) = warns.of_scores(records[:5], at_end=True)
        assert warning.startswith("the last weights, which the model is made of, have 22.00 dB PSNR-Y")

    def test_a_usual_loss_of_psnr_is_none(self) -> None:
        records = [{"step": 0.0, "psnr_y": 31.0}, {"step": 40.0, "psnr_y": 28.0}]
        assert warnings_of().of_scores(records, at_end=True) == []
        assert warnings_of().of_scores(records[:1], at_end=True) == []
