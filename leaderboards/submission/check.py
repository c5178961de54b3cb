"""Challenge archives: packed from a run, and checked whoever made them.

An archive is read as hostile input: nothing is ever extracted to the disk under a name of its own,
sizes are limited by what is read rather than by what is declared, and every problem is listed at
once. What we pack is the same bytes for the same videos.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import IO, Any

import av
import numpy as np

from leaderboards.errors import LeaderboardError
from leaderboards.scores import open_store
from leaderboards.tables.formats import write_bytes

#: Scores of videos: takes paths, gives one mapping metric -> value for each path.
Scorer = Callable[[Sequence[Path]], Sequence[Mapping[str, float]]]


@dataclass(frozen=True)
class SubmissionFormat:
    """How one track of the challenge wants its archive.

    Attributes:
        name: how the command line calls it.
        archive: the archive's file name.
        numbered: videos are `submission/1.mp4` .. in the order of eval.json (2026); otherwise
            `submission/idNNN/promptK.mp4` (2025).
        videos: how many the track has, where no eval.json says otherwise.
        timeline: eval.json gives each video a timeline that it has to be long enough for.
    """

    name: str
    archive: str
    numbered: bool
    videos: int
    timeline: bool = False


FORMATS: Mapping[str, SubmissionFormat] = {
    format.name: format
    for format in (
        SubmissionFormat("ipvg2026-facial", "facial_results.zip", True, 200),
        SubmissionFormat(
            "ipvg2026-sequential", "sequential_action_results.zip", True, 200, timeline=True
        ),
        SubmissionFormat("ipvg2025-facial", "facial_results.zip", False, 1000),
        SubmissionFormat("ipvg2025-fullbody", "fullbody_results.zip", False, 1000),
    )
}


@dataclass(frozen=True)
class Limits:
    """What a video and an archive may be; the rules state no numbers, so these are ours.

    seconds: shortest and longest playing time. side: largest width or height in pixels. frames:
    most frames in a video. video_bytes, archive_bytes: most bytes, unpacked. ratio: how far a
    member may be compressed (an H.264 stream hardly can be).
    """

    seconds: tuple[float, float] = (0.25, 120.0)
    side: int = 4096
    frames: int = 20_000
    video_bytes: int = 512 * 2**20
    archive_bytes: int = 64 * 2**30
    ratio: float = 100.0


@dataclass(frozen=True)
class VideoFacts:
    """What decoding a video to its last frame showed."""

    codec: str
    pixel_format: str
    width: int
    height: int
    frames: int
    seconds: float
    mp4: bool


@dataclass
class CheckReport:
    """The outcome of a check: every problem found, in archive order, and what was read."""

    archive: str
    format: str
    problems: list[str] = field(default_factory=list)
    videos: dict[str, VideoFacts] = field(default_factory=dict)
    expected: int = 0
    sha256: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems

    def require(self) -> None:
        """Raise LeaderboardError with every problem, if there is one."""
        if self.problems:
            raise LeaderboardError("\n".join(self.problems))


@dataclass(frozen=True)
class PackedSubmission:
    """A finished archive with its manifest, which lies beside it."""

    archive: Path
    manifest: Path
    videos: int
    reencoded: int
    sha256: str


def submission_format(name: str) -> SubmissionFormat:
    """The format of that name; raises LeaderboardError listing those that exist."""
    if name not in FORMATS:
        raise LeaderboardError(
            f"{name!r} is no submission format: give one of {', '.join(FORMATS)}."
        )
    return FORMATS[name]


# --------------------------------------------------------------------------- what is expected


def read_eval(path: str | Path, format: SubmissionFormat) -> dict[str, float]:
    """What an archive has to hold: member name -> shortest playing time in seconds (0 if unstated).

    path: eval.json (or the folder that holds it) for 2026; the testset folder for 2025.
    Raises LeaderboardError where it is missing or not in its published form.
    """
    path = Path(path)
    if not format.numbered:
        if not path.is_dir():
            raise LeaderboardError(
                f"{path} is not a folder: {format.name} wants the testset folder with "
                "idNNN/promptK.txt."
            )
        names = sorted(
            (p.relative_to(path) for p in path.glob("id*/prompt*.txt")),
            key=lambda p: [int(n) for n in re.findall(r"\d+", str(p))],
        )
        if not names:
            raise LeaderboardError(f"{path} has no idNNN/promptK.txt: give the testset folder.")
        return {f"submission/{name.with_suffix('.mp4').as_posix()}": 0.0 for name in names}
    if path.is_dir():
        path = path / "eval.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LeaderboardError(f"{path} does not exist: give the challenge's eval.json.") from None
    except ValueError as error:
        raise LeaderboardError(
            f"{path} is not JSON ({error}): give the challenge's file."
        ) from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise LeaderboardError(f"{path} is not a list of samples: give the challenge's eval.json.")
    return {
        f"submission/{number}.mp4": _timeline_end(entry, f"{path}, sample {number}")
        if format.timeline
        else 0.0
        for number, entry in enumerate(entries, start=1)
    }


def _timeline_end(entry: Mapping[str, Any], where: str) -> float:
    captions = entry.get("temporal_captions")
    if not isinstance(captions, list) or not captions:
        raise LeaderboardError(f"{where}: has no temporal_captions; is this track 2's eval.json?")
    try:
        ends = [
            float(c["end"] if isinstance(c, Mapping) else c[1])  # an object, or start, end, text
            for c in captions
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise LeaderboardError(f"{where}: a temporal caption has no numeric end.") from error
    return max(ends)


def _expected(format: SubmissionFormat, eval: str | Path | None) -> dict[str, float]:
    if eval is not None:
        return read_eval(eval, format)
    if format.numbered:
        return {f"submission/{n}.mp4": 0.0 for n in range(1, format.videos + 1)}
    return {
        f"submission/id{i:03d}/prompt{k}.mp4": 0.0
        for i in range(1, format.videos // 5 + 1)
        for k in range(1, 6)
    }


# --------------------------------------------------------------------------- one video


class _Unplayable(Exception):
    """Why a video cannot be played, in words that go into a report."""


def inspect_video(source: Path | IO[bytes], limits: Limits | None = None) -> VideoFacts:
    """Decode a video to its last frame and say what it is.

    Raises LeaderboardError where it has no video stream, is larger than `limits`, breaks off, or
    holds fewer frames than its header promises.
    """
    try:
        return _inspect(source, limits or Limits())
    except _Unplayable as error:
        raise LeaderboardError(str(error)) from error


def _inspect(source: Path | IO[bytes], limits: Limits) -> VideoFacts:
    opened = str(source) if isinstance(source, Path) else source
    try:
        container = av.open(opened, "r")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _Unplayable(f"is not a video that can be opened ({_short(error)})") from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & 0x400]
        if not streams:
            raise _Unplayable("has no video stream")
        if len(streams) > 1:
            raise _Unplayable(f"has {len(streams)} video streams; leave one")
        stream = streams[0]
        context = stream.codec_context
        width, height = context.width, context.height
        if not width or not height or max(width, height) > limits.side:
            raise _Unplayable(f"is {width} x {height}; at most {limits.side} a side is allowed")
        mp4 = "mp4" in container.format.name.split(",") and _brand_is_mp4(container)
        if width * height > 640 * 480:  # for less, starting threads costs more than they save
            stream.thread_type = "AUTO"
        # "explode" turns damage that FFmpeg would conceal into an error.
        context.options = {"err_detect": "explode"}
        frames, last, step = 0, 0.0, 0.0
        try:
            for frame in container.decode(stream):
                frames += 1
                if frame.is_corrupt:
                    raise _Unplayable(f"is damaged at frame {frames}")
                if frames > limits.frames:
                    raise _Unplayable(f"has more than {limits.frames} frames")
                if frame.time is not None:
                    step = frame.time - last if frames > 1 else step
                    last = frame.time
        except av.FFmpegError as error:
            raise _Unplayable(
                f"cannot be played to the last frame: it breaks off after frame {frames} "
                f"({_short(error)})"
            ) from error
        if frames == 0:
            raise _Unplayable("has no frame that can be decoded")
        if stream.frames and frames < stream.frames:
            raise _Unplayable(
                f"cannot be played to the last frame: {frames} of {stream.frames} frames are there"
            )
        rate = stream.average_rate
        seconds = frames / float(rate) if rate else last + step
        return VideoFacts(
            codec=context.codec.canonical_name,
            pixel_format=context.pix_fmt or "",
            width=width,
            height=height,
            frames=frames,
            seconds=seconds,
            mp4=mp4,
        )


def _brand_is_mp4(container: Any) -> bool:
    """MP4 and not QuickTime, 3GP or M4A, which share FFmpeg's demuxer; told by the major brand."""
    brand = str(container.metadata.get("major_brand", "")).strip().lower()
    return brand.startswith(("iso", "mp4", "avc", "dash", "cmf", "m4v", "msnv"))


