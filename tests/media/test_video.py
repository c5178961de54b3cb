"""Reading: every container gives the frames that were written, and what can't be read is named."""

import io
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

import media.streams
from media.errors import UnreadableFileError, UnreadableImageError, UnreadableVideoError, UserError
from media.images import read_image
from media.streams import MAX_PIXELS
from media.video import (
    VideoReader,
    read_clip,
    sample_linspace,
    video_sha256,
)
from tests.media.clips import steps, write_video
from tests.media.numbered import cut, numbers, picture, write_numbered

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
    before = video_sha256(tmp_path)
    Image.fromarray(frames[0]).save(tmp_path / "frame5.png")
    assert video_sha256(tmp_path) != before
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


# Frame i is frame i ---------------------------------------------------------------------------

CODECS = {
    "long_gop.mp4": {"gop": 1000, "bframes": 8},
    "bframes.avi": {"codec": "mpeg4", "bframes": 2, "gop": 30},
    "h264.avi": {},
    "open_gop.mp4": {"codec": "libx265", "gop": 25, "x265": "open-gop=1:min-keyint=25"},
    "open_gop.mkv": {"gop": 25, "x264-params": "open-gop=1"},
    "h264.ts": {"gop": 30},
    "hidden_frames.webm": {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16"},
    "bframes.mpg": {"codec": "mpeg2video", "bframes": 2},
    "no_times.h264": {},
    "motion.mjpeg": {"codec": "mjpeg", "pixels": "yuvj420p"},
}


@pytest.mark.parametrize("name", CODECS)
def test_frame_i_is_frame_i_however_few_are_asked_for(tmp_path, name):
    path = write_numbered(tmp_path / name, **CODECS[name])
    sixteen = sample_linspace(200, 16)
    assert numbers(read_clip(path, 16).frames) == sixteen.tolist()
    assert numbers(read_clip(path).frames) == list(range(200))
    assert numbers(read_clip(path, indices=[137]).frames) == [137]
    assert VideoReader(path).info.fps == (25 if name.endswith((".h264", ".mjpeg")) else 30)


@pytest.mark.parametrize("name", ["long_gop.mp4", "open_gop.mkv"])
def test_decord_reads_the_same_frames_in_order(tmp_path, name):
    decord = pytest.importorskip("decord")
    path = write_numbered(tmp_path / name, **CODECS[name])
    theirs = decord.VideoReader(str(path)).get_batch(range(200)).asnumpy()
    np.testing.assert_array_equal(read_clip(path).frames, theirs)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path, codec):
    whole = write_numbered(tmp_path / "a.mp4", codec)
    path = cut(whole, tmp_path / "cut.mp4", 3.0, 0.4)
    reader = VideoReader(path)
    shown = numbers(reader.read(range(len(reader))))
    assert len(reader) == 14
    assert shown[:4] == [90, 91, 92, 93]
    assert shown == sorted(shown)
    assert reader.info.fps == pytest.approx(30, rel=0.2)  # the last are further apart
    five = numbers(read_clip(path, 5).frames)
    assert five == [shown[i] for i in (0, 3, 6, 9, 13)]


def test_jpegs_one_after_another_are_motion_jpeg_and_one_is_a_picture(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (6, 120, 160, 3), np.uint8)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{i}.jpg")
    parts = [(tmp_path / f"{i}.jpg").read_bytes() for i in range(6)]
    (tmp_path / "a.mjpeg").write_bytes(b"".join(parts))
    clip = read_clip(tmp_path / "a.mjpeg")
    assert clip.count == 6
    assert all(np.abs(a.astype(int) - b).mean() < 60 for a, b in zip(clip.frames, frames))
    np.testing.assert_array_equal(
        read_clip(tmp_path / "0.jpg").frames[0], read_image(tmp_path / "0.jpg")
    )


# Which way up, which stream, which pixels -----------------------------------------------------

