"""Reference augmentation: deterministic, switchable, and true to what each part may change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from stdrc.augmentation import (
    ReferenceAugmentation,
    _background,
    _colour,
    _Draw,
    _edge_colour,
    _keep_inside,
)
from stdrc.errors import STDRCError


def picture(height: int = 48, width: int = 40, seed: int = 0) -> np.ndarray:
    """Smooth colours with a sharp square, so that warps and colour changes both show."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 4 + 20, y * 3 + 30, (x + y) * 2 + seed % 50], axis=-1)
    image[height // 3 : height // 2, width // 3 : width // 2] = (200, 30, 60)
    return image.clip(0, 255).astype(np.uint8)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    seed=st.integers(0, 10_000),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    strength=st.floats(0, 2),
    size=st.tuples(st.integers(16, 70), st.integers(16, 70)),
)
@settings(max_examples=40, deadline=None)
def test_same_generator_same_image_of_the_same_kind(
    seed: int, flags: tuple[bool, bool, bool], strength: float, size: tuple[int, int]
) -> None:
    augment = ReferenceAugmentation(*flags, strength=strength)
    image = picture(*size)
    first, second = augment(image, generator(seed)), augment(image, generator(seed))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    pil = augment(Image.fromarray(image), generator(seed))
    assert isinstance(pil, Image.Image)
    assert np.array_equal(np.asarray(pil), first)
    floats = augment(torch.from_numpy(image).permute(2, 0, 1) / 255, generator(seed))
    assert floats.dtype == torch.float32
    assert 0 <= float(floats.min()) <= float(floats.max()) <= 1
    np.testing.assert_allclose(floats.permute(1, 2, 0).numpy() * 255, first, atol=0.51)
    if not augment.active:
        assert np.array_equal(first, image)


def test_other_seeds_give_other_images() -> None:
    augment = ReferenceAugmentation()
    seen = {augment(picture(), generator(seed)).tobytes() for seed in range(20)}
    assert len(seen) == 20


def test_colour_moves_nothing() -> None:
    """The square's edges stay where they were: blur apart, gradients peak at the same columns."""
    augment = ReferenceAugmentation(pose=False, layout=False)
    flat = np.full((48, 40, 3), 90, np.uint8)
    flat[16:24, 13:20] = 180
    for seed in range(10):
        row = augment(flat, generator(seed)).astype(int).sum(axis=2)[20]
        steps = np.abs(np.diff(row))
        assert set(np.argsort(steps)[-2:]) == {12, 19}


def test_pose_keeps_colours() -> None:
    """A plain image stays plain: what a warp uncovers is filled with the edge's colour."""
    augment = ReferenceAugmentation(colour=False, layout=False)
    plain = np.broadcast_to(np.array([120, 60, 200], np.uint8), (40, 40, 3)).copy()
    for seed in range(10):
        assert np.abs(augment(plain, generator(seed)).astype(int) - plain).max() <= 1


def test_layout_keeps_a_face_inside() -> None:
    augment = ReferenceAugmentation(colour=False, pose=False, strength=2.0)
    empty = torch.zeros(3, 64, 64)
    marked = empty.clone()
    marked[:, 2:14, 48:60] = 1
    for seed in range(30):
        with_face, without = (
            augment(image, generator(seed), box=(48, 2, 60, 14)) for image in (marked, empty)
        )
        # The change is the same for both, so what differs by this much is the face.
        rows, columns = ((with_face - without).mean(dim=0) > 0.9).nonzero().T
        height, width = (int(v.max() - v.min()) + 1 for v in (rows, columns))
        assert len(rows) >= 9
        assert abs(height - width) <= 1  # nothing of the square was cut off


