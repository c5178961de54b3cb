"""Challenge archives: packed from a run, and checked, whoever made them."""

from leaderboards.submission.check import CheckReport, check_submission
from leaderboards.submission.formats import FORMATS, Limits
from leaderboards.submission.pack import PackedSubmission, pack_runs, pack_submission, reencode
from leaderboards.submission.video import VideoFacts, inspect_video
from leaderboards.submission.wanted import Wanted, read_eval

__all__ = [
    "FORMATS",
    "CheckReport",
    "Limits",
    "PackedSubmission",
    "VideoFacts",
    "Wanted",
    "check_submission",
    "inspect_video",
    "pack_runs",
    "pack_submission",
    "read_eval",
    "reencode",
]
