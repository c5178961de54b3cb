"""What is read against what the ffmpeg program shows, on every kind of file that could be made; and
cases from public bug reports, each with its right value.

    python benchmarks/trust.py [--ffmpeg PROGRAM] [--only WORD] [--keep FOLDER] [--table NAME]

Each video is made here, read whole by `VideoReader`, and compared frame by frame with the rgb24 (or
rgba) that `ffmpeg` writes; then 16 of its frames are read alone and must be the same ones. ffmpeg
is told what the file says of its chroma's place and its fields, which versions before 7 leave out
(version 5 also rounds MPEG-4 and WMV by another inverse transform, a level or two apart). Pictures
are compared with the pixels they were made from. Needs the ffmpeg program, for example that of the
package imageio-ffmpeg.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import reported
from PIL import Image

from media.errors import UserError
from media.images import flatten_alpha, read_image
from media.video import VideoReader, read_clip, sample_linspace

PROGRAM = ["ffmpeg"]
RATE, FRAMES = 25, 100
LEFT = "scale=in_h_chr_pos=0:in_v_chr_pos=128"  # 4:2:0 of H.264 and later: beside the left column
LEFT_422 = "scale=in_h_chr_pos=0"
FIELDS = "scale=interl=1"


@dataclass(frozen=True)
class Kind:
    """A kind of video: how it is made from the test picture, and what should come out."""

    name: str
    file: str
    encode: str  # ffmpeg's options
    filter: str = ""  # how ffmpeg has to convert it, where its default leaves something out
    says: str = ""  # a part of the remark, or of the refusal
    refused: bool = False
    alpha: bool = False
    turn: Callable[[np.ndarray], np.ndarray] | None = None  # of the stored frames
    size: str = "160x120"


X264 = "-c:v libx264 -pix_fmt yuv420p"
X265 = "-c:v libx265 -x265-params log-level=none"
TAGS = "-vf setparams=color_primaries={0}:color_trc={1}:colorspace={2}"
KINDS = [
    # codecs and containers
    Kind("H.264, MP4", "a.mp4", X264),
    Kind("H.264, MP4, faststart", "a.mp4", f"{X264} -movflags faststart"),
    Kind("H.264, fragmented MP4", "a.mp4", f"{X264} -movflags frag_keyframe+empty_moov"),
    Kind("H.264, MOV", "a.mov", X264),
    Kind("H.264, MKV", "a.mkv", X264),
    Kind("H.264, AVI", "a.avi", X264),
    Kind("H.264, MPEG-TS", "a.ts", X264),
    Kind("H.264, FLV", "a.flv", X264),
    Kind("H.264, no container", "a.h264", X264),
    Kind("H.264 RGB", "a.mp4", "-c:v libx264rgb -pix_fmt rgb24"),
    Kind("HEVC, open groups, MP4", "a.mp4", f"{X265}:open-gop=1:keyint=10 -pix_fmt yuv420p"),
    Kind("HEVC, MKV", "a.mkv", f"{X265} -pix_fmt yuv420p"),
    Kind("AV1, MP4", "a.mp4", "-c:v libaom-av1 -cpu-used 8 -pix_fmt yuv420p"),
    Kind("AV1, MKV", "a.mkv", "-c:v libaom-av1 -cpu-used 8 -pix_fmt yuv420p"),
    Kind("VP8, hidden frames, WebM", "a.webm",
         "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -b:v 200k -pix_fmt yuv420p"),
    Kind("VP9, hidden frames, WebM", "a.webm",
         "-c:v libvpx-vp9 -auto-alt-ref 1 -lag-in-frames 16 -cpu-used 8 -pix_fmt yuv420p"),
    Kind("MPEG-4, B-frames, AVI", "a.avi", "-c:v mpeg4 -bf 2 -g 30"),
    Kind("MPEG-4, MP4", "a.mp4", "-c:v mpeg4 -q:v 3"),
    Kind("MPEG-2, B-frames, program stream", "a.mpg", "-c:v mpeg2video -bf 2"),
    Kind("MPEG-2, MPEG-TS", "a.ts", "-c:v mpeg2video -bf 2"),
    Kind("MPEG-1", "a.mpg", "-c:v mpeg1video -bf 2"),
    Kind("H.263, 3GP", "a.3gp", "-c:v h263 -s 176x144"),
    Kind("Motion JPEG, AVI", "a.avi", "-c:v mjpeg -pix_fmt yuvj422p"),
    Kind("Motion JPEG, no container", "a.mjpeg", "-c:v mjpeg -pix_fmt yuvj420p"),
    Kind("Theora, Ogg", "a.ogv", "-c:v libtheora -pix_fmt yuv420p"),
    Kind("WMV 2, ASF", "a.wmv", "-c:v wmv2"),
    Kind("ProRes 422", "a.mov", "-c:v prores_ks -pix_fmt yuv422p10le"),
    Kind("ProRes 4444 with alpha", "a.mov", "-c:v prores_ks -pix_fmt yuva444p10le", alpha=True),
    Kind("DNxHR", "a.mov", "-c:v dnxhd -profile:v dnxhr_hq -pix_fmt yuv422p -s 256x144"),
    Kind("HuffYUV, AVI", "a.avi", "-c:v huffyuv -pix_fmt yuv422p"),
    Kind("Ut Video, AVI", "a.avi", "-c:v utvideo -pix_fmt gbrp"),
    Kind("FFV1, MKV", "a.mkv", "-c:v ffv1 -pix_fmt bgr0"),
    Kind("uncompressed, AVI", "a.avi", "-c:v rawvideo -pix_fmt bgr24"),
    Kind("YUV4MPEG", "a.y4m", "-pix_fmt yuv420p"),
    Kind("QuickTime Animation with alpha", "a.mov", "-c:v qtrle -pix_fmt argb", alpha=True),
    Kind("PNG in MOV with alpha", "a.mov", "-c:v png -pix_fmt rgba", alpha=True),
    Kind("Cinepak, AVI", "a.avi", "-c:v cinepak"),
    Kind("with sound", "a.mp4",
         f"-f lavfi -i sine=duration=2 -map 0:v -map 1:a {X264} -c:a aac"),
    Kind("GIF", "a.gif", ""),
    Kind("APNG", "a.png", "-f apng -plays 0 -pix_fmt rgb24"),
    # groups of pictures
    Kind("one keyframe, 8 B-frames", "a.mp4", f"{X264} -g 1000 -bf 8"),
    Kind("keyframes only", "a.mp4", f"{X264} -g 1"),
    Kind("open groups, MP4", "a.mp4", f"{X264} -g 10 -x264-params open-gop=1"),
    Kind("intra refresh", "a.mp4", f"{X264} -g 10 -x264-params intra-refresh=1"),
    # pixels
    Kind("4:2:2", "a.mp4", "-c:v libx264 -pix_fmt yuv422p"),
    Kind("4:4:4", "a.mp4", "-c:v libx264 -pix_fmt yuv444p"),
    Kind("10 bit, 4:2:0", "a.mp4", f"{X265} -pix_fmt yuv420p10le", LEFT),
    Kind("10 bit, 4:2:2", "a.mp4", "-c:v libx264 -pix_fmt yuv422p10le", LEFT_422),
    Kind("12 bit, 4:4:4", "a.mkv", f"{X265} -pix_fmt yuv444p12le"),
    Kind("16 bit, FFV1", "a.mkv", "-c:v ffv1 -pix_fmt yuv444p16le"),
    Kind("grey", "a.mkv", "-c:v ffv1 -pix_fmt gray"),
    Kind("full range", "a.mp4", "-c:v libx264 -pix_fmt yuvj420p"),
    Kind("BT.709", "a.mp4", f"{X264} {TAGS.format('bt709', 'bt709', 'bt709')}"),
    Kind("HDR, PQ", "a.mp4",
         f"{X265} -pix_fmt yuv420p10le {TAGS.format('bt2020', 'smpte2084', 'bt2020nc')}",
         LEFT, says="HDR (PQ)"),
    Kind("HDR, HLG", "a.mp4",
         f"{X265} -pix_fmt yuv420p10le {TAGS.format('bt2020', 'arib-std-b67', 'bt2020nc')}",
         LEFT, says="HDR (HLG)"),
    Kind("interlaced", "a.mp4", f"{X264} -flags +ildct+ilme", FIELDS, says="interlaced"),
    Kind("interlaced MPEG-2", "a.ts", "-c:v mpeg2video -flags +ildct+ilme", FIELDS,
         says="interlaced"),
    Kind("pixels not square", "a.mp4", f"-vf setsar=4/3 {X264}", says="not square (4:3)"),
    Kind("odd size, 4:4:4", "a.mp4", "-c:v libx264 -pix_fmt yuv444p", size="161x121"),
    Kind("odd size, 4:2:0", "a.webm", "-c:v libvpx-vp9 -cpu-used 8 -pix_fmt yuv420p",
         size="161x121"),
    # time
    Kind("variable frame rate", "a.mkv",
         rf"-vf select=not(mod(n\,3))+lt(n\,9) -fps_mode passthrough {X264}"),
    Kind("starts late", "a.mp4", f"-output_ts_offset 3 {X264}"),
]  # fmt: skip


def ffmpeg(*options: str | Path) -> bytes:
    """Run the program; what it writes to its output."""
    command = [PROGRAM[0], "-y", "-v", "error", *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def make(kind: Kind, folder: Path) -> Path:
    source = f"testsrc2=size={kind.size}:rate={RATE}:duration={FRAMES / RATE}"
    if kind.alpha:
        source += ",format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*lt(X,80)'"
    ffmpeg("-f", "lavfi", "-i", source, *kind.encode.split(), folder / kind.file)
    return folder / kind.file


def shown(path: Path, kind: Kind) -> np.ndarray:
    """The frames as the ffmpeg program gives them, uint8 [T, H, W, 3]."""
    (stream,) = (s for s in av.open(f"file:{path}").streams.video if not s.disposition & 0x400)
    layers, pixels = (4, "rgba") if kind.alpha else (3, "rgb24")
    options: list[str] = ["-vf", kind.filter] if kind.filter else []
    data = ffmpeg(
        "-noautorotate", "-i", f"file:{path}", "-map", f"0:{stream.index}",
        *options, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pixels, "-",
    )  # fmt: skip
    frames = np.frombuffer(data, np.uint8).reshape(-1, stream.height, stream.width, layers)
    if kind.alpha:
        frames = np.stack([flatten_alpha(frame) for frame in frames])
    return kind.turn(frames) if kind.turn else frames


def derived(folder: Path) -> Iterator[tuple[Kind, Path]]:
    """Videos that are made from other videos: cut, turned, joined, damaged."""
    whole, hevc = folder / "whole.mp4", folder / "hevc.mp4"
    source = f"testsrc2=size=160x120:rate={RATE}:duration=8"
    ffmpeg("-f", "lavfi", "-i", source, *f"{X264} -g 1000 -bf 8".split(), whole)
    ffmpeg("-f", "lavfi", "-i", source, *X265.split(), "-pix_fmt", "yuv420p", hevc)
    cut = ["-ss", "3.0", "-i", whole, "-t", "1.0", "-c", "copy"]
    for name, start in (("cut.mp4", cut), ("cut.mov", cut), ("cut.mkv", cut)):
        ffmpeg(*start, folder / name)
        yield Kind(f"stream copy of a part, {name[-3:].upper()}", name, ""), folder / name
    ffmpeg("-ss", "3.0", "-i", hevc, "-t", "1.0", "-c", "copy", folder / "cut_hevc.mp4")
    yield Kind("stream copy of a part, HEVC", "", ""), folder / "cut_hevc.mp4"

    def turned(name: str, matrix: list[int], turn: Callable[[np.ndarray], np.ndarray]) -> tuple:
        path = folder / f"{name}.mp4"
        with av.open(str(whole)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            a, b, c, d = (65536 * sign for sign in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
        return Kind(name, "", "", turn=turn), path

    yield turned("a quarter turn clockwise", [0, 1, -1, 0], lambda x: np.rot90(x, -1, (1, 2)))
    yield turned("a quarter turn back", [0, -1, 1, 0], lambda x: np.rot90(x, 1, (1, 2)))
    yield turned("half a turn", [-1, 0, 0, -1], lambda x: np.rot90(x, 2, (1, 2)))
    yield turned("mirrored", [-1, 0, 0, 1], lambda x: x[:, :, ::-1])
    yield turned("upside down", [1, 0, 0, -1], lambda x: x[:, ::-1])
    yield turned("mirrored and turned", [0, 1, 1, 0], lambda x: x.swapaxes(1, 2))

    picture = folder / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", "1", picture)
    covered = ["-map", "0", "-map", "1", "-c", "copy", "-disposition:0", "attached_pic"]
    ffmpeg("-i", picture, "-i", whole, *covered, folder / "cover.mp4")
    yield Kind("cover picture first, MP4", "", ""), folder / "cover.mp4"
    attached = ["-attach", picture, "-metadata:s:t", "mimetype=image/png"]
    ffmpeg("-i", whole, *attached, "-c", "copy", folder / "cover.mkv")
    yield Kind("cover picture, MKV", "", ""), folder / "cover.mkv"
    colon = folder / "take:1 50%d.mp4"
    colon.write_bytes(whole.read_bytes())
    yield Kind("a colon in the name", "", ""), colon

    # What can't be right is refused.
    ffmpeg("-f", "lavfi", "-i", source.replace("160", "320"), *X264.split(), folder / "big.ts")
    ffmpeg("-i", whole, "-c", "copy", folder / "small.ts")
    both = folder / "both.ts"
    both.write_bytes((folder / "small.ts").read_bytes() + (folder / "big.ts").read_bytes())
    yield Kind("the size changes", "", "", says="changes its frame size", refused=True), both
    data = whole.read_bytes()
    damaged = folder / "damaged.mp4"
    middle = len(data) // 2
    damaged.write_bytes(data[:middle] + bytes(1000) + data[middle + 1000 :])
    yield Kind("1,000 bytes overwritten", "", "", says="damaged", refused=True), damaged
    ffmpeg("-i", whole, "-c", "copy", "-movflags", "faststart", folder / "whole_fast.mp4")
    ffmpeg("-i", whole, "-c", "copy", folder / "whole.mkv")
    for name in ("whole_fast.mp4", "whole.mkv"):
        half = folder / f"half_{name}"
        data = (folder / name).read_bytes()
        half.write_bytes(data[: len(data) // 2])
        kind = f"half a file, {name[-3:].upper()}"
        yield Kind(kind, "", "", says="truncated", refused=True), half
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", folder / "sound.m4a")
    yield Kind("sound only", "", "", says="no video stream", refused=True), folder / "sound.m4a"
    playlist = folder / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile whole.mp4\n")
    yield Kind("a playlist", "", "", says="playlist", refused=True), playlist


def row(kind: Kind, path: Path) -> tuple[str, str, str, bool]:
    """Name, what came out, what was said, and whether it is right."""
    try:
        clip = read_clip(path)
        sparse = read_clip(path, 16)
    except UserError as error:
        said = str(error).removeprefix(str(path)).lstrip(": ").split("(")[0]
        return kind.name, "refused", said, kind.refused and kind.says in str(error)
    said = "; ".join(VideoReader(path).info.remarks)
    expected = shown(path, kind)
    if clip.frames.shape != expected.shape:
        return kind.name, f"{clip.frames.shape} for {expected.shape}", said, False
    worst = int(np.abs(clip.frames.astype(np.int16) - expected).max())
    same = np.array_equal(sparse.frames, clip.frames[sample_linspace(clip.count, 16)])
    came = f"{clip.count} frames, {worst or 'no'} level{'s' * (worst != 1)} apart"
    right = not worst and same and not kind.refused and (kind.says in said if kind.says else True)
    return kind.name, came + ("" if same else ", 16 alone DIFFER"), said, right


def pictures(folder: Path) -> Iterator[tuple[str, str, str, bool]]:
    """Kinds of pictures against the pixels that a viewer shows."""
    y, x = np.mgrid[:24, :32]
    plain = np.stack([x * 8, y * 10, (x + y) * 4], -1).astype(np.uint8)
    image, grey = Image.fromarray(plain), np.repeat(plain[..., :1], 3, 2)
    clear = np.dstack([plain, np.where(x < 16, 255, 0).astype(np.uint8)])
    on_white = np.where((x < 16)[..., None], plain, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = image.quantize(200)
    transparent = image.quantize(200)
    others = [Image.new("RGB", (32, 24), colour) for colour in ("red", "blue")]
    two = {"save_all": True, "append_images": others}
    deep = plain[..., 0].astype(np.uint16) * 257
    cases: list[tuple[str, str, Image.Image, dict, np.ndarray, int]] = [
        ("PNG", "a.png", image, {}, plain, 0),
        ("BMP", "a.bmp", image, {}, plain, 0),
        ("TIFF", "a.tif", image, {}, plain, 0),
        ("WebP, lossless", "a.webp", image, {"lossless": True}, plain, 0),
        ("JPEG", "a.jpg", image, {"quality": 100, "subsampling": 0}, plain, 6),
        ("AVIF", "a.avif", image, {"quality": 100, "subsampling": "4:4:4"}, plain, 6),
        ("EXIF, a quarter turn", "a.png", image, {"exif": exif}, np.rot90(plain, -1), 0),
        ("cut-out", "a.png", Image.fromarray(clear), {}, on_white, 0),
        ("cut-out, WebP", "a.webp", Image.fromarray(clear), {"lossless": True}, on_white, 0),
        ("cut-out, grey", "a.png", Image.fromarray(clear[..., [0, 3]], "LA"), {},
         np.where((x < 16)[..., None], grey, 255), 0),
        ("palette", "a.png", palette, {}, np.asarray(palette.convert("RGB")), 0),
        ("palette, a clear colour", "a.png", transparent, {"transparency": 7},
         np.where((np.asarray(transparent) == 7)[..., None], 255,
                  np.asarray(transparent.convert("RGB"))), 0),
        ("grey, 8 bit", "a.png", Image.fromarray(plain[..., 0]), {}, grey, 0),
        ("grey, 16 bit", "a.png", Image.fromarray(deep), {}, grey, 0),
        ("grey, 16 bit, TIFF", "a.tif", Image.fromarray(deep), {}, grey, 0),
        ("grey, 16 bit, dark", "a.png", Image.fromarray(deep // 257), {}, grey // 255, 1),
        ("one bit", "a.png", Image.fromarray(x > 16), {},
         np.repeat(np.where(x > 16, 255, 0)[..., None], 3, 2), 0),
        ("CMYK, JPEG", "a.jpg", image.convert("CMYK"), {"quality": 100, "subsampling": 0},
         plain, 6),
        ("animation, GIF", "a.gif", others[0], two, np.asarray(others[0]), 0),
        ("animation, APNG", "a.png", image, two, plain, 0),
        ("animation, WebP", "a.webp", image, {**two, "lossless": True}, plain, 0),
        ("pages, TIFF", "a.tif", image, two, plain, 0),
    ]  # fmt: skip
    for name, file, picture, options, expected, allowed in cases:
        picture.save(folder / file, **options)
        pixels = read_image(folder / file).astype(np.int16)
        worst = int(np.abs(pixels - expected).max()) if pixels.shape == expected.shape else 999
        yield name, f"{worst or 'no'} level{'s' * (worst != 1)} apart", "", worst <= allowed
    Image.fromarray(x.astype(np.int32)).save(folder / "a.tif")
    try:
        read_image(folder / "a.tif")
        yield "32-bit values", "read", "", False
    except UserError as error:
        yield "32-bit values", "refused", str(error).removeprefix(f"{folder}/a.tif "), True


def folders(folder: Path) -> Iterator[tuple[str, str, str, bool]]:
    """An image folder, and an animated WebP, which the ffmpeg program doesn't read."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (12, 24, 32, 3), np.uint8)
    (folder / "frames").mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "frames" / f"frame{i}.png")
    first, *rest = map(Image.fromarray, frames)
    first.save(folder / "a.webp", save_all=True, append_images=rest, lossless=True, duration=40)
    for name, path in (("folder of images", "frames"), ("animated WebP", "a.webp")):
        clip = read_clip(folder / path)
        worst = int(np.abs(clip.frames.astype(np.int16) - frames).max())
        yield name, f"{clip.count} frames, {worst or 'no'} levels apart", "", worst == 0


