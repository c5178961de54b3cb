"""What `stdrc bench CONFIG --plan` says of a run's needs: disk, time, and memory of a card."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.generators.stdrc import STDRCConfig
from bench.sweep import Plan
from media.errors import UserError
from media.wording import counted, duration

#: Bits per pixel at x264's crf 12; two natural clips took 0.16 and 0.54. Six steps of crf halve it.
BITS_PER_PIXEL = 0.3
GIB = 2**30


@dataclass(frozen=True)
class Trial:
    """A video of two steps, made to see what a run needs.

    Attributes:
        seconds: that a model pass took.
        bytes: of the file.
    """

    seconds: float
    bytes: int


def disk_line(
    plan: Plan, left: int, folder: Path, crf: int, seen: float | None, trial: Trial | None
) -> str:
    """Space for the videos that are left to make, and what is free.

    Args:
        seen: mean bytes of finished videos.
        trial: where there are none.
    """
    if seen is not None:
        each, why = seen, "as finished ones"
    elif trial is not None:
        each, why = trial.bytes, "as a trial of two steps"
    else:
        sizes = [pixels for cell in plan.cells if (pixels := _pixels(cell.settings))]
        if not sizes:
            return "disk: not known before a video is made (its size is the generator's)"
        each = max(sizes) * BITS_PER_PIXEL / 8 * 2 ** ((12 - crf) / 6)
        why = "estimated from pixels; noise or a still picture change it several times over"
    home = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(home).free
    line = (
        f"disk: {_size(each * left)} for {counted(left, 'video')}, {_size(each)} per video ({why})"
    )
    return f"{line}; {_size(free)} are free" + (", too little" * (each * left > free))


def time_line(
    left: int, passes: int, workers: int, seen: float | None, trial: Trial | None
) -> str | None:
    """How long the videos that are left take; None where nothing was timed.

    Args:
        passes: model passes of all that is left.
        workers: that share the work evenly.
        seen: mean seconds of finished videos.
        trial: where there are none.
    """
    by = "one worker" if workers == 1 else f"{workers} workers"
    if seen is not None:
        return f"about {duration(left * seen / workers)} on {by}, at {seen:.2f} s per video so far"
    if trial is not None:
        return (
            f"{trial.seconds * 1000:.0f} ms per model pass here: about "
            f"{duration(trial.seconds * passes / workers)} to generate, on {by}"
        )
    return None


def card_line(plan: Plan, generator: Any, card: int | None) -> str:
    """Memory of a card that an LTX-2 checkpoint takes with the config's settings.

    Args:
        generator: the config's section.
        card: bytes of the card; None where there is none here.
    """
    if not isinstance(generator, STDRCConfig):
        return f"card: not known of a generator of kind {generator.kind}"
    from bench.checkpoints import checkpoint_source
    from stdrc.footprint import RESERVED, Footprint, VideoShape, memory_table, recommendation

    settings = [cell.settings for cell in plan.cells if _pixels(cell.settings)]
    largest = max(settings, key=lambda s: _pixels(s) or 0)
    video = VideoShape(largest.height or 0, largest.width or 0, largest.num_frames or 0)
    if largest.frame_rate:
        video = replace(video, fps=largest.frame_rate)
    source = checkpoint_source(generator.checkpoint)
    try:
        stages = Footprint.of(source).fits(generator.memory, video)
    except UserError as error:
        return f"card: not known ({error})"
    stage, most = max(stages.items(), key=lambda item: item[1])
    line = f"card: {(most + RESERVED) / GIB:.1f} GiB, most in {stage}, at {video}"
    if card is None:
        return f"{line}; there is no CUDA card here"
    if most + RESERVED <= card:
        return f"{line}; it fits this card of {card / GIB:.0f} GiB"
    advice = recommendation(memory_table(source, video), card)
    return f"{line}; it does not fit. {advice}"


def _pixels(settings: Any) -> int | None:
    sides = (settings.height, settings.width, settings.num_frames)
    return None if None in sides else sides[0] * sides[1] * sides[2]


def _size(size: float) -> str:
    units: Iterable[tuple[float, str]] = ((2**40, "TiB"), (GIB, "GiB"), (2**20, "MiB"))
    for unit, name in units:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1024:.1f} KiB"
