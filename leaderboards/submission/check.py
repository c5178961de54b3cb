"""Any team's archive, checked: names, safety, damage, and each video to its last frame.

An archive is read as hostile input: nothing is ever extracted to the disk under a name of its own,
sizes are limited by what is read rather than by what is declared, and every problem is listed at
once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import stat
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from leaderboards.errors import LeaderboardError
from leaderboards.submission.formats import Limits, submission_format
from leaderboards.submission.video import Unplayable, VideoFacts, complaints, decode, remarks
from leaderboards.submission.wanted import Wanted, expected
from media.files import file_sha256
from media.wording import some


@dataclass
class CheckReport:
    """The outcome of a check: every problem found, in archive order, and what was read.

    warnings: what the challenge lets pass, but a jury may hold against the team.
    """

    archive: str
    format: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
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
    sizes and on the time that decoding may take.

    Checks the archive's name, its members' names, count, uniqueness and order, links, devices,
    absolute and escaping paths, encryption, compression bombs and damage; and of each video the
    container, codec, pixel format, size and playing time, decoding it to the last frame. Metadata
    that may name the team, odd or uneven rates and rotations are warnings.

    Raises LeaderboardError only for what the caller got wrong: an unknown format, a missing file.
    """
    chosen, limits, path = submission_format(format), limits or Limits(), Path(archive)
    if not path.is_file():
        what = "is a device or a pipe, not a file" if path.exists() else "does not exist"
        raise LeaderboardError(f"{path} {what}: give the archive to check.")
    wanted = expected(chosen, eval)
    report = CheckReport(path.name, format, expected=len(wanted), sha256=file_sha256(path))
    if path.name != chosen.archive:
        report.problems.append(
            f"the archive is called {path.name}; {format} wants {chosen.archive}."
        )
    try:
        with zipfile.ZipFile(path) as opened:
            members = _members(opened, wanted, report, limits)
            _check_videos(opened, members, wanted, report, limits, _digests(manifest, report))
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        report.problems.append(f"{path.name} is not a whole zip archive ({error}): zip it again.")
    return report


def _digests(manifest: str | Path | None, report: CheckReport) -> dict[str, str]:
    if manifest is None:
        return {}
    try:
        if not Path(manifest).is_file():  # a pipe would be waited for without an end
            raise FileNotFoundError("the file does not exist")
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


def _members(
    opened: zipfile.ZipFile,
    wanted: Mapping[str, Wanted | None],
    report: CheckReport,
    limits: Limits,
) -> dict[str, zipfile.ZipInfo]:
    """Members that are worth decoding; what is wrong with names and sizes goes into the report."""
    problems = report.problems
    infos = opened.infolist()
    if len(infos) > 10 * len(wanted) + 1000:
        problems.append(f"the archive has {len(infos):,} members; {len(wanted):,} are wanted.")
        return {}
    members: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    strays: list[str] = []
    total = 0
    for info in infos:
        # The name as stored: the zipfile module cuts names at a NUL and turns backslashes around.
        name = info.orig_filename
        if info.is_dir() and not _unsafe(name):
            if not any(member.startswith(name) for member in wanted):
                strays.append(name)
            continue
        why = _refused(info, seen)
        seen.add(name)
        if why is None:
            total += info.file_size
            if name not in wanted:
                strays.append(name)
                continue
            why = _too_large(info, limits)
        if why is None:
            members[name] = info
        else:
            problems.append(f"{printable(name)}: {why}.")
    if total > limits.archive_bytes:
        problems.append(
            f"the archive unpacks to {total:,} bytes; at most {limits.archive_bytes:,} is allowed."
        )
        return {}
    if missing := [name for name in wanted if name not in seen]:
        problems.append(
            f"{len(missing)} of {len(wanted)} videos are missing: {some_names(missing)}."
        )
    if strays:
        problems.append(
            f"{len(strays)} names do not belong in the archive: "
            f"{some_names(strays)}{_hint(strays)}."
        )
    return members


