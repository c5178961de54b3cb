import numpy as np
import pytest
import torch
from PIL import Image

from media.errors import NoFaceError, UnreadableImageError
from media.images import animation_frames, image_size, read_image
from stdrc.images import crop_to_face, letterbox, open_image, reference_pixels


def gradient(height=20, width=30):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 8, y * 12, np.full_like(x, 90)], -1).astype(np.uint8)


def test_exif_orientation_is_turned_upright(tmp_path):
    image = Image.fromarray(gradient())
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    upright = open_image(tmp_path / "turned.png")
    assert upright.size == (20, 30)
    assert np.array_equal(np.asarray(upright), np.rot90(gradient(), -1))


def test_transparency_becomes_white():
    array = np.zeros((4, 4, 4), np.uint8)
    array[:, :2, 3] = 255  # the left half is opaque black
    pixels = np.asarray(open_image(Image.fromarray(array)))
    assert (pixels[:, :2] == 0).all()
    assert (pixels[:, 2:] == 255).all()
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30])
    palette.info["transparency"] = 0
    assert (np.asarray(open_image(palette)) == 255).all()


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "P"])
def test_any_mode_becomes_rgb(mode):
    assert open_image(Image.fromarray(gradient()).convert(mode)).mode == "RGB"


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    array = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(array).save(tmp_path / "deep.png")
    pixels = np.asarray(open_image(tmp_path / "deep.png"))
    assert np.array_equal(pixels[..., 0].ravel(), np.arange(256))


def test_arrays_and_tensors_of_every_kind_agree():
    array = gradient()
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for same in (
        array,
        array.astype(np.float32) / 255,
        array.astype(np.uint16) * 257,
        tensor,
        tensor.float() / 255,
        Image.fromarray(array),
    ):
        assert np.array_equal(np.asarray(open_image(same)), array)


def test_letterbox_keeps_proportions_on_white():
    boxed = np.asarray(letterbox(Image.fromarray(np.zeros((20, 40, 3), np.uint8)), 64, 64))
    assert boxed.shape == (64, 64, 3)
    assert (boxed[:16] == 255).all()
    assert (boxed[16:48] == 0).all()
    assert (boxed[48:] == 255).all()


