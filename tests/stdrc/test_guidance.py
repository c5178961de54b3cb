import math

import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import normalized_guidance
from hypothesis import given
from hypothesis import strategies as st

from stdrc.errors import STDRCError
from stdrc.guidance import Stream, ThreeStreamGuidance

weights = st.floats(-10, 10)
orders = st.sampled_from(["text_first", "reference_first", "joint"])


def predictions(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {s: torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) for s in Stream}


@given(order=orders)
def test_unit_weights_are_the_conditional_prediction_exactly(order):
    v = predictions()
    guidance = ThreeStreamGuidance(1.0, 1.0, order)
    assert guidance.coefficients() == {Stream.BOTH: 1.0}
    assert guidance.combine(v) is v[Stream.BOTH]


@given(w=weights)
def test_no_reference_weight_is_plain_classifier_free_guidance(w):
    v = predictions()
    plain = v[Stream.NONE] + w * (v[Stream.TEXT] - v[Stream.NONE])
    guidance = ThreeStreamGuidance(w, 0.0)
    torch.testing.assert_close(guidance.combine(v), plain)
    assert not any(s.has_reference for s in guidance.coefficients())


@given(w=weights, r=weights)
def test_decompositions_are_their_formulas(w, r):
    v = predictions()
    v00, vt0, v0r, vtr = (v[s] for s in (Stream.NONE, Stream.TEXT, Stream.REFERENCE, Stream.BOTH))
    formulas = {
        "text_first": v00 + w * (vt0 - v00) + r * (vtr - vt0),
        "reference_first": v00 + r * (v0r - v00) + w * (vtr - v0r),
        "joint": v0r + w * (vtr - v0r) + (r - 1) * (vtr - vt0),
    }
    for order, expected in formulas.items():
        torch.testing.assert_close(
            ThreeStreamGuidance(w, r, order).combine(v), expected, atol=1e-9, rtol=1e-9
        )


@given(w=weights, r=weights, order=orders, has_reference=st.booleans())
def test_coefficients_sum_to_one_and_leave_out_zeros(w, r, order, has_reference):
    coefficients = ThreeStreamGuidance(w, r, order).coefficients(has_reference=has_reference)
    assert math.isclose(sum(coefficients.values()), 1.0, abs_tol=1e-9)
    assert all(c != 0 for c in coefficients.values())
    assert has_reference or not any(s.has_reference for s in coefficients)


@given(
    w=weights, r=weights, step=weights, order=orders, axis=st.sampled_from(["text", "reference"])
)
def test_linear_in_each_weight(w, r, step, order, axis):
    v = predictions()

    def at(amount):
        values = {"text": w, "reference": r}
        values[axis] += amount
        return ThreeStreamGuidance(**values, order=order).combine(v)

    torch.testing.assert_close(at(step) - at(0.0), (at(1.0) - at(0.0)) * step, atol=1e-8, rtol=1e-8)


@given(w=weights, r=weights, order=orders, sigma=st.floats(0.01, 1.0))
def test_velocity_and_clean_space_agree(w, r, order, sigma):
    v = predictions()
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    guidance = ThreeStreamGuidance(w, r, order)
    clean = guidance.combine({s: x - sigma * p for s, p in v.items()})
    torch.testing.assert_close(clean, x - sigma * guidance.combine(v), atol=1e-8, rtol=1e-8)


def test_passes_are_what_method_says():
    assert ThreeStreamGuidance(1, 1).passes() == 1
    assert ThreeStreamGuidance(3, 3).passes() == 2
    assert ThreeStreamGuidance(3, 0).passes() == 2
    assert ThreeStreamGuidance(3, 1.5).passes() == 3
    assert ThreeStreamGuidance(3, 1.5).passes(has_reference=False) == 2