def _refused(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    """Why a member is not even looked at; None where it is."""
    why = _unsafe(info.orig_filename)
    if why:
        return f"{why}; an archive's names stay inside submission/"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link; put the file itself into the archive"
    if kind not in (0, stat.S_IFREG):
        return "is a device, a pipe or a socket; put the video file itself into the archive"
    if info.orig_filename in seen:
        return "is in the archive twice; keep one"
    if info.flag_bits & 0x1:
        return "is encrypted; zip without a password"
    return None


def _too_large(info: zipfile.ZipInfo, limits: Limits) -> str | None:
    ratio = info.file_size / max(info.compress_size, 1)
    if info.file_size > limits.video_bytes:
        return f"unpacks to {info.file_size:,} bytes; at most {limits.video_bytes:,} is allowed"
    if ratio > limits.ratio and info.file_size > 2**16:
        return (
            f"is compressed {ratio:.0f} times, as no video is; this looks like a compression bomb"
        )
    return "is empty" if info.file_size == 0 else None


def _check_videos(
    opened: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    wanted: Mapping[str, Wanted | None],
    report: CheckReport,
    limits: Limits,
    digests: Mapping[str, str],
) -> None:
    """Decode every member in the order that is wanted, and say what is wrong with each."""
    problems = report.problems
    first_of: dict[str, str] = {}
    begun = time.monotonic()
    for number, (name, asked) in enumerate(wanted.items()):
        if name not in members:
            continue
        if time.monotonic() - begun > limits.check_seconds:
            problems.append(
                f"decoding took longer than {limits.check_seconds:g} s; {len(wanted) - number} "
                f"videos from {name} on were not looked at."
            )
            break
        try:
            with _unpacked(opened, members[name], limits) as (file, digest):
                if name in digests and digests[name] != digest:
                    problems.append(
                        f"{name}: is not the video that the manifest lists there; the order is "
                        "wrong or the file was replaced."
                    )
                if digest in first_of:
                    problems.append(
                        f"{name}: is the same file as {first_of[digest]}; each place wants its "
                        "own video."
                    )
                first_of.setdefault(digest, name)
                facts = decode(file, limits)
        except Unplayable as error:
            problems.append(f"{name}: {error}.")
            continue
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            problems.append(f"{name}: is damaged inside the archive ({error}); zip it again.")
            continue
        report.videos[name] = facts
        shortest = asked.seconds if asked is not None else 0.0
        problems += [f"{name}: {told}." for told in complaints(facts, shortest, limits)]
    report.warnings += warnings_about(report.videos)


def warnings_about(videos: Mapping[str, VideoFacts]) -> list[str]:
    """Remarks on videos, one line for all that share one, and on rates that differ."""
    out: dict[str, list[str]] = {}
    for name, facts in videos.items():
        for remark in remarks(facts):
            out.setdefault(remark, []).append(name)
    told = [f"{some_names(names, 2)}: {remark}." for remark, names in out.items()]
    rates = Counter(round(facts.rate, 3) for facts in videos.values())
    if len(rates) > 1:
        (usual, _), *others = rates.most_common()
        told.append(
            f"most videos play at {usual:g} frames per second, {sum(n for _, n in others)} at "
            f"{', '.join(f'{rate:g}' for rate, _ in others[:4])}; use one rate for all."
        )
    return told


@contextlib.contextmanager
def _unpacked(
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
                    raise Unplayable("unpacks to more bytes than it declares")
                digest.update(chunk)
                file.write(chunk)
        if size != info.file_size:
            raise Unplayable("unpacks to fewer bytes than it declares")
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


def printable(name: str) -> str:
    """A name as a terminal can show it."""
    return name if name.isprintable() else ascii(name)


def some_names(names: Sequence[str], most: int = 5) -> str:
    """The first few names and how many more there are."""
    return some([printable(name) for name in names], most)


def _hint(strays: Sequence[str]) -> str:
    for pattern, why in (
        (r"submission/0+\d+\.mp4", "numbers have no leading zeros"),
        (r"submission/submission/.*", "the folder submission/ is inside itself"),
        (r"(\d+|id\d+/prompt\d+)\.mp4", "videos belong in a folder called submission/"),
        (r".*\.(?!mp4$)[mM][pP]4", "endings are in lower case: .mp4"),
        (r".*\.(mov|avi|webm|mkv|m4v|gif)", "videos are .mp4; renaming is not enough, encode them"),
        (r"(.*/)?(__MACOSX|\.DS_Store|\._).*", "macOS adds these; zip with `zip -X` or `ditto`"),
    ):
        if any(re.fullmatch(pattern, name) for name in strays):
            return f" ({why})"
    return ""
