"""Reference augmentation: deterministic, switchable, and true to what each part may change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stdrc.augmentation import ReferenceAugmentation
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