TURNS = {
    (1, 0, 0, 1): lambda x: x,
    (-1, 0, 0, 1): lambda x: x[:, :, ::-1],
    (1, 0, 0, -1): lambda x: x[:, ::-1],
    (-1, 0, 0, -1): lambda x: x[:, ::-1, ::-1],
    (0, 1, -1, 0): lambda x: np.rot90(x, -1, (1, 2)),
    (0, -1, 1, 0): lambda x: np.rot90(x, 1, (1, 2)),
    (0, 1, 1, 0): lambda x: x.swapaxes(1, 2),
    (0, -1, -1, 0): lambda x: np.rot90(x, 2, (1, 2)).swapaxes(1, 2),
}


@pytest.mark.parametrize("signs", TURNS)
def test_the_display_matrix_turns_and_mirrors(tmp_path, signs):
    """x' = ax + cy, y' = bx + dy, with y downwards."""
    a, b, c, d = (65536 * sign for sign in signs)

    def turn(stream):
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])

    frames = steps(3)
    frames[:, :20, 40:] = (20, 20, 230)  # no symmetry left
    plain = read_clip(write_video(tmp_path / "plain.mp4", frames)).frames
    turned = read_clip(write_video(tmp_path / "turned.mp4", frames, setup=turn))
    height, width = plain.shape[1:3] if a else plain.shape[2:0:-1]
    assert (turned.info.height, turned.info.width) == (height, width)
    np.testing.assert_array_equal(turned.frames, TURNS[signs](plain))


def test_a_turn_that_is_not_by_quarters_is_refused(tmp_path):
    path = write_numbered(
        tmp_path / "a.mp4", frames=3, setup=lambda stream: stream.set_display_rotation(45)
    )
    with pytest.raises(UnreadableVideoError, match="not by quarter turns"):
        VideoReader(path)


def _with_cover(path, frames):
    """A file with a cover picture before its video of so many frames; sound instead if none."""
    image = io.BytesIO()
    Image.fromarray(picture(255, 64, 64)).save(image, "JPEG")
    with av.open(str(path), "w") as container:
        if path.suffix == ".mkv":
            container.add_attachment("cover.jpg", "image/jpeg", image.getvalue())
        else:
            cover = container.add_stream("mjpeg", rate=1)
            cover.height, cover.width, cover.pix_fmt = 64, 64, "yuvj420p"
            cover.disposition = Disposition.attached_pic
        main = container.add_stream("libx264" if frames else "aac", rate=30 if frames else 8000)
        if frames:
            main.height, main.width, main.pix_fmt = 96, 128, "yuv420p"
        if path.suffix != ".mkv":
            packet = av.Packet(image.getvalue())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = cover, 0, 0, True
            container.mux(packet)
        for i in range(frames):
            container.mux(main.encode(av.VideoFrame.from_ndarray(picture(i), "rgb24")))
        if not frames:
            container.mux(main.encode(_silence()))
        container.mux(main.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_cover_picture_is_not_the_video(tmp_path, name):
    assert numbers(read_clip(_with_cover(tmp_path / name, 8)).frames) == list(range(8))
    alone = _with_cover(tmp_path / f"alone-{name}", 0)
    with pytest.raises(UnreadableVideoError, match="cover picture"):
        VideoReader(alone)


def test_names_are_not_protocols_or_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("take:1.mp4", "50%d.mp4", "pipe:", "Ärger mit\nZeile.mp4", "-o.mp4"):
        path = write_numbered(tmp_path / "a.mp4", frames=3).rename(tmp_path / name)
        assert numbers(read_clip(path).frames) == [0, 1, 2]
        assert numbers(read_clip(name).frames) == [0, 1, 2]


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile other.mp4\n", "#EXTM3U\n#EXTINF:9,\nother.mp4\n"]
)
def test_a_playlist_is_not_a_video(tmp_path, text):
    write_numbered(tmp_path / "other.mp4", frames=3)
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(UnreadableVideoError, match=r"playlist|not a video"):
        VideoReader(tmp_path / "list.mp4")


