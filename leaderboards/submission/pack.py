"""Challenge archives built from a run: what is asked for, compared with what was generated.

What we pack is the same bytes for the same videos, and is checked as a stranger's archive would be
before it gets its name.
"""

from __future__ import annotations

import json
import math
import re
import stat
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import av
import numpy as np

from leaderboards.errors import (
    IncompleteEntryError,
    LeaderboardError,
    ScoresMovedError,
    UnreadableVideoError,
)
from leaderboards.runfolder import RunFolder, SampleRow, VideoRow
from leaderboards.scores import key_named
from leaderboards.submission.check import check_submission, some_names
from leaderboards.submission.formats import Limits, SubmissionFormat, submission_format
from leaderboards.submission.video import Unplayable, decode
from leaderboards.submission.wanted import Wanted, expected
from media import errors
from media.files import file_sha256, write_atomic
from media.streams import decoded, display_matrix, open_stream, reason
from media.wording import some

#: Scores of videos: takes paths, gives one mapping metric -> value for each path.
Scorer = Callable[[Sequence[Path]], Sequence[Mapping[str, float]]]


@dataclass(frozen=True)
class PackedSubmission:
    """A finished archive with its manifest, which is beside it.

    warnings: what the challenge lets pass, but a jury may hold against it, and what could not be
    compared.
    """

    archive: Path
    manifest: Path
    videos: int
    reencoded: int
    sha256: str
    warnings: tuple[str, ...] = ()


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
    testset folder: its names, prompts, references and timelines must be those that the run was
    generated from; without it only the published count is compared. seed: which one, where the run
    made several. scorer: scores videos that had to be re-encoded, before and after;
    `scores_before` spares the first pass (a mapping for each re-encoded video, in archive order).
    tolerance: how far the mean of any metric may move by re-encoding, in the metric's own unit; a
    number for all, or a mapping with an entry for every metric.

    Videos that are H.264 yuv420p in MP4 go in as they are.

    Raises IncompleteEntryError where videos are missing, failed, or generated from another
    eval.json, UnreadableVideoError where one cannot be played, ScoresMovedError where re-encoding
    moved a score by the tolerance or more, UnknownNameError for an entry that is not there, and
    LeaderboardError where re-encoded videos cannot be scored; no archive is left then.
    """
    chosen, limits, run = submission_format(format), limits or Limits(), Path(run)
    wanted = expected(chosen, eval)
    cell, label, planned, notes = _plan(run, entry, chosen, wanted, seed)
    folder = run / "submissions" / cell[:16] if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".packing-") as scratch:
        final, changed = _playable(planned, Path(scratch), limits)
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
                    "sha256": file_sha256(path),
                    "source_sha256": file_sha256(item.path),
                    "reencoded": number in changed,
                    "seconds": round(report.videos[item.member].seconds, 4),
                    "frames": report.videos[item.member].frames,
                }
                for number, (item, path) in enumerate(zip(planned, final))
            ],
        }
        beside = folder / f"{Path(chosen.archive).stem}.manifest.json"
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        temporary.replace(folder / chosen.archive)
        write_atomic(beside, text.encode())
    return PackedSubmission(
        folder / chosen.archive, beside, len(planned), len(changed), report.sha256,
        (*notes, *report.warnings),
    )  # fmt: skip


def pack_runs(
    run: str | Path,
    entries: Sequence[str],
    format: str,
    *,
    primary: str | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> list[PackedSubmission]:
    """Build an archive for each of several entries that a team hands in, one of them primary.

    Archives lie in `out`/run1, run2, ... (the rules name no layout; all archives have the same file
    name) with `runs.json` beside them, which says which entry each holds and which is primary.
    primary: one of `entries`, as written there. Settings as in `pack_submission`.

    Raises LeaderboardError where the track takes fewer runs, none is named primary, or two runs
    hold the same videos.
    """
    chosen, run = submission_format(format), Path(run)
    if len(entries) > chosen.runs:
        most = "one run" if chosen.runs == 1 else f"up to {chosen.runs} runs"
        raise LeaderboardError(f"{format} takes {most}, not {len(entries)}: choose among them.")
    if len(set(entries)) < len(entries):
        raise LeaderboardError("an entry is named twice: every run is another entry.")
    if primary not in entries:
        raise LeaderboardError(
            f"{'no run is named primary' if primary is None else f'{primary!r} is not packed'}: "
            f"choose the primary run among {', '.join(entries)}."
        )
    folder = run / "submissions" / format if out is None else Path(out)
    packed = [
        pack_submission(run, entry, format, out=folder / f"run{number}", **settings)
        for number, entry in enumerate(entries, start=1)
    ]
    if len({one.sha256 for one in packed}) < len(packed):
        raise LeaderboardError("two runs hold the same videos: name other entries.")
    record = {
        "format": format,
        "runs": [
            {
                "archive": f"run{number}/{one.archive.name}",
                "archive_sha256": one.sha256,
                "entry": entry,
                "primary": entry == primary,
            }
            for number, (entry, one) in enumerate(zip(entries, packed), start=1)
        ],
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_atomic(folder / "runs.json", text.encode())
    return packed


def _playable(
    planned: Sequence[_Planned], scratch: Path, limits: Limits
) -> tuple[list[Path], set[int]]:
    """The files that go in, and the places of those that had to be re-encoded."""
    final: list[Path] = []
    changed: set[int] = set()
    for number, item in enumerate(planned):
        try:
            facts = decode(item.path, limits)
        except Unplayable as error:
            raise UnreadableVideoError(
                f"{item.path.name} (sample {item.sample}) {error}: generate it again."
            ) from error
        if facts.mp4 and facts.codec == "h264" and facts.pixel_format == "yuv420p":
            final.append(item.path)
            continue
        target = scratch / f"{number}.mp4"
        reencode(item.path, target)
        final.append(target)
        changed.add(number)
    return final, changed


def _plan(
    run: Path,
    entry: str,
    format: SubmissionFormat,
    wanted: Mapping[str, Wanted | None],
    seed: int | None,
) -> tuple[str, str, list[_Planned], list[str]]:
    """Which video goes where, and remarks; refuses what is ambiguous, missing, failed or other."""
    with RunFolder(run) as folder:
        cells = {c.cell: c.label for c in folder.cells()}
        cell = key_named(entry, cells, f" of {run}")
        label = cells[cell]
        rows = folder.videos(cell)
        samples = folder.samples()
    seeds = sorted({row.seed for row in rows})
    if seed is None and len(seeds) > 1:
        raise LeaderboardError(
            f"{label} was made with seeds {', '.join(map(str, seeds))}: choose one with seed=."
        )
    if seed is not None and seed not in seeds:
        raise LeaderboardError(
            f"{label} was not made with seed {seed}: it has {', '.join(map(str, seeds))}."
        )
    by_member: dict[str, VideoRow] = {}
    for row in rows:
        if seed is not None and row.seed != seed:
            continue
        member = _member_name(row.sample, format)
        if member in by_member:
            raise LeaderboardError(
                f"samples {by_member[member].sample!r} and {row.sample!r} would both be "
                f"{member}: the run's evaluation set is not {format.name}'s."
            )
        by_member[member] = row
    problems = []
    missing = [member for member in wanted if member not in by_member]
    extra = [member for member in by_member if member not in wanted]
    if missing:
        problems.append(
            f"{len(missing)} of {len(wanted)} videos were never planned: {some_names(missing)}"
        )
    if extra:
        problems.append(f"{len(extra)} videos are not asked for: {some_names(extra)}")
    planned, notes = [], []
    if any(asked is None for asked in wanted.values()):
        notes.append(
            "packed without the challenge's file, so prompts and references were not compared; "
            "give it with eval."
        )
    for member, asked in wanted.items():
        if member not in by_member:
            continue
        row = by_member[member]
        if asked is not None:
            differs, remark = _differs(asked, samples.get(row.sample), run)
            problems += [f"{member}: {what}" for what in differs]
            notes += [f"{member}: {remark}"] if remark else []
        if row.status != "done" or not row.path:
            problems.append(f"{member} {row.status}" + (f" ({row.reason})" if row.reason else ""))
            continue
        pure = PurePosixPath(row.path)
        if pure.is_absolute() or ".." in pure.parts:
            problems.append(f"{member} has the path {row.path!r}, which leaves the run folder")
        elif not (run / pure).is_file():
            gone = "is not a regular file" if (run / pure).exists() else "is gone"
            problems.append(f"{member}: the file {row.path} {gone}")
        else:
            planned.append(_Planned(member, row.sample, row.video, run / pure))
    if problems:
        raise IncompleteEntryError(
            f"{label} cannot be packed as {format.name}: {some(problems, 8, '; ')}. Finish the run "
            "on that evaluation set first."
        )
    return cell, label, planned, _counted(notes)


def _counted(notes: Sequence[str]) -> list[str]:
    """Notes that say the same of several members, one line each."""
    members: dict[str, list[str]] = {}
    for note in notes:
        member, colon, what = note.partition(": ")
        members.setdefault(what if colon else note, []).append(member if colon else "")
    return [
        f"{some_names(names, 2)}: {what}" if names[0] else what for what, names in members.items()
    ]


def _differs(asked: Wanted, sample: SampleRow | None, run: Path) -> tuple[list[str], str | None]:
    """Where a sample of the store is not what is asked for, and a remark."""
    if sample is None:
        return ["the store does not say what it was generated from"], None
    problems: list[str] = []
    remark = None
    said, want = " ".join(sample.prompt.split()), " ".join(asked.prompt.split())
    if said != want:
        if said.endswith(f" {want}"):  # evalset.prefix puts an identity's words in front
            remark = "the prompt has a prefix that the challenge's file does not have."
        else:
            problems.append(
                f"was generated from the prompt {said[:60]!r}, and {want[:60]!r} is asked for"
            )
    used = [run / ref for ref in sample.references]
    if len(used) != len(asked.references):
        problems.append(
            f"was generated from {len(used)} references, and {len(asked.references)} are asked for"
        )
    for mine, theirs in zip(used, asked.references):
        if mine.is_file() and theirs.is_file():
            same = mine.samefile(theirs) or file_sha256(mine) == file_sha256(theirs)
        else:
            same = mine.name == theirs.name
            remark = remark or "its reference is gone, so that only the file's name was compared."
        if not same:
            problems.append(
                f"was generated from the picture {mine.name}, and {theirs.name} is asked for"
            )
    events = [(start, end, what.strip()) for start, end, what in sample.timeline]
    if asked.timeline and events != list(asked.timeline):
        problems.append("was generated from another timeline")
    return problems, remark


def reencode(source: Path, target: Path, crf: int = 10) -> None:
    """Write a video again as H.264 yuv420p in MP4; the same input gives the same bytes.

    Frame times are kept; an odd side loses its last row or column, as yuv420p needs even ones;
    sound is dropped. crf 10 is visually lossless. Raises UnreadableVideoError where the source
    cannot be read, LeaderboardError where it is turned by its metadata.
    """
    try:
        with (
            open_stream(source, source) as (read, stream),
            av.open(
                str(target), "w", format="mp4",
                options={"movflags": "+faststart", "fflags": "+bitexact"},
            ) as write,
        ):  # fmt: skip
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
            for number, frame in enumerate(decoded(read, stream, source)):
                if display_matrix(frame, source) != (1, 0, 0, 1):
                    raise LeaderboardError(
                        f"{source} is turned or mirrored by its metadata, which re-encoding would "
                        "lose: write it upright first."
                    )
                pixels = frame.to_ndarray(format="rgb24")[: out.height, : out.width]
                even = np.ascontiguousarray(pixels, dtype=np.uint8)
                copy = av.VideoFrame.from_ndarray(even, format="rgb24")
                copy.pts = frame.pts if frame.pts is not None else number
                copy.time_base = frame.time_base
                write.mux(out.encode(copy))
            write.mux(out.encode())
    except errors.UnreadableVideoError as error:
        raise UnreadableVideoError(f"{error} Generate that video again.") from error
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideoError(
            f"{source} cannot be re-encoded ({reason(error)}): generate that video again."
        ) from error


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
            f"sample {sample!r} is not of the form idNNN/promptK: generate on the evaluation set "
            f"of {format.name}."
        )
    return f"submission/{found[1]}/{found[2]}.mp4"


def _compare(
    planned: Sequence[_Planned],
    final: Sequence[Path],
    changed: set[int],
    scorer: Scorer | None,
    before: Sequence[Mapping[str, float]] | None,
    tolerance: float | Mapping[str, float],
) -> dict[str, Any]:
    """Scores of re-encoded videos before and after; refuses what moved too far."""
    if not changed:
        return {}
    if scorer is None:
        raise LeaderboardError(
            f"{len(changed)} videos are not H.264 yuv420p in MP4 and had to be re-encoded, but "
            "nothing can score them before and after: pass a scorer."
        )
    order = sorted(changed)
    first = scorer([planned[n].path for n in order]) if before is None else before
    second = scorer([final[n] for n in order])
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
        raise ScoresMovedError(
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
