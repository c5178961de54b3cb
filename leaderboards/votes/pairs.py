"""Which videos a rater is shown, in which order, and on which side."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from leaderboards.errors import LeaderboardError
from leaderboards.pooling import combine
from leaderboards.scores import Rows, records
from leaderboards.sources import read_source
from leaderboards.votes.ballots import BOTH_BAD, DRAW
from media.video import VideoReader
from media.writing import encode_video

#: What a check's spoilt video is called in the file of votes.
SPOILT = " (spoilt)"


@dataclass(frozen=True)
class Pair:
    """Two entries' videos of one sample, in the order in which they are shown.

    check: the side ("left" or "right") that an attentive rater chooses, "" for a real pair.
    """

    sample: str
    left: str
    right: str
    left_video: Path
    right_video: Path
    prompt: str
    reference: Path | None
    seed: int = 0
    identity: str = ""
    timeline: tuple[tuple[float, float, str], ...] = ()
    check: str = ""


def pairs_of_run(
    run: str | Path | Sequence[Path], entries: Sequence[str], rater: str, limit: int | None = None
) -> list[Pair]:
    """Every pair of the entries on every sample, in an order and with sides drawn by lot.

    Of the pairs of two entries, each is on the left in half (or one more), so that a rater who
    favours a side favours no entry.

    run: a run folder, or a table of scores with a column `video`, or several of which each has some
    of the entries. entries: labels or keys of at least two of them. rater: seeds the lot, so that a
    rater who comes back goes on in the same order. limit: keep at most this many.
    Raises LeaderboardError where an entry is unknown or no sample has two videos.
    """
    runs = [Path(run)] if isinstance(run, str | Path) else list(run)
    rows = combine([read_source(one) for one in runs])
    chosen = [_entry(rows, name) for name in entries]
    if len(set(chosen)) < 2:
        raise LeaderboardError("a comparison needs two entries: name at least two.")
    labels = {entry.key: entry.label for entry in rows.entries}
    names = [labels[key] for key in chosen]
    if len(set(names)) < len(names) or {DRAW, BOTH_BAD} & set(names):
        raise LeaderboardError(
            "the entries need labels that differ (and none may be 'draw' or 'both bad')."
        )
    about = {str(row["sample"]): row for row in records(rows.samples)}
    files: dict[tuple[str, str, int], Path] = {}
    for row in records(rows.videos):
        if row["entry"] not in chosen or row["status"] != "done" or not row["path"]:
            continue
        if (file := Path(row["path"])).is_file():
            files[row["entry"], str(row["sample"]), int(row["seed"])] = file
    lot = random.Random(f"votes/{rater}")
    slots = sorted({key[1:] for key in files})
    out = []
    for a, b in itertools.combinations(chosen, 2):
        both = [(s, seed) for s, seed in slots if (a, s, seed) in files and (b, s, seed) in files]
        turned = [n % 2 == 1 for n in range(len(both))]
        if lot.random() < 0.5:  # which of the two is once more on the left
            turned = [not turn for turn in turned]
        lot.shuffle(turned)
        for (sample, seed), turn in zip(both, turned):
            left, right = (b, a) if turn else (a, b)
            row = about[sample]
            reference = next((path for path in map(Path, row["refs"]) if path.is_file()), None)
            out.append(
                Pair(
                    sample, labels[left], labels[right],
                    files[left, sample, seed], files[right, sample, seed],
                    str(row.get("prompt") or ""), reference, seed, str(row.get("identity") or ""),
                    tuple((float(s), float(e), str(d)) for s, e, d in row["timeline"]),
                )
            )  # fmt: skip
    if not out:
        raise LeaderboardError(
            f"no sample of {', '.join(map(str, runs))} has videos of two of the entries: "
            "finish the run, or name them in the table's column video."
        )
    lot.shuffle(out)
    return out[:limit]


def _entry(rows: Rows, name: str) -> str:
    for test in (
        lambda e: e.key == name,
        lambda e: e.label == name,
        lambda e: e.key.startswith(name),
    ):
        found = [entry.key for entry in rows.entries if test(entry)]
        if len(found) == 1:
            return found[0]
    known = ", ".join(entry.label for entry in rows.entries[:8])
    raise LeaderboardError(
        f"{name!r} is not a single entry of the run: choose among labels such as {known}."
    )


def with_checks(pairs: Sequence[Pair], every: int, rater: str, folder: Path) -> list[Pair]:
    """The pairs with an attention check among each `every` of them.

    A check shows one entry's video beside a spoilt copy of it: a few coarse blocks that stand
    still, the worse one whatever is asked. folder: where spoilt copies are written.
    """
    if every < 2:
        raise LeaderboardError(f"a check for every {every} pairs leaves no pairs: give 2 or more.")
    lot = random.Random(f"checks/{rater}")
    out: list[Pair] = []
    for start in range(0, len(pairs), every):
        block = list(pairs[start : start + every])
        real = lot.choice(block)
        good = lot.choice(("left", "right"))
        label, video = (
            (real.left, real.left_video) if lot.random() < 0.5 else (real.right, real.right_video)
        )
        bad = folder / f"{len(out)}.mp4"
        bad.write_bytes(_spoilt(video))
        sides = [(label, video), (label + SPOILT, bad)]
        (left, left_video), (right, right_video) = sides if good == "left" else sides[::-1]
        block.insert(
            lot.randrange(len(block) + 1),
            replace(real, left=left, right=right, left_video=left_video, right_video=right_video,
                    check=good),
        )  # fmt: skip
        out += block
    return out


def _spoilt(video: Path, blocks: int = 6) -> bytes:
    """An MP4 as long as `video` that shows its first frame in coarse blocks, standing still."""
    reader = VideoReader(video)
    frame = Image.fromarray(reader.read([0])[0])
    size = (frame.width - frame.width % 2, frame.height - frame.height % 2)
    coarse = frame.resize((blocks, blocks), Image.Resampling.BOX)
    still = np.asarray(coarse.resize(size, Image.Resampling.NEAREST))
    return encode_video(np.repeat(still[None], len(reader), axis=0), reader.info.fps or 8.0)