def test_pixels_are_what_the_autoencoder_takes():
    pixels = reference_pixels(gradient(64, 64), 64, 64)
    assert pixels.shape == (3, 1, 64, 64)
    assert pixels.dtype == torch.float32
    back = ((pixels[:, 0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(back, gradient(64, 64))


def test_the_crop_follows_the_largest_face():
    image = Image.fromarray(gradient(100, 100))
    small, large = [5, 5, 15, 15], [40, 50, 60, 70]
    crop = crop_to_face(image, lambda _: np.array([small, large]), margin=0.5)
    assert crop.size == (40, 40)
    assert np.array_equal(np.asarray(crop), gradient(100, 100)[40:80, 30:70])
    # Near the border the photograph ends the crop; nothing is invented.
    assert crop_to_face(image, lambda _: [small], margin=1.0).size == (25, 25)


def test_mtcnn_crops_a_real_face():
    insightface_data = pytest.importorskip("insightface.data")
    from metrics.features.face_backends.facenet import FacenetFaces

    backend = FacenetFaces()
    photograph = np.ascontiguousarray(insightface_data.get_image("t1")[..., ::-1])

    def detector(image):
        return backend.detect(image[None])[0].boxes.numpy()

    crop = crop_to_face(open_image(photograph), detector, margin=0.4)
    assert 60 < crop.width < photograph.shape[1] / 3
    assert len(detector(np.asarray(crop))) == 1
    with pytest.raises(NoFaceError, match="No face was found"):
        reference_pixels(np.full((200, 200, 3), 90, np.uint8), 64, 64, crop="face", boxes=detector)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing.png", "No such file"),
        (lambda folder: _written(folder / "empty.png", b""), "can't be read"),
        (lambda folder: _written(folder / "text.jpg", b"not an image"), "can't be read"),
        (lambda folder: _truncated(folder / "cut.png"), "can't be read"),
        (lambda folder: np.zeros((4, 4, 2), np.uint8), "not of shape"),
        (lambda folder: np.zeros((0, 4, 3), np.uint8), "empty"),
        (lambda folder: np.full((4, 4, 3), np.nan), "0..1"),
        (lambda folder: np.full((4, 4, 3), 200.0), "0..1"),
        (lambda folder: np.zeros((4, 4, 3), np.int32), "uint8, uint16 or float"),
        (lambda folder: 7, "not a int"),
    ],
)
def test_bad_references_say_what_is_wrong(tmp_path, make, words):
    with pytest.raises(UnreadableImageError, match=words):
        open_image(make(tmp_path))


def test_an_image_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(gradient(64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match="too large"):
        open_image(tmp_path / "bomb.png")


def _written(path, data):
    path.write_bytes(data)
    return path


def _truncated(path):
    Image.fromarray(gradient(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    return path


# One reader for all ----------------------------------------------------------------------------


def test_a_picture_is_the_same_however_it_is_handed_over(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(gradient()).save(path)
    for same in (path, str(path), path.read_bytes(), Image.open(path), gradient()):
        np.testing.assert_array_equal(read_image(same), gradient())
    assert image_size(path) == (30, 20)


def _cut_out(mode):
    """Left half opaque, the right half clear with a colour hidden under it."""
    pixels = np.zeros((6, 8, 4), np.uint8)
    pixels[..., :3] = (200, 40, 40)
    pixels[:, :4, 3] = 255
    image = Image.fromarray(pixels)
    if mode in ("LA", "La"):
        return image.convert("LA").convert(mode)
    if mode == "P":
        image = Image.fromarray((pixels[..., 3] == 0).astype(np.uint8)).convert("P")
        image.putpalette([200, 40, 40, 10, 250, 10])
        image.info["transparency"] = 1
        return image
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "P"])
def test_a_cut_out_stands_on_white(mode):
    shown = read_image(_cut_out(mode))
    opaque = np.asarray(Image.new("RGB", (1, 1), (200, 40, 40)).convert("L")).item()
    expected = [opaque] * 3 if mode in ("LA", "La") else [200, 40, 40]
    assert (shown[:, :4] == expected).all()
    assert (shown[:, 4:] == 255).all()


def test_half_clear_is_mixed_with_white():
    pixels = np.full((2, 2, 4), (100, 0, 200, 128), np.uint8)
    assert np.abs(read_image(pixels).astype(int) - [177, 127, 227]).max() <= 1


def test_sixteen_bits_are_scaled_by_their_range_and_not_by_their_content(tmp_path):
    dark = np.full((4, 4), 200, np.uint16)  # of 65535: almost black
    Image.fromarray(dark).save(tmp_path / "dark.png")
    Image.fromarray(dark).save(tmp_path / "dark.tif")
    (tmp_path / "dark.pgm").write_bytes(b"P5 4 4 65535\n" + dark.byteswap().tobytes())
    for name in ("dark.png", "dark.tif", "dark.pgm"):
        assert (read_image(tmp_path / name) == 1).all()
    clear = Image.fromarray(dark)
    clear.save(tmp_path / "clear.png", transparency=200)
    assert (read_image(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize("values", [np.zeros((4, 4), np.int32), np.zeros((4, 4), np.float32)])
def test_thirty_two_bits_have_no_known_range(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match=r"32-bit values .* no known range"):
        read_image(tmp_path / "a.tif")


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert (read_image(tmp_path / name) == (255, 0, 0)).all()
        with Image.open(tmp_path / name) as opened:
            opened.seek(2)
            assert (read_image(opened) == (255, 0, 0)).all()
        shown = [pixels[0, 0].tolist() for pixels, _ in animation_frames(tmp_path / name)]
        assert shown == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    # An APNG's picture for viewers that know no animations is the picture, and not a frame.
    frames[0].save(tmp_path / "b.png", save_all=True, append_images=frames[1:], default_image=True)
    assert (read_image(tmp_path / "b.png") == (255, 0, 0)).all()
    assert len(list(animation_frames(tmp_path / "b.png"))) == 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)
    turned = {
        1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: lambda x: np.rot90(x),
    }[orientation]  # fmt: skip
    shown = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(shown, turned(gradient()))
    assert image_size(tmp_path / "a.png") == (shown.shape[1], shown.shape[0])


def test_cmyk_and_other_colour_spaces(tmp_path):
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    red.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() <= 3
    assert np.abs(read_image(red.convert("HSV")).astype(int) - (255, 0, 0)).max() <= 1


def test_a_jpeg_cut_short_is_refused(tmp_path):
    Image.fromarray(gradient(64, 64)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(UnreadableImageError, match=r"a\.jpg .*damaged"):
        read_image(tmp_path / "a.jpg")