def test_a_change_of_size_is_refused(tmp_path):
    parts = [
        write_numbered(tmp_path / f"{width}.ts", frames=5, size=(96, width)).read_bytes()
        for width in (128, 192)
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    with pytest.raises(UnreadableVideoError, match="size from 128 x 96 to 192 x 96 at frame 5"):
        read_clip(tmp_path / "both.ts")


REMARKS = {
    "not square (4:3)": {
        "setup": lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(4, 3))
    },
    "HDR (PQ)": {"setup": lambda s: setattr(s.codec_context, "color_trc", 16)},
    "HDR (HLG)": {"setup": lambda s: setattr(s.codec_context, "color_trc", 18)},
    "interlaced": {"x264-params": "tff=1"},
}


@pytest.mark.parametrize("remark", REMARKS)
def test_what_a_score_should_say_with_it(tmp_path, remark):
    path = write_numbered(tmp_path / "a.mp4", frames=3, **REMARKS[remark])
    (said,) = VideoReader(path).info.remarks
    assert remark in said
    assert numbers(read_clip(path).frames) == [0, 1, 2]
    assert VideoReader(write_numbered(tmp_path / "b.mp4", frames=3)).info.remarks == ()


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le"])
@pytest.mark.parametrize("space", [1, 5, 9])  # BT.709, BT.601, BT.2020
def test_colours_follow_the_files_matrix(tmp_path, pixels, space):
    colour = np.array([230, 120, 30])
    frames = np.broadcast_to(colour.astype(np.uint8), (2, 48, 64, 3))
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        stream.codec_context.colorspace = space
        for frame in frames:
            shown = av.VideoFrame.from_ndarray(frame.copy(), "rgb24")
            shown = shown.reformat(format=pixels, dst_colorspace=space, dst_color_range="MPEG")
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    assert (
        np.abs(read_clip(path).frames.astype(int) - colour).max() <= 3
    )  # another matrix moves it by 10


def test_transparency_becomes_white(tmp_path):
    frames = np.full((3, 32, 32, 4), (200, 10, 10, 255), np.uint8)
    frames[:, :, 16:, 3] = 0
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "argb"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgba")))
        container.mux(stream.encode(None))
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].putpixel((0, 0), (0, 0, 0, 255))  # else equal frames become one
    pictures[2].putpixel((0, 0), (0, 0, 0, 255))
    for name in ("a.webp", "a.png"):
        pictures[0].save(
            tmp_path / name, save_all=True, append_images=pictures[1:], lossless=True, duration=50
        )
    for name in ("a.mov", "a.webp", "a.png"):
        clip = read_clip(tmp_path / name)
        assert clip.count == 3
        assert clip.fps == (10 if name == "a.mov" else 20)
        assert (clip.frames[:, 2:, :16] == (200, 10, 10)).all()
        assert (clip.frames[:, :, 16:] == 255).all()


