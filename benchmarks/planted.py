"""Faults that tests once missed, and mutants that are no faults: read by `make mutants`.

PLANTED: (what, file, text that stands in it once, the text instead, test that has to fail then).
EQUIVALENT: (file, changed line before, after) -> why no test can tell.
"""

KEPT = "tests/bench/test_kept.py::test_"
PLANTED: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "timeline left out of a video's key",
        "bench/generators/base.py",
        "references, timeline, *shown, *enhanced]",
        "references, *shown, *enhanced]",
        f"{KEPT}the_timeline_is_in_a_videos_key",
    ),
    (
        "crf left out of a video's key",
        "bench/sweep.py",
        "[*generator.identity(), config.video.crf]",
        "[*generator.identity()]",
        f"{KEPT}what_depends_on_a_change_is_done_again_and_nothing_else[crf]",
    ),
    (
        "failed scores are scored again",
        "bench/store.py",
        "AND status IN ('ok', 'failed', 'inapplicable')\",\n            (metric",
        "AND status IN ('ok', 'inapplicable')\",\n            (metric",
        f"{KEPT}failed_scores_are_not_scored_again",
    ),
    (
        "a merge overwrites what is known of finished videos",
        "bench/merging.py",
        "WHERE videos.status != 'done'\"",
        '"',
        f"{KEPT}merging_leaves_finished_videos_and_their_scores_alone",
    ),
    (
        "a merge overwrites finished videos",
        "bench/merging.py",
        'elif old is None or old.status != "done" or prefer == other:',
        "elif True:",
        f"{KEPT}merging_takes_no_video_that_is_there[False]",
    ),
    (
        "a merge takes finished videos again",
        "bench/merging.py",
        'old.status == "done" and old.sha256 == row.sha256',
        "False",
        f"{KEPT}merging_takes_no_video_that_is_there[True]",
    ),
    (
        "a merge overwrites scores",
        "bench/merging.py",
        "INSERT OR IGNORE INTO {table} SELECT",
        "INSERT OR REPLACE INTO {table} SELECT",
        f"{KEPT}merging_leaves_finished_videos_and_their_scores_alone",
    ),
    (
        "set scores stay when a video's file has changed",
        "bench/store.py",
        '"DELETE FROM set_scores WHERE cell = (SELECT cell FROM videos WHERE video = ?)", (key,)',
        '"DELETE FROM set_scores WHERE cell = ? AND 0", (key,)',
        f"{KEPT}a_changed_video_drops_its_scores_and_its_cells_set_scores",
    ),
    (
        "set scores stay when what they are of has changed",
        "bench/runner.py",
        'parts = [f"{shown(key, metric)} {people[person(key)]}" for key in cells[cell]]',
        'parts = [f"{people[person(key)]}" for key in cells[cell]]',
        f"{KEPT}what_depends_on_a_change_is_done_again_and_nothing_else[a target's bytes]",
    ),
    (
        "the diffusers generator ignores the seed",
        "bench/generators/diffusers_pipeline.py",
        "manual_seed(settings.seed)",
        "manual_seed(0)",
        "tests/bench/test_generator.py::test_another_diffusers_pipeline",
    ),
    (
        "FID divides by N",
        "metrics/distribution.py",
        'version: str = "", ddof: int = 1, **kwargs',
        'version: str = "", ddof: int = 0, **kwargs',
        "tests/metrics/test_suite_sets.py::test_fid_divides_by_n_minus_1_and_fvd_by_n",
    ),
    (
        "FVD divides by N - 1",
        "metrics/distribution.py",
        "window: Window | None = None, ddof: int = 0",
        "window: Window | None = None, ddof: int = 1",
        "tests/metrics/test_suite_sets.py::test_fid_divides_by_n_minus_1_and_fvd_by_n",
    ),
    (
        "the copy-paste target is its largest face",
        "metrics/copying.py",
        "places = best_faces(frames, reference)",
        "places = best_faces(frames, None)",
        "tests/metrics/test_suite_sets.py::"
        "test_the_targets_person_is_the_reference_not_the_largest_face",
    ),
    (
        "the background mask grows to half as much again",
        "metrics/leakage.py",
        "boxes: Tensor | NDArray[np.floating], grow: float = 2.0",
        "boxes: Tensor | NDArray[np.floating], grow: float = 1.5",
        "tests/metrics/test_suite_sets.py::test_the_background_is_what_lies_outside_twice_the_face",
    ),
    (
        "dynamic degree rounds down",
        "metrics/motion.py",
        "moving_pairs >= round(4 * (frames / 16))",
        "moving_pairs >= int(4 * (frames / 16))",
        "tests/metrics/test_temporal.py::test_a_quarter_of_the_frames_has_to_move_rounded_as_vbench_does",
    ),
    (
        "dynamic degree rounds halves up",
        "metrics/motion.py",
        "moving_pairs >= round(4 * (frames / 16))",
        "moving_pairs >= int(4 * (frames / 16) + 0.5)",
        "tests/metrics/test_temporal.py::test_a_quarter_of_the_frames_has_to_move_rounded_as_vbench_does",
    ),
    (
        "dynamic degree's step rounds down",
        "metrics/motion.py",
        "return max(1, round(fps / 8))",
        "return max(1, int(fps / 8))",
        "tests/metrics/test_temporal.py::test_frames_an_eighth_of_a_second_apart_are_compared",
    ),
    (
        "sides are never swapped in votes",
        "leaderboards/votes/pairs.py",
        "left, right = (b, a) if turn else (a, b)",
        "left, right = a, b",
        "tests/leaderboards/votes/test_server.py::"
        "test_sides_are_swapped_in_half_of_each_pair_of_entries",
    ),
    (
        "sides are swapped, and the videos are not",
        "leaderboards/votes/pairs.py",
        "files[left, sample, seed], files[right, sample, seed],",
        "files[a, sample, seed], files[b, sample, seed],",
        "tests/leaderboards/votes/test_server.py::"
        "test_a_side_shows_its_entry_and_a_vote_counts_for_it",
    ),
    (
        "Bradley-Terry's prior is doubled",
        "leaderboards/votes/strengths.py",
        "np.full((e, e), prior / 2)",
        "np.full((e, e), prior)",
        "tests/leaderboards/votes/test_strengths.py::test_the_prior_is_so_many_draws_per_pair",
    ),
    (
        "a timeline has ten times the slack",
        "leaderboards/submission/video.py",
        "slack = 0.5 * facts.seconds",
        "slack = 5 * facts.seconds",
        "tests/leaderboards/submission/test_check.py::test_a_timeline_has_half_a_frame_of_slack",
    ),
    (
        "the leaderboard's face rate is of any metric",
        "leaderboards/runfolder.py",
        "WHERE metric LIKE 'identity.%' AND detail LIKE",
        "WHERE detail LIKE",
        "tests/leaderboards/test_runfolder.py::"
        "test_the_face_rate_is_counted_by_identity_metrics_alone",
    ),
)
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "stdrc/positions.py",
        "half = cos.shape[-1] // heads // 2 if interleaved else cos.shape[-1]",
        "half = cos.shape[-1] / heads // 2 if interleaved else cos.shape[-1]",
    ): "the same number as a float, which is what it is divided by",
    (
        "stdrc/positions.py",
        "angle = phase.to(torch.float64)[:, None] * falloff  # [N, L]",
        "angle = phase.to(None)[:, None] * falloff  # [N, L]",
    ): "the product with float64 is float64",
    (
        "leaderboards/ranking.py",
        "scale = np.where(largest > 0, largest, 1.0)",
        "scale = np.where(largest > 0, largest, 2.0)",
    ): "what is scaled there is 0",
    (
        "leaderboards/ranking.py",
        "rng = np.random.default_rng([seed, draws, 3])",
        "rng = np.random.default_rng([seed, draws, 4])",
    ): "another stream of the same numbers",
    (
        "leaderboards/statistics.py",
        "drawn = np.ascontiguousarray((signs @ part).T.astype(np.float32))  # [members, B]",
        "drawn = np.ascontiguousarray((signs @ part).T.astype(None))  # [members, B]",
    ): "float32 saves memory; the comparison allows for its rounding",
    (
        "leaderboards/votes/agreement.py",
        'first = votes["left"] < votes["right"]',
        'first = votes["left"] <= votes["right"]',
    ): "a vote has two entries, which is checked where votes are read",
    (
        "stdrc/augmentation.py",
        'ImageT = TypeVar("ImageT", np.ndarray, Image.Image, Tensor)',
        'ImageT = TypeVar("ImageT", np.ndarray, None, Tensor)',
    ): "for type checkers alone",
    (
        "leaderboards/votes/pairs.py",
        "turned = [n % 2 == 1 for n in range(len(both))]",
        "turned = [n % 2 != 1 for n in range(len(both))]",
    ): "the next lot turns all of them or none, so both are equally likely",
    (
        "leaderboards/votes/pairs.py",
        "if lot.random() < 0.5:  # which of the two is once more on the left",
        "if lot.random() <= 0.5:  # which of the two is once more on the left",
    ): "the lot is never exactly one half",
    (
        "leaderboards/votes/plan.py",
        "pairs = entries * (entries - 1) // 2",
        "pairs = entries * (entries - 1) / 2",
    ): "the product is even",
    (
        "bench/store.py",
        "def __init__(self, folder: Path, *, write: bool = False, wait: float | None = 0) -> None:",
        "def __init__(self, folder: Path, *, write: bool = False, wait: float | None = 1) -> None:",
    ): "the lock is asked for during one second in any case",
    (
        "leaderboards/votes/ballots.py",
        'head = _fields(data[: data.find(b"\\n") + 1]) if end else last',
        'head = _fields(data[: data.rfind(b"\\n") + 1]) if end else last',
    ): "of whatever is given, the first row is read",
    (
        "leaderboards/votes/ballots.py",
        "if complete and len(last) == len(head) and data.count(b'\"', end) % 2 == 0:",
        "if complete and len(last) == len(head) and data.count(b'\"', None) % 2 == 0:",
    ): "before it the quotes are even",
    (
        "leaderboards/votes/ballots.py",
        'line = data.count(b"\\n", 0, end) + 1',
        'line = data.count(b"\\n", None, end) + 1',
    ): "None is the beginning, too",
    (
        "leaderboards/votes/ballots.py",
        "return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, "
        'encoding="utf-8-sig")',
        "return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, encoding=None)",
    ): "pandas takes a byte-order mark off by itself",
    (
        "leaderboards/votes/agreement.py",
        'table = long.pivot(index="rater", columns="unit", values="value")',
        'table = long.pivot(columns="unit", values="value")',
    ): "alpha is of a pair's values, whichever row they stand in",
    (
        "leaderboards/votes/agreement.py",
        'table = long.pivot(index="rater", columns="unit", values="value")',
        'table = long.pivot(index="rater", columns="unit", )',
    ): "no other column is left",
}