def test_parse_round_trip_and_mistakes() -> None:
    some = ReferenceAugmentation(pose=False, strength=0.5)
    assert ReferenceAugmentation.parse(some.to_dict()) == some
    assert ReferenceAugmentation.parse("on") == ReferenceAugmentation()
    assert ReferenceAugmentation.parse(None) == ReferenceAugmentation.off()
    assert ReferenceAugmentation.parse("colour+layout") == ReferenceAugmentation(pose=False)
    assert str(ReferenceAugmentation.parse("colour, pose")) == "colour+pose"
    assert str(ReferenceAugmentation.off()) == "off"
    with pytest.raises(STDRCError, match="Did you mean 'colour'"):
        ReferenceAugmentation.parse("color")
    with pytest.raises(STDRCError, match="Unknown augmentation 'poses'"):
        ReferenceAugmentation.parse({"poses": True})
    with pytest.raises(STDRCError, match=r"strength is a number in 0..2"):
        ReferenceAugmentation(strength=3)
    with pytest.raises(STDRCError, match=r"uint8 \[H, W, 3\]"):
        ReferenceAugmentation()(np.zeros((4, 4), np.uint8), generator(0))


def test_a_real_face_stays_a_face() -> None:
    """Colour and pose at full strength keep most of a photograph's structure."""
    from insightface.data import get_image

    photo = get_image("t1")[:, :, ::-1]
    face = np.asarray(Image.fromarray(np.ascontiguousarray(photo[:300, 500:800])).resize((96, 96)))
    augment = ReferenceAugmentation(pose=False, layout=False)
    grey = face.mean(axis=2).ravel()
    similar = [
        np.corrcoef(grey, augment(face, generator(seed)).mean(axis=2).ravel())[0, 1]
        for seed in range(20)
    ]
    assert min(similar) > 0.7
    assert min(similar) < 0.999


# What each part does, with the draws given -------------------------------------------------------


class Given:
    """Numbers in 0..1 in place of a generator's, to be drawn in this order."""

    def __init__(self, *units: float, strength: float = 1.0) -> None:
        self.units, self.strength, self.generator = list(units), strength, generator(5)

    def unit(self) -> float:
        return self.units.pop(0)

    span, between, chance, pick = _Draw.span, _Draw.between, _Draw.chance, _Draw.pick


def test_a_word_or_a_flag_switches_it() -> None:
    for off in (None, False, "off"):
        assert ReferenceAugmentation.parse(off) == ReferenceAugmentation.off()
    for on in (True, "on"):
        assert ReferenceAugmentation.parse(on) == ReferenceAugmentation()


@given(unit=st.floats(0, 1, exclude_max=True), strength=st.floats(0, 2), half=st.floats(0, 10))
def test_draws_are_even_and_scaled(unit: float, strength: float, half: float) -> None:
    one = Given(*[unit] * 4, strength=strength)
    assert one.span(half) == pytest.approx((2 * unit - 1) * half * strength)
    assert one.between(-3.0, half) == pytest.approx((-3 + (half + 3) * unit) * strength)
    assert one.chance(0.4) == (unit < 0.4 * min(1, strength))
    assert one.pick(4) == int(unit * 4)
    assert Given(1.0).pick(4) == 3


@given(
    face=st.tuples(*[st.integers(0, 60)] * 4),
    scale=st.floats(0.5, 2),
    shift=st.tuples(*[st.integers(-60, 60)] * 2),
)
def test_the_shift_is_the_nearest_that_keeps_the_face(
    face: tuple[int, ...], scale: float, shift: tuple[int, int]
) -> None:
    width, height = 64, 80
    for axis, (size, found) in enumerate(
        zip((width, height), _keep_inside([float(v) for v in face], scale, [*shift], width, height))
    ):
        low, high = sorted((face[axis], face[axis + 2]))
        if (face[axis], face[axis + 2]) != (low, high):
            continue  # not a box along this axis
        start, end = (size / 2 + (v - size / 2) * scale for v in (low, high))
        inside = [d for d in range(-200, 201) if start + d >= -0.5 and end + d <= size + 0.5]
        if end - start > size:
            assert found == pytest.approx((size - end - start) / 2, abs=0.5)
        else:
            assert found in inside
            assert abs(found - shift[axis]) <= min(abs(d - shift[axis]) for d in inside) + 1