def _truncated(path):
    write_video(path, np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8),
                movflags="faststart")  # fmt: skip
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _truncated_mkv(path):
    write_numbered(path.with_suffix(".mkv"), frames=120, gop=10).rename(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _damaged(path):
    write_video(path, np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8] = b"\xff" * 8
    path.write_bytes(data)


def _silence():
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
    frame.rate = 8000
    return frame


def _audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        container.mux(stream.encode(_silence()))
        container.mux(stream.encode(None))


def _bomb(path):
    Image.new("1", (12000, 12000)).save(path, "PNG")


BAD = {
    "missing": (lambda p: None, "No such file"),
    "empty": (lambda p: p.write_bytes(b""), r"0 bytes"),
    "text": (lambda p: p.write_text("hello " * 100), "truncated or not a video"),
    "no_index": (lambda p: p.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(2000)), "opened|stream"),
    "truncated": (_truncated, "of 40|says 40"),
    "truncated_mkv": (_truncated_mkv, "seconds though its header says 4.00"),
    "damaged": (_damaged, r"damaged"),
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


def _overwritten(path, start, data):
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def test_damage_that_would_still_decode_is_noticed_in_vp9(tmp_path):
    rng = np.random.default_rng(0)
    path = write_video(
        tmp_path / "a.webm",
        rng.integers(0, 255, (6, 64, 64, 3), np.uint8),
        codec="libvpx-vp9",
        setup=lambda s: s.codec_context.options.update({"cpu-used": "8"}),
    )
    assert read_clip(path).count == 6
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    whole = path.read_bytes()
    for start, size in places[1:-1]:  # at a third of every frame but the first and the last
        path.write_bytes(whole)
        _overwritten(path, start + size // 3, rng.bytes(8))
        with pytest.raises(UnreadableVideoError, match="damaged"):
            read_clip(path)


def test_a_frame_of_av1_that_is_not_shown_is_missed(tmp_path):
    path = write_video(
        tmp_path / "a.mp4",
        np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), np.uint8),
        codec="libsvtav1",
        setup=lambda s: s.codec_context.options.update(
            {"preset": "12", "svtav1-params": "pred-struct=1"}
        ),
    )
    assert read_clip(path).count == 6
    with av.open(str(path)) as container:
        start, size = [(p.pos, p.size) for p in container.demux(video=0) if p.size][3]
    rest = size - 3  # an OBU of padding takes the frame's place, which decoders pass over
    padding = bytes([0x7A, 0x80 | rest & 0x7F, rest >> 7])
    _overwritten(path, start, padding + b"\x80" * rest)
    with pytest.raises(UnreadableVideoError, match=r"isn.t at the time|breaks off"):
        read_clip(path)


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
    info = VideoReader(path).info
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


# --- a card's decoder ------------------------------------------------------------------------


def test_what_a_card_decodes_is_the_same_to_the_bit(tmp_path, monkeypatch):
    """A card hands on 4:2:0 pictures as nv12; without one, FFmpeg's own are put that way."""
    path = write_video(tmp_path / "a.mp4", steps())
    by_ffmpeg = read_clip(path).frames
    asked = []

    def opened(source, name, format=None, card=False):
        asked.append(card)
        return media.streams.open_stream(source, name, format)

    def as_nv12(container, stream, name, promised=None):
        for frame in media.streams.decoded(container, stream, name, promised):
            turned = frame.reformat(format="nv12") if promised else frame
            turned.pts = frame.pts
            yield turned

    monkeypatch.setattr("media.video.CARD", "nvdec")
    monkeypatch.setattr("media.video.open_stream", opened)
    monkeypatch.setattr("media.video.decoded", as_nv12)
    np.testing.assert_array_equal(read_clip(path).frames, by_ffmpeg)
    assert asked == [False, False, True]  # what the file says of itself is FFmpeg's to read


def test_without_a_card_it_says_so(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", steps())
    expected = read_clip(path).frames
    monkeypatch.setattr("media.video.CARD", "nvdec")
    said: UserError | None = None
    try:
        found = read_clip(path).frames
    except UserError as error:
        said = error
    if said is None:  # there is one
        np.testing.assert_array_equal(found, expected)
    else:
        assert "unset STDRC_DECODER" in str(said)
        assert not isinstance(said, UnreadableVideoError)  # nothing is wrong with the file
    monkeypatch.setattr("media.video.CARD", "vaapi")
    with pytest.raises(UserError, match="STDRC_DECODER is 'vaapi'"):
        read_clip(path)


def test_the_decoder_is_part_of_keys():
    program = "from media.video import DECODER; print(DECODER)"
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "STDRC_DECODER": card},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for card in ("", "nvdec")
    ]
    assert said[1] == f"{said[0]} nvdec"