def _short(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def _complaints(facts: VideoFacts, shortest: float, limits: Limits) -> Iterator[str]:
    if not facts.mp4:
        yield "is not in an MP4 container; the challenge takes H.264 in MP4"
    if facts.codec != "h264":
        yield f"is coded as {facts.codec}; the challenge takes H.264 in MP4"
    elif facts.pixel_format != "yuv420p":
        yield (
            f"has pixel format {facts.pixel_format}; re-encode it as yuv420p, which every player "
            "shows"
        )
    low, high = limits.seconds
    if facts.seconds < low:
        yield f"lasts {facts.seconds:.2f} s; at least {low:g} s is wanted"
    elif facts.seconds > high:
        yield f"lasts {facts.seconds:.1f} s; at most {high:g} s is allowed"
    # Half a frame of slack: the last frame of a timeline ends where the video does.
    slack = 0.5 * facts.seconds / facts.frames
    if facts.seconds + slack < shortest:
        yield f"lasts {facts.seconds:.2f} s, but its timeline runs to {shortest:g} s"


# --------------------------------------------------------------------------- checking


def check_submission(
    archive: str | Path,
    format: str,
    *,
    eval: str | Path | None = None,
    manifest: str | Path | None = None,
    limits: Limits | None = None,
) -> CheckReport:
    """Check any team's archive; the report lists every problem at once.

    archive: the zip file. format: one of FORMATS. eval: the challenge's eval.json (2026) or testset
    folder (2025); without it, the published counts (1..200, or id001..id200 with five prompts).
    manifest: the manifest written beside an archive by `pack_submission`; with it, each video is
    also checked to be the one meant for its place, so the order is certain. limits: our limits on
    sizes.

    Checks the archive's name, its members' names, count, uniqueness and order, links, absolute and
    escaping paths, encryption, compression bombs and damage; and of each video the container,
    codec, pixel format, size and playing time, decoding it to the last frame.

    Raises LeaderboardError only for what the caller got wrong: an unknown format, a missing file.
    """
    chosen, limits, path = submission_format(format), limits or Limits(), Path(archive)
    if not path.is_file():
        raise LeaderboardError(f"{path} does not exist: give the archive to check.")
    expected = _expected(chosen, eval)
    report = CheckReport(path.name, format, expected=len(expected), sha256=_sha256(path))
    if path.name != chosen.archive:
        report.problems.append(
            f"the archive is called {path.name}; {format} wants {chosen.archive}."
        )
    try:
        with zipfile.ZipFile(path) as opened:
            _check_members(opened, expected, report, limits, _digests(manifest, report))
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        report.problems.append(f"{path.name} is not a whole zip archive ({error}): zip it again.")
    return report


def _digests(manifest: str | Path | None, report: CheckReport) -> dict[str, str]:
    if manifest is None:
        return {}
    try:
        data = json.loads(Path(manifest).read_text(encoding="utf-8"))
        digests = {video["member"]: video["sha256"] for video in data["videos"]}
        whole = data["archive_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LeaderboardError(
            f"{manifest} is not a manifest that `submission pack` wrote ({error})."
        ) from error
    if whole != report.sha256:
        report.problems.append("the archive is not the one that the manifest was written for.")
    return digests


def _check_members(
    opened: zipfile.ZipFile,
    expected: Mapping[str, float],
    report: CheckReport,
    limits: Limits,
    digests: Mapping[str, str],
) -> None:
    problems = report.problems
    members: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    total = 0
    strays: list[str] = []
    if len(opened.infolist()) > 10 * len(expected) + 1000:
        problems.append(
            f"the archive has {len(opened.infolist()):,} members; {len(expected):,} are wanted."
        )
        return
    for info in opened.infolist():
        # The name as stored: the zipfile module cuts names at a NUL and turns backslashes around.
        name = info.orig_filename
        told = _printable(name)
        why = _unsafe(name)
        if why:
            problems.append(f"{told}: {why}; an archive's names stay inside submission/.")
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            problems.append(f"{told}: is a symbolic link; put the file itself into the archive.")
            continue
        if info.is_dir():
            if not any(member.startswith(name) for member in expected):
                strays.append(name)
            continue
        if name in seen:
            problems.append(f"{told}: stands twice in the archive; keep one.")
            continue
        seen.add(name)
        if info.flag_bits & 0x1:
            problems.append(f"{told}: is encrypted; zip without a password.")
            continue
        total += info.file_size
        if name not in expected:
            strays.append(name)
            continue
        if info.file_size > limits.video_bytes:
            problems.append(
                f"{told}: unpacks to {info.file_size:,} bytes; at most {limits.video_bytes:,} "
                "is allowed."
            )
            continue
        if info.file_size > limits.ratio * max(info.compress_size, 1) and info.file_size > 2**16:
            problems.append(
                f"{told}: is compressed {info.file_size / max(info.compress_size, 1):.0f} "
                "times, which "
                "no video is; this looks like a compression bomb."
            )
            continue
        if info.file_size == 0:
            problems.append(f"{told}: is empty.")
            continue
        members[name] = info
    if total > limits.archive_bytes:
        problems.append(
            f"the archive unpacks to {total:,} bytes; at most {limits.archive_bytes:,} is allowed."
        )
        return
    missing = [name for name in expected if name not in seen]
    if missing:
        problems.append(
            f"{len(missing)} of {len(expected)} videos are missing: {_some_names(missing)}."
        )
    if strays:
        problems.append(
            f"{len(strays)} names do not belong into the archive: "
            f"{_some_names(strays)}{_hint(strays)}."
        )
    first_of: dict[str, str] = {}
    for name, shortest in expected.items():
        if name not in members:
            continue
        info = members[name]
        try:
            with _member(opened, info, limits) as (file, digest):
                if name in digests and digests[name] != digest:
                    problems.append(
                        f"{name}: is not the video that the manifest has there; the order is "
                        "wrong or "
                        "the file was replaced."
                    )
                if digest in first_of:
                    problems.append(
                        f"{name}: is the same file as {first_of[digest]}; each place wants "
                        "its own video."
                    )
                first_of.setdefault(digest, name)
                facts = _inspect(file, limits)
        except _Unplayable as error:
            problems.append(f"{name}: {error}.")
            continue
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            problems.append(f"{name}: is damaged inside the archive ({error}); zip it again.")
            continue
        report.videos[name] = facts
        problems += [f"{name}: {complaint}." for complaint in _complaints(facts, shortest, limits)]


@contextlib.contextmanager
def _member(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits
) -> Iterator[tuple[IO[bytes], str]]:
    """A member's bytes as a seekable file without a name, with their SHA-256.

    Reading stops at the declared size (which was checked against the limits): what is declared is
    not believed, only used as a bound. Reading to the end also verifies the CRC.
    """
    digest = hashlib.sha256()
    size = 0
    with tempfile.SpooledTemporaryFile(max_size=64 * 2**20) as file:
        with opened.open(info) as source:
            while chunk := source.read(2**20):
                size += len(chunk)
                if size > min(info.file_size, limits.video_bytes):
                    raise _Unplayable("unpacks to more bytes than it declares")
                digest.update(chunk)
                file.write(chunk)
        if size != info.file_size:
            raise _Unplayable("unpacks to fewer bytes than it declares")
        file.seek(0)
        yield file, digest.hexdigest()


def _unsafe(name: str) -> str | None:
    """Why a member's name is dangerous; None where it is not."""
    if "\0" in name or any(ord(c) < 32 for c in name):
        return "has control characters in its name"
    if "\\" in name:
        return "has a backslash in its name"
    if name.startswith("/") or re.match(r"^[A-Za-z]:", name):
        return "is an absolute path"
    if ".." in PurePosixPath(name).parts:
        return "leaves the archive's folder"
    return None


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _some_names(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(_printable(name) for name in names[:most]) + more


def _hint(strays: Sequence[str]) -> str:
    if any(re.fullmatch(r"submission/0+\d+\.mp4", name) for name in strays):
        return " (numbers have no leading zeros)"
    if any(name.count("submission/") > 1 for name in strays):
        return " (the folder submission/ stands inside itself)"
    if any(re.fullmatch(r"(\d+|id\d+/prompt\d+)\.mp4", name) for name in strays):
        return " (videos belong into a folder called submission/)"
    return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --------------------------------------------------------------------------- packing


def reencode(source: Path, target: Path, crf: int = 10) -> None:
    """Write a video again as H.264 yuv420p in MP4; the same input gives the same bytes.

    Frame times are kept; an odd side loses its last row or column, as yuv420p needs even ones;
    sound is dropped. crf 10 is visually lossless. Raises LeaderboardError where the source cannot
    be read.
    """
    try:
        with (
            av.open(str(source)) as read,
            av.open(
                str(target), "w", format="mp4",
                options={"movflags": "+faststart", "fflags": "+bitexact"},
            ) as write,
        ):  # fmt: skip
            stream = read.streams.video[0]
            rate = stream.average_rate or Fraction(24)
            out = write.add_stream("libx264", rate=rate)
            width, height = stream.codec_context.width, stream.codec_context.height
            out.width, out.height = width - width % 2, height - height % 2
            out.pix_fmt = "yuv420p"
            out.time_base = stream.time_base or 1 / rate
            out.codec_context.flags |= (
                0x00800000  # AV_CODEC_FLAG_BITEXACT: no version in the stream
            )
            # cpu-independent: x264's macroblock tree in AVX-512 differs from call to call.
            x264 = "threads=1:cpu-independent=1"
            out.options = {"crf": str(crf), "preset": "slow", "x264-params": x264}
            for number, frame in enumerate(read.decode(stream)):
                pixels = frame.to_ndarray(format="rgb24")[: out.height, : out.width]
                even = np.ascontiguousarray(pixels, dtype=np.uint8)
                copy = av.VideoFrame.from_ndarray(even, format="rgb24")
                copy.pts = frame.pts if frame.pts is not None else number
                copy.time_base = frame.time_base
                write.mux(out.encode(copy))
            write.mux(out.encode())
    except (av.FFmpegError, IndexError, OSError) as error:
        raise LeaderboardError(
            f"{source} cannot be re-encoded ({_short(error)}): generate that video again."
        ) from error


@dataclass(frozen=True)
class _Planned:
    member: str
    sample: str
    video: str
    path: Path


def pack_submission(
    run: str | Path,
    entry: str,
    format: str,
    *,
    out: str | Path | None = None,
    eval: str | Path | None = None,
    seed: int | None = None,
    scorer: Scorer | None = None,
    scores_before: Sequence[Mapping[str, float]] | None = None,
    tolerance: float | Mapping[str, float] = 0.02,
    limits: Limits | None = None,
) -> PackedSubmission:
    """Build a challenge archive from one entry of a run, and a manifest beside it.

    run: the run folder. entry: its cell's key, label, or the beginning of a key. format: one of
    FORMATS. out: the folder to write to, `run/submissions/<entry>` if not given. eval: eval.json or
    testset folder, for the names and the count that are expected. seed: which one, where the run
    made several. scorer: scores videos that had to be re-encoded, before and after;
    `scores_before` spares the first pass (a mapping for each re-encoded video, in archive order).
    tolerance: how far the mean of any metric may move by re-encoding, in the metric's own unit; a
    number for all, or a mapping with an entry for every metric.

    Videos that are H.264 yuv420p in MP4 go in as they are. The archive is checked as a stranger's
    would be before it gets its name.

    Raises LeaderboardError where videos are missing or failed, where some had to be re-encoded and
    nothing can score them, or where scores moved by the tolerance or more; no archive is left then.
    """
    chosen, limits, run = submission_format(format), limits or Limits(), Path(run)
    expected = _expected(chosen, eval)
    cell, label, planned = _plan(run, entry, chosen, expected, seed)
    folder = run / "submissions" / cell[:16] if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".packing-") as scratch:
        final: list[Path] = []
        changed: list[int] = []
        for number, item in enumerate(planned):
            try:
                facts = _inspect(item.path, limits)
            except _Unplayable as error:
                raise LeaderboardError(
                    f"{item.path.name} (sample {item.sample}) {error}: generate it again."
                ) from error
            if facts.mp4 and facts.codec == "h264" and facts.pixel_format == "yuv420p":
                final.append(item.path)
                continue
            target = Path(scratch) / f"{number}.mp4"
            reencode(item.path, target)
            final.append(target)
            changed.append(number)
        compared = _compare(planned, final, changed, scorer, scores_before, tolerance)
        temporary = Path(scratch) / chosen.archive
        _write_zip(temporary, [(p.member, path) for p, path in zip(planned, final)])
        report = check_submission(temporary, format, eval=eval, limits=limits)
        report.require()
        manifest = {
            "format": format,
            "archive": chosen.archive,
            "archive_sha256": report.sha256,
            "entry": cell,
            "label": label,
            "reencoded": len(changed),
            "scores": compared,
            "videos": [
                {
                    "member": item.member,
                    "sample": item.sample,
                    "video": item.video,
                    "sha256": _sha256(path),
                    "source_sha256": _sha256(item.path),
                    "reencoded": number in set(changed),
                    "seconds": round(report.videos[item.member].seconds, 4),
                    "frames": report.videos[item.member].frames,
                }
                for number, (item, path) in enumerate(zip(planned, final))
            ],
        }
        beside = folder / f"{Path(chosen.archive).stem}.manifest.json"
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        temporary.replace(folder / chosen.archive)
        write_bytes(beside, text.encode())
    return PackedSubmission(
        folder / chosen.archive, beside, len(planned), len(changed), report.sha256
    )


def _plan(
    run: Path,
    entry: str,
    format: SubmissionFormat,
    expected: Mapping[str, float],
    seed: int | None,
) -> tuple[str, str, list[_Planned]]:
    """Which video goes where; refuses what is ambiguous, missing or failed."""
    db = open_store(run)
    try:
        cells = db.execute("SELECT cell, label FROM cells ORDER BY rowid").fetchall()
        for test in (
            lambda c: c[0] == entry,
            lambda c: c[1] == entry,
            lambda c: c[0].startswith(entry),
        ):
            found = [c for c in cells if test(c)]
            if found:
                break
        if len(found) != 1:
            what = "names several entries" if found else "is no entry"
            known = ", ".join(f"{label or cell} ({cell[:8]})" for cell, label in cells[:8])
            raise LeaderboardError(f"{entry!r} {what} of {run}: give one of {known}.")
        cell, label = found[0][0], found[0][1] or found[0][0]
        rows = db.execute(
            "SELECT video, sample, seed, status, path, reason FROM videos WHERE cell = ? "
            "ORDER BY rowid",
            (cell,),
        ).fetchall()
    finally:
        db.close()
    seeds = sorted({row[2] for row in rows})
    if seed is None and len(seeds) > 1:
        raise LeaderboardError(
            f"{label} was made with seeds {', '.join(map(str, seeds))}: choose one with seed=."
        )
    if seed is not None and seed not in seeds:
        raise LeaderboardError(
            f"{label} was not made with seed {seed}: it has {', '.join(map(str, seeds))}."
        )
    rows = [row for row in rows if seed is None or row[2] == seed]
    by_member: dict[str, tuple[Any, ...]] = {}
    for row in rows:
        member = _member_name(str(row[1]), format)
        if member in by_member:
            raise LeaderboardError(
                f"samples {by_member[member][1]!r} and {row[1]!r} would both be {member}: the "
                "run's "
                f"evaluation set is not {format.name}'s."
            )
        by_member[member] = row
    problems = []
    missing = [member for member in expected if member not in by_member]
    extra = [member for member in by_member if member not in expected]
    if missing:
        problems.append(
            f"{len(missing)} of {len(expected)} videos were never planned: {_some_names(missing)}"
        )
    if extra:
        problems.append(f"{len(extra)} videos are not asked for: {_some_names(extra)}")
    planned = []
    for member in expected:
        if member not in by_member:
            continue
        video, sample, _, status, path, reason = by_member[member]
        if status != "done" or not path:
            problems.append(f"{member} {status}" + (f" ({reason})" if reason else ""))
            continue
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            problems.append(f"{member} has the path {path!r}, which leaves the run folder")
        elif not (run / pure).is_file():
            problems.append(f"{member}: the file {path} is gone")
        else:
            planned.append(_Planned(member, str(sample), video, run / pure))
    if problems:
        shown = "; ".join(problems[:8]) + (
            f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        )
        raise LeaderboardError(
            f"{label} cannot be packed as {format.name}: {shown}. Finish the run on that "
            "evaluation "
            "set first."
        )
    return cell, label, planned


def _member_name(sample: str, format: SubmissionFormat) -> str:
    """Where a sample's video goes, told from the sample's id ("17", or "id003/prompt2")."""
    if format.numbered:
        if not sample.isdigit():
            raise LeaderboardError(
                f"sample {sample!r} is not a place in eval.json (1, 2, ...): generate on the "
                f"evaluation set of {format.name}."
            )
        return f"submission/{int(sample)}.mp4"
    found = re.fullmatch(r"(id\d+)\W+(prompt\d+)", sample)
    if not found:
        raise LeaderboardError(
            f"sample {sample!r} is not of the form idNNN/promptK: generate on the evaluation "
            "set of "
            f"{format.name}."
        )
    return f"submission/{found[1]}/{found[2]}.mp4"


def _compare(
    planned: Sequence[_Planned],
    final: Sequence[Path],
    changed: Sequence[int],
    scorer: Scorer | None,
    before: Sequence[Mapping[str, float]] | None,
    tolerance: float | Mapping[str, float],
) -> dict[str, Any]:
    """Scores of re-encoded videos before and after; refuses what moved too far."""
    if not changed:
        return {}
    if scorer is None:
        raise LeaderboardError(
            f"{len(changed)} videos are not H.264 yuv420p in MP4 and had to be re-encoded, "
            "but nothing "
            "can score them before and after: pass a scorer."
        )
    first = scorer([planned[n].path for n in changed]) if before is None else before
    second = scorer([final[n] for n in changed])
    if not len(first) == len(second) == len(changed):
        raise LeaderboardError(
            f"scores of {len(changed)} re-encoded videos are wanted, not {len(first)} and "
            f"{len(second)}."
        )
    out: dict[str, Any] = {}
    moved = []
    for metric in sorted({name for scores in first for name in scores}):
        pairs = [(a[metric], b.get(metric, math.nan)) for a, b in zip(first, second) if metric in a]
        a, b = (float(np.mean(side)) for side in zip(*pairs))
        if isinstance(tolerance, Mapping) and metric not in tolerance:
            raise LeaderboardError(f"no tolerance is stated for {metric}: add it.")
        allowed = tolerance[metric] if isinstance(tolerance, Mapping) else tolerance
        difference = abs(a - b)
        out[metric] = {
            "before": float(f"{a:.6g}"),
            "after": float(f"{b:.6g}") if math.isfinite(b) else None,
            "tolerance": allowed,
            "videos": len(pairs),
        }
        if not difference < allowed:
            moved.append(f"{metric} from {a:.4g} to {b:.4g} (tolerance {allowed:g})")
    if not out:
        raise LeaderboardError("the scorer gave no score for the re-encoded videos: check it.")
    if moved:
        raise LeaderboardError(
            f"re-encoding moved {'; '.join(moved)}: generate as H.264 yuv420p, or state another "
            "tolerance."
        )
    return out


def _write_zip(path: Path, files: Sequence[tuple[str, Path]]) -> None:
    """A zip of the same bytes for the same files: stored, in the given order, no dates."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, source in files:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.file_size = source.stat().st_size
            with source.open("rb") as read, archive.open(info, "w") as write:
                while chunk := read.read(2**20):
                    write.write(chunk)