def test_rescale_restores_the_conditional_deviation():
    v = predictions()
    guided = ThreeStreamGuidance(6, 4, rescale=1.0).combine(v)
    torch.testing.assert_close(guided.std((1, 2)), v[Stream.BOTH].std((1, 2)))
    half = ThreeStreamGuidance(6, 4, rescale=0.5).combine(v)
    plain = ThreeStreamGuidance(6, 4).combine(v)
    torch.testing.assert_close(half, (guided + plain) / 2)
    # Without the text, what is given the reference is the measure.
    silent = ThreeStreamGuidance(0, 4, "reference_first", rescale=1.0).combine(v)
    torch.testing.assert_close(silent.std((1, 2)), v[Stream.REFERENCE].std((1, 2)))


@given(w=weights, r=weights, order=orders)
def test_without_its_parallel_part_guidance_moves_across_the_conditional_prediction(w, r, order):
    v = predictions()
    guidance = ThreeStreamGuidance(w, r, order, parallel=0.0)
    if Stream.BOTH not in guidance.coefficients():
        return
    added = guidance.combine(v) - v[Stream.BOTH]
    along = (added * v[Stream.BOTH]).sum((1, 2))
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-8, rtol=0)


@given(w=weights, r=weights, order=orders, share=st.floats(0, 1))
def test_what_is_kept_of_the_parallel_part_is_linear(w, r, order, share):
    v = predictions()
    none, some, all_ = (
        ThreeStreamGuidance(w, r, order, parallel=p).combine(v) for p in (0.0, share, 1.0)
    )
    torch.testing.assert_close(some, none + share * (all_ - none), atol=1e-8, rtol=1e-8)


@given(w=st.floats(1.5, 10), share=st.floats(0, 1))
def test_with_text_alone_it_is_the_projected_guidance_of_diffusers(w, share):
    v = predictions()
    theirs = normalized_guidance(
        v[Stream.TEXT], v[Stream.NONE], w - 1, eta=share, use_original_formulation=True
    )
    ours = ThreeStreamGuidance(w, 0.0, parallel=share).combine(v)
    torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)


def test_projection_of_a_sample_of_zeros_changes_nothing():
    v = predictions()
    v[Stream.BOTH][0] = 0.0
    plain = ThreeStreamGuidance(6, 4).combine(v)
    projected = ThreeStreamGuidance(6, 4, parallel=0.0).combine(v)
    torch.testing.assert_close(projected[0], plain[0])
    assert not torch.allclose(projected[1], plain[1])


def test_half_precision_is_projected_in_single():
    wide = {s: 40 * p.repeat(1, 4000, 1) for s, p in predictions().items()}
    guidance = ThreeStreamGuidance(6, 4, parallel=0.0)
    half = guidance.combine({s: p.half() for s, p in wide.items()})
    assert half.dtype is torch.float16
    torch.testing.assert_close(half.double(), guidance.combine(wide), atol=2.0, rtol=1e-2)


@given(w=weights, r=weights, s=weights, order=orders)
def test_stg_adds_what_the_perturbation_takes_away(w, r, s, order):
    v = predictions()
    plain = ThreeStreamGuidance(w, r, order)
    guidance = ThreeStreamGuidance(w, r, order, stg=s, stg_blocks=(0,))
    expected = plain.combine(v) + s * (v[Stream.BOTH] - v[Stream.PERTURBED])
    torch.testing.assert_close(guidance.combine(v), expected, atol=1e-9, rtol=1e-9)
    alone = plain.combine(v, has_reference=False)
    expected = alone + s * (v[Stream.TEXT] - v[Stream.PERTURBED_TEXT])
    found = guidance.combine(v, has_reference=False)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    for has_reference in (True, False):
        coefficients = guidance.coefficients(has_reference=has_reference)
        assert math.isclose(sum(coefficients.values()), 1.0, abs_tol=1e-9)
        perturbed = [stream for stream in coefficients if stream.perturbed]
        assert len(perturbed) == (1 if s else 0)
    if not s:
        assert guidance.coefficients() == plain.coefficients()
    assert guidance.coefficients(1.0) == guidance.coefficients()


def test_stg_acts_within_the_interval_and_before_rescaling():
    v = predictions()
    guidance = ThreeStreamGuidance(1, 1, interval=(0.2, 0.8), rescale=1.0, stg=2, stg_blocks=(0,))
    assert guidance.coefficients(0.9) == {Stream.BOTH: 1.0}
    spread, expected = (p.std((1, 2)) for p in (guidance.combine(v, 0.5), v[Stream.BOTH]))
    torch.testing.assert_close(spread, expected)


