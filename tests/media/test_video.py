"""Reading: every container gives the frames that were written, and what can't be read is named."""

import av
import numpy as np
import pytest
from PIL import Image

from media.errors import UnreadableFileError, UnreadableImageError, UnreadableVideoError, UserError
from media.images import read_image
from media.video import (
    MAX_PIXELS,
    VideoReader,
    file_sha256,
    probe,
    read_clip,
    sample_linspace,
)
from tests.media.clips import steps, write_video

CONTAINERS = {
    "h264.mp4": {},
    "ten_bit.mkv": {"pixels": "yuv420p10le"},
    "lossless.mkv": {"codec": "ffv1", "pixels": "bgr0"},
    "animation.gif": {"codec": "gif", "pixels": "rgb8"},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_give_the_frames_that_were_written(tmp_path, name):
    frames = steps()
    clip = read_clip(write_video(tmp_path / name, frames, **CONTAINERS[name]))
    assert clip.frames.shape == frames.shape
    assert clip.frames.dtype == np.uint8
    assert (clip.count, clip.fps) == (10, 10.0)
    allowed = 12 if name.endswith("gif") else 3  # GIF dithers a palette of 256 colours
    # inside the areas: chroma is halved at their border
    for area in (np.s_[:, 4:20, 4:28], np.s_[:, 28:44, 36:60]):
        difference = clip.frames[area].mean((1, 2)) - frames[area].mean((1, 2))
        assert np.abs(difference).max() <= allowed


def test_odd_sizes(tmp_path):
    frames = steps(height=17, width=33)
    path = write_video(tmp_path / "odd.mkv", frames, codec="ffv1", pixels="bgr0")
    np.testing.assert_array_equal(read_clip(path).frames, frames)


def test_frames_by_index_in_any_order(tmp_path):
    path = write_video(tmp_path / "a.mkv", steps(), codec="ffv1", pixels="bgr0")
    clip = read_clip(path, indices=[7, 0, 7, 3])
    np.testing.assert_array_equal(clip.frames, steps()[[7, 0, 7, 3]])
    assert clip.indices.tolist() == [7, 0, 7, 3]
    with pytest.raises(UserError, match="10 frames, so frame 10"):
        read_clip(path, indices=[10])


def test_sampling_is_linspace_rounded_down_and_repeats_on_short_videos(tmp_path):
    assert sample_linspace(244, 16).tolist() == np.linspace(0, 243, 16, dtype=int).tolist()
    clip = read_clip(write_video(tmp_path / "a.mp4", steps(3)), num_frames=6)
    assert clip.indices.tolist() == [0, 0, 0, 1, 1, 2]
    assert clip.count == 3


def test_rotation_metadata_turns_the_frames(tmp_path):
    frames = steps()
    path = write_video(tmp_path / "a.mp4", frames)
    data = bytearray(path.read_bytes())
    # The track's display matrix, in 16.16 fixed point: identity to a quarter turn clockwise.
    start = data.find(b"tkhd") + 4 + 40
    identity = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000]
    found = [int.from_bytes(data[start + 4 * i : start + 4 * i + 4], "big") for i in range(9)]
    assert found == identity
    turned = [0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000]
    for i, value in enumerate(turned):
        data[start + 4 * i : start + 4 * i + 4] = value.to_bytes(4, "big")
    path.write_bytes(data)
    clip = read_clip(path)
    assert clip.frames.shape == (10, 64, 48, 3)
    # a quarter turn clockwise takes the red quarter from the top left to the top right
    assert clip.frames[0, 5, 40, 0] > 200
    assert clip.frames[0, 5, 40, 1] < 60
    assert clip.frames[0, 5, 5].max() < 60


def test_variable_frame_rate_counts_frames_not_seconds(tmp_path):
    path = tmp_path / "vfr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        for frame, time in zip(steps(6), (0, 1, 2, 30, 31, 90)):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = time
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    np.testing.assert_array_equal(read_clip(path).frames, steps(6))