def test_the_edges_colour_is_the_median_of_all_four() -> None:
    pixels = torch.rand(3, 7, 5, generator=generator(2))
    rows = [pixels[:, y, x] for y in range(7) for x in range(5) if y in (0, 6)]
    columns = [pixels[:, y, x] for y in range(7) for x in range(5) if x in (0, 4)]
    border = torch.stack(rows + columns).sort(dim=0).values
    assert torch.equal(_edge_colour(pixels)[:, 0, 0], border[(len(border) - 1) // 2])


def test_the_four_backgrounds() -> None:
    pixels = torch.rand(3, 9, 6, generator=generator(3))
    first, second = (torch.rand(3, generator=g) for g in [generator(5)] for _ in range(2))
    edge, plain, gradient, blurred = (_background(pixels, Given((k + 0.5) / 4)) for k in range(4))
    assert torch.equal(edge, _edge_colour(pixels))
    assert torch.equal(plain, first[:, None, None].expand(3, 9, 6))
    assert torch.equal(gradient[:, 0, 0], first)
    torch.testing.assert_close(gradient[:, 4, 5], (first + second) / 2)
    torch.testing.assert_close(gradient[:, 8, 2], second)
    coarse = tv.resize(pixels, [4, 4], InterpolationMode.BILINEAR, antialias=True)
    far = tv.resize(coarse, [9, 6], InterpolationMode.BICUBIC)
    torch.testing.assert_close(blurred, far.clamp(0, 1))


# Brightness, contrast, saturation, hue; the light's direction, amount, warmth; then four chances.
STILL = (0.5, 0.5, 0.5, 0.5)


def test_colours_without_a_change_are_kept() -> None:
    pixels = torch.rand(3, 12, 10, generator=generator(1))
    same = _colour(pixels, Given(*STILL, 0.3, 1.0, 1.0, 0.6, 0.1, 1.0, 0.3))
    torch.testing.assert_close(same, pixels, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("units", "change"),
    [
        ((1.0, 0.5, 0.5, 0.5), lambda p: tv.adjust_brightness(p, 1.2)),
        ((0.5, 1.0, 0.5, 0.5), lambda p: tv.adjust_contrast(p, 1.25)),
        ((0.5, 0.5, 0.0, 0.5), lambda p: tv.adjust_saturation(p, 0.6)),
        ((0.5, 0.5, 0.5, 1.0), lambda p: tv.adjust_hue(p, 0.03)),
    ],
)
def test_the_amounts_of_colour(units: tuple[float, ...], change: Any) -> None:
    pixels = torch.rand(3, 12, 10, generator=generator(1))
    found = _colour(pixels, Given(*units, 0.3, 1.0, 1.0, 1.0, 1.0, 0.5, 1.0))
    torch.testing.assert_close(found, change(pixels).clamp(0, 1), atol=1e-5, rtol=0)


def test_the_least_brightness_and_saturation() -> None:
    pixels = torch.rand(3, 12, 10, generator=generator(1))
    dark = _colour(pixels, Given(0.0, 0.5, 0.5, 0.5, 0.3, 1, 1, 1, 1, 0.5, 1, strength=2.0))
    torch.testing.assert_close(dark, pixels * 0.6, atol=1e-5, rtol=0)


def test_light_comes_from_one_side() -> None:
    """Down a column of grey the light rises by the amount, and the tint is warm or cold."""
    grey = torch.full((3, 5, 3), 0.4)
    lit = _colour(grey, Given(*STILL, 0.25, 1.0, 1.0, 0.59, 1.0, 0.5, 1.0))  # from below
    slope = torch.tensor([-1, -0.5, 0, 0.5, 1])[None, :, None]
    tint = torch.tensor([1.08, 1.0, 0.92])[:, None, None]
    expected = (0.4 * (1 + 0.35 * slope) * tint).expand(3, 5, 3)
    torch.testing.assert_close(lit, expected, atol=1e-5, rtol=0)
    aside = _colour(grey, Given(*STILL, 0.0, 1.0, 0.5, 0.59, 1.0, 0.5, 1.0))  # from the right
    slope = torch.tensor([-1.0, 0, 1])[None, None, :]
    expected = (0.4 * (1 + 0.35 * slope)).expand(3, 5, 3)
    torch.testing.assert_close(aside, expected, atol=1e-5, rtol=0)


def test_grey_and_blur() -> None:
    pixels = torch.rand(3, 100, 120, generator=generator(1))
    grey = _colour(pixels, Given(*STILL, 0.3, 1.0, 1.0, 1.0, 0.09, 0.5, 1.0))
    weights = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    expected = (pixels * weights).sum(0).expand(3, -1, -1)
    torch.testing.assert_close(grey, expected, atol=1e-3, rtol=0)
    blurred = _colour(pixels, Given(*STILL, 0.3, 1.0, 1.0, 1.0, 0.1, 1.0, 0.29))
    # 1.5 % of the shorter side; the kernel reaches two deviations.
    torch.testing.assert_close(blurred, tv.gaussian_blur(pixels, [7, 7], [1.5, 1.5]))
    small = torch.rand(3, 10, 12, generator=generator(1))  # 0.15 pixels: a kernel of 3
    blurred = _colour(small, Given(*STILL, 0.3, 1.0, 1.0, 1.0, 0.1, 1.0, 0.29))
    torch.testing.assert_close(blurred, tv.gaussian_blur(small, [3, 3], [0.15, 0.15]))


def moved(pixels: torch.Tensor, *units: float, box: Any = None, **flags: bool) -> torch.Tensor:
    augment = ReferenceAugmentation(colour=False, **flags)
    return augment._move(pixels, Given(*units), box)  # type: ignore[arg-type]


def test_pose_flips_bends_and_turns() -> None:
    pixels = torch.rand(3, 40, 60, generator=generator(4))
    still = (0.5,) * 8
    torch.testing.assert_close(moved(pixels, 0.5, *still, 0.5, layout=False), pixels)
    flipped = moved(pixels, 0.49, *still, 0.5, layout=False)
    torch.testing.assert_close(flipped, pixels.flip(2))
    layers = torch.cat([pixels, torch.ones(1, 40, 60)])
    corners = [[0, 0], [59, 0], [59, 39], [0, 39]]
    bent = [[6, 0], [59, 4], [53, 39], [0, 35]]  # a tenth of the width or height at most
    warped = tv.perspective(
        layers, corners, bent, interpolation=InterpolationMode.BILINEAR, fill=[0.0]
    )
    filled = warped[:3] + (1 - warped[3:]) * _edge_colour(pixels)
    units = (1.0, 0.5, 0.5, 1.0, 0.0, 0.5, 0.5, 0.0)
    torch.testing.assert_close(moved(pixels, 0.5, *units, 0.5, layout=False), filled)
    turned = tv.rotate(layers, -12.0, InterpolationMode.BILINEAR, fill=[0.0])
    filled = turned[:3] + (1 - turned[3:]) * _edge_colour(pixels)
    torch.testing.assert_close(
        moved(pixels, 0.5, *still, 1.0, layout=False), filled, atol=1e-4, rtol=0
    )


def test_layout_scales_and_shifts() -> None:
    pixels = torch.rand(3, 40, 60, generator=generator(4))
    layers = torch.cat([pixels, torch.ones(1, 40, 60)])
    for unit, scale in ((0.0, 0.65), (1.0, 1.3)):
        # Scale; 18 % of the width and of the height; the background of the edge's colour.
        found = moved(pixels, unit, 1.0, 0.0, 0.0, pose=False)
        wanted = tv.affine(
            layers, 0.0, [11, -7], scale, [0.0, 0.0], InterpolationMode.BILINEAR, fill=[0.0]
        )
        filled = wanted[:3] + (1 - wanted[3:]) * _edge_colour(pixels)
        torch.testing.assert_close(found, filled, atol=1e-5, rtol=0)


def test_a_flipped_face_is_followed() -> None:
    """From the left edge it is flipped to the right one, where a shift of 9 would lose it."""
    pixels = torch.zeros(3, 50, 50)
    pixels[:, 20:30, 0:10] = 1
    unit = math.log(1 / 0.65) / math.log(1.3 / 0.65)  # a scale of 1
    found = moved(pixels, 0.0, *(0.5,) * 9, unit, 1.0, 0.5, 0.0, box=(0, 20, 10, 30))
    torch.testing.assert_close(found, pixels.flip(2), atol=1e-3, rtol=0)
