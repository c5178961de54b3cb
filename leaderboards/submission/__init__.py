"""Challenge archives: packed from a run, and checked whoever made them."""

from leaderboards.submission.check import (
    FORMATS,
    Limits,
    check_submission,
    inspect_video,
    pack_submission,
    read_eval,
    reencode,
)

__all__ = [
    "FORMATS",
    "Limits",
    "check_submission",
    "inspect_video",
    "pack_submission",
    "read_eval",
    "reencode",
]