def test_outside_the_interval_only_the_conditional_stream_runs():
    guidance = ThreeStreamGuidance(3, 2, interval=(0.2, 0.8))
    assert guidance.coefficients(0.9) == {Stream.BOTH: 1.0}
    assert guidance.coefficients(0.9, has_reference=False) == {Stream.TEXT: 1.0}
    assert len(guidance.coefficients(0.5)) == 3
    v = predictions()
    assert torch.equal(guidance.combine(v, 0.9), v[Stream.BOTH])
    assert not torch.equal(guidance.combine(v, 0.8), v[Stream.BOTH])
    sole = ThreeStreamGuidance(3, 2, interval=(0.5, 0.5))  # both ends belong to it
    assert [sole.active(sigma) for sigma in (0.4, 0.5, 0.6)] == [False, True, False]


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 1, 1)])
def test_rescale_without_any_spread_pulls_nothing(shape):
    flat = {s: torch.full(shape, float(i)) for i, s in enumerate(Stream)}
    guidance = ThreeStreamGuidance(3, 1.5, rescale=0.7)
    expected = ThreeStreamGuidance(3, 1.5).combine(flat)
    torch.testing.assert_close(guidance.combine(flat), expected)


def test_a_missing_stream_is_named():
    v = predictions()
    del v[Stream.TEXT]
    with pytest.raises(STDRCError, match="TEXT"):
        ThreeStreamGuidance(3, 1.5).combine(v)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"text": math.nan}, "finite"),
        ({"reference": math.inf}, "finite"),
        ({"text": "3"}, "number"),
        ({"text": True}, "number"),
        ({"order": "image_first"}, "'joint'"),
        ({"rescale": 1.5}, "0..1"),
        ({"parallel": -0.1}, "'parallel' must be in 0..1"),
        ({"rescale": "0.5"}, "'rescale' must be a valid number"),
        ({"parallel": None}, "number"),
        ({"interval": (0.8, 0.2)}, "low <= high"),
        ({"interval": 3}, "two noise levels"),
        ({"weight": 1}, "Unknown key 'weight'"),
    ],
)
def test_bad_guidance_says_what_is_wrong(arguments, words):
    with pytest.raises(STDRCError, match=words):
        ThreeStreamGuidance.parse(arguments)


def test_every_field_says_what_it_takes():
    fields = ThreeStreamGuidance.__pydantic_fields__
    assert all(field.description for field in fields.values())
    bounds = {
        k: getattr(m, k) for m in fields["rescale"].metadata for k in ("ge", "le") if hasattr(m, k)
    }
    assert bounds == {"ge": 0, "le": 1}
    with pytest.raises(STDRCError, match="Unknown key 'txt' in guidance; known are text, ref"):
        ThreeStreamGuidance(txt=3)
    with pytest.raises(STDRCError, match=r"^Guidance 'rescale' must be in 0..1, not nan\.$"):
        ThreeStreamGuidance(3, 1, "joint", math.nan)


def test_what_is_not_given_is_plain_guidance_at_every_noise_level():
    guidance = ThreeStreamGuidance(3, 2)
    assert guidance.interval == (0.0, 1.0)
    assert guidance.linear
    assert not ThreeStreamGuidance(3, 2, rescale=0.1).linear
    assert not ThreeStreamGuidance(3, 2, parallel=0.5).linear
    assert ThreeStreamGuidance.parse(guidance) is guidance
    assert ThreeStreamGuidance.ltx23().to_dict() == {
        "text": 3.0, "reference": 1.0, "order": "joint", "rescale": 0.7, "interval": [0.0, 1.0],
        "parallel": 1.0, "stg": 1.0, "stg_blocks": [28],
    }  # fmt: skip


def test_parse_round_trips():
    guidance = ThreeStreamGuidance(4, 2, "joint", 0.3, (0.1, 0.9), 0.5)
    assert ThreeStreamGuidance.parse(guidance.to_dict()) == guidance