def rows(folder: Path, only: str) -> Iterator[tuple[str, str, str, bool]]:
    def wanted(name: str) -> bool:
        return only.lower() in name.lower()

    for number, kind in enumerate(filter(lambda kind: wanted(kind.name), KINDS)):
        place = folder / str(number)
        place.mkdir()
        yield row(kind, make(kind, place))
    (folder / "derived").mkdir()
    for kind, path in derived(folder / "derived"):
        if wanted(kind.name):
            yield row(kind, path)
    for some in (folders, pictures):
        yield from (found for found in some(folder) if wanted(found[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="kinds whose name holds this word")
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps the files")
    parser.add_argument("--ffmpeg", default="ffmpeg", help="the program to compare with")
    tables = ("files", "reports")
    parser.add_argument("--table", choices=tables, help="one of the two tables; both by default")
    given = parser.parse_args()
    PROGRAM[0] = given.ffmpeg
    wrong = 0
    if given.table != "reports":
        wrong += files(given)
    if given.table != "files":
        wrong += reports(given.only)
    sys.exit(wrong > 0)


def reports(only: str) -> int:
    """Print the table of reported cases; how many are wrong."""
    found = list(reported.rows(only))
    print("\n| case | right | seen | ok |\n|---|---|---|---|")
    for name, right, seen, ok in found:
        print(f"| {name} | {right} | {seen} | {'yes' if ok else 'NO'} |")
    good = sum(ok for *_, ok in found)
    print(f"\n{good} of {len(found)} cases are right.")
    return len(found) - good


def files(given: argparse.Namespace) -> int:
    """Print the table of kinds of files; how many are wrong."""
    print("| kind | read | said | right |\n|---|---|---|---|")
    with TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        wrong = count = 0
        for name, came, said, right in rows(folder, given.only):
            print(f"| {name} | {came} | {said} | {'yes' if right else 'NO'} |", flush=True)
            wrong, count = wrong + (not right), count + 1
    print(f"\n{count - wrong} of {count} kinds are right.")
    return wrong


if __name__ == "__main__":
    main()