def test_image_folders_are_read_in_natural_order(tmp_path):
    frames = steps(12)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame{i}.png")  # frame10 follows frame9
    clip = read_clip(tmp_path)
    np.testing.assert_array_equal(clip.frames, frames)
    assert clip.fps == 0
    before = file_sha256(tmp_path)
    Image.fromarray(frames[0]).save(tmp_path / "frame5.png")
    assert file_sha256(tmp_path) != before
    Image.fromarray(frames[0, :10]).save(tmp_path / "frame7.png")
    with pytest.raises(UnreadableVideoError, match="make them one size"):
        read_clip(tmp_path)


@pytest.mark.parametrize("name", ["a.mkv", "a.gif"])
def test_streaming_equals_reading(tmp_path, name):
    frames = steps(11)
    options = {"codec": "gif", "pixels": "rgb8"} if name == "a.gif" else {"codec": "ffv1"}
    path = write_video(tmp_path / name, frames, **{"pixels": "bgr0", **options})
    whole = read_clip(path).frames
    chunks = list(VideoReader(path).stream(chunk=4))
    assert [len(f) for _, f in chunks] == [4, 4, 3]
    assert np.concatenate([i for i, _ in chunks]).tolist() == list(range(11))
    np.testing.assert_array_equal(np.concatenate([f for _, f in chunks]), whole)
    picked = list(VideoReader(path).stream(np.array([2, 5, 9]), chunk=2))
    np.testing.assert_array_equal(np.concatenate([f for _, f in picked]), whole[[2, 5, 9]])


def test_pyav_gives_what_decord_gives(tmp_path):
    pytest.importorskip("decord")
    frames = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
    path = write_video(tmp_path / "a.mp4", frames, bf="2", g="12")
    reader = VideoReader(path)
    whole = reader.read(range(40))  # in order: PyAV
    for few in ([0, 13, 39], [5], [11, 12, 13], [38, 39]):
        np.testing.assert_array_equal(reader.read(few), whole[few])  # far apart: decord
    assert reader._decord is not None


def _truncated(path):
    write_video(path, np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8),
                movflags="faststart")  # fmt: skip
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _bomb(path):
    Image.new("1", (12000, 12000)).save(path, "PNG")


BAD = {
    "missing": (lambda p: None, "No such file"),
    "empty": (lambda p: p.write_bytes(b""), r"0 bytes"),
    "text": (lambda p: p.write_text("hello " * 100), "truncated or not a video"),
    "no_index": (lambda p: p.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(2000)), "opened|stream"),
    "truncated": (_truncated, "of 40|says 40"),
    "audio": (_audio, "no video stream"),
    "bomb": (_bomb, "megapixels|bomb"),
    "empty_folder": (lambda p: p.mkdir(), "without images"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, kind):
    make, message = BAD[kind]
    path = tmp_path / f"{kind}.mp4"
    make(path)
    with pytest.raises(UnreadableFileError, match=message) as caught:
        read_clip(path)
    assert kind in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_extension_does_not_matter(tmp_path):
    path = write_video(tmp_path / "a.mkv", steps())
    renamed = path.rename(tmp_path / "really_a_matroska.mp4")
    assert read_clip(renamed).frames.shape == (10, 48, 64, 3)
    Image.fromarray(steps()[0]).save(tmp_path / "still.png")
    still = (tmp_path / "still.png").rename(tmp_path / "still.mp4")
    np.testing.assert_array_equal(read_clip(still).frames, steps(1))


def test_8k_frames_are_read_and_larger_ones_refused(tmp_path):
    frames = np.zeros((1, 4320, 7680, 3), dtype=np.uint8)
    path = write_video(tmp_path / "8k.mp4", frames, preset="ultrafast")
    info = probe(path)
    assert (info.width, info.height, info.chunk_frames()) == (7680, 4320, 1)
    assert MAX_PIXELS > 7680 * 4320
    assert read_clip(path).frames.shape == frames.shape


def test_images_are_turned_by_exif_and_damage_is_named(tmp_path):
    image = Image.fromarray(steps()[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise for display
    image.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png").shape == (64, 48, 3)
    data = (tmp_path / "turned.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImageError, match=r"cut\.png"):
        read_image(tmp_path / "cut.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UnreadableImageError, match="can't be read as an image"):
        read_image(tmp_path / "text.png")
