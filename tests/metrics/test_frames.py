"""Frames in every form that libraries hand out come in as the same bytes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from media.errors import UserError
from metrics.errors import MetricsError
from metrics.frames import as_frames, as_image, as_images, as_videos, check_frames


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def forms(frames):
    planes = np.moveaxis(frames, -1, -3)
    yield frames
    yield planes
    yield frames / 255
    yield (planes / 255).astype(np.float32)
    yield torch.from_numpy(planes.copy())
    yield torch.from_numpy(frames).float() / 255
    yield (torch.from_numpy(planes.copy()).double() / 255).requires_grad_()


@given(st.integers(0, 999), st.integers(1, 4), st.integers(4, 9), st.integers(4, 9))
def test_every_form_is_the_same_video(seed, count, height, width):
    frames = noise(seed, count, height, width)
    for form in forms(frames):
        assert np.array_equal(as_frames(form), frames)
        (one,) = as_videos(form)
        assert np.array_equal(one, frames)
    assert np.array_equal(as_frames([Image.fromarray(frame) for frame in frames]), frames)


def test_a_batch_is_its_videos():
    batch = noise(0, 2, 3, 5, 6)
    for form in forms(batch):
        assert [v.shape for v in as_videos(form)] == [(3, 5, 6, 3)] * 2
        assert np.array_equal(np.stack(as_videos(form)), batch)
    other = noise(1, 2, 8, 9)
    several = as_videos([batch[0], other])
    assert [v.shape for v in several] == [(3, 5, 6, 3), (2, 8, 9, 3)]
    pictures = [[Image.fromarray(f) for f in video] for video in batch]
    assert np.array_equal(np.stack(as_videos(pictures)), batch)


def test_half_precision_rounds_to_the_same_bytes():
    frames = noise(0, 2, 4, 5)
    assert np.array_equal(as_frames(torch.from_numpy(frames).half() / 255), frames)


def test_images_are_one_or_several():
    images = noise(0, 2, 5, 6)
    assert np.array_equal(as_image(np.moveaxis(images[0], -1, 0)), images[0])
    assert len(as_images(Image.fromarray(images[0]))) == 1
    assert np.array_equal(np.stack(as_images(images)), images)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((2, 3, 9, 3)), "first or last"),
        (np.zeros((2, 4, 5, 4)), "no axis of three colours"),
        (np.zeros((4, 5, 3)), "can't be of shape"),
        (np.full((1, 4, 5, 3), 2.0), "has to be in 0..1|have to be in 0..1"),
        (np.full((1, 4, 5, 3), -1.0), "go from -1"),
        (np.full((1, 4, 5, 3), np.nan), "go from nan"),
        (np.zeros((1, 4, 5, 3), np.int64), "type int64"),
        (np.zeros((0, 4, 5, 3), np.uint8), "can't be of shape"),
    ],
)
def test_what_can_be_read_in_two_ways_or_in_none_is_refused(frames, words):
    with pytest.raises(MetricsError, match=words):
        as_frames(frames)


def test_checked_frames_are_bytes_already():
    assert check_frames(noise(0, 2, 4, 5)[:, ::-1]).flags.c_contiguous
    with pytest.raises(MetricsError, match="must be uint8"):
        check_frames(np.zeros((2, 4, 5, 3)))
    with pytest.raises(MetricsError, match="one frame"):
        check_frames(noise(0, 1, 4, 5), least=2)
    assert len(check_frames(noise(0, 0, 4, 5), least=0)) == 0


def test_pillow_images_of_any_mode_are_what_a_file_of_them_is():
    """Pillow's own conversion clips 16 bits to white and drops what is see-through."""
    deep = Image.fromarray(np.full((4, 5), 0x8000, dtype=np.uint16))
    assert as_frames([deep, deep]).min() == as_frames([deep]).max() == 128
    clear = Image.new("RGBA", (5, 4), (0, 0, 0, 0))
    assert (as_image(clear) == 255).all()
    assert (as_image(Image.new("L", (5, 4), 7)) == 7).all()
    with pytest.raises(UserError, match="no known range"):
        as_image(Image.new("F", (5, 4)))
