"""Cases from public bug reports of the field: the right value of each is a test, run here.

A case names the tests that state it; what they saw is printed, and nothing is checked twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


class Case(NamedTuple):
    """What was reported, what is right, and the tests that say so: FILE::NAME, under tests/."""

    name: str
    right: str
    tests: tuple[str, ...]


LORA, PIPE, LOAD = "stdrc/test_lora.py", "stdrc/test_pipeline.py", "stdrc/test_loading.py"
RUN, SET = "stdrc/test_training_run.py", "bench/test_evalset.py"
KEPT, FIELD, GEN = (
    "bench/test_kept.py",
    "bench/test_every_field.py",
    "bench/test_stdrc_generator.py",
)
TABLES, IMAGES, VIDEO = "media/test_tables.py", "media/test_images.py", "media/test_video.py"
DIST, SUITE, SETS = (
    "metrics/test_distribution.py",
    "metrics/test_suite.py",
    "metrics/test_suite_sets.py",
)
EXTRACT, PROTOCOL = "metrics/test_extractors.py", "metrics/test_protocols.py"
SCORE = "metrics/test_score.py"
CASES = [
    # weights and placement
    Case("LoRA keys of diffusers, ltx-trainer and ComfyUI, PEFT, bare, Kohya with alpha",
         "weights change by alpha / rank x B A",
         (f"{LORA}::test_every_makers_file_changes_the_weights_by_what_it_states",)),
    Case("a LoRA in half precision", "scaled in single",
         (f"{LORA}::test_half_precision_files_are_scaled_in_single",)),
    Case("a LoRA of which nothing, or half, fits; DoRA; other shapes; NaN; a missing half",
         "refused, weights and placement as before",
         (f"{LORA}::test_what_does_not_fit_is_refused_and_nothing_is_loaded",
          f"{LORA}::test_a_file_that_trains_more_than_it_holds_is_refused")),
    Case("such a LoRA in a sweep", "exit code 2, no leaderboard",
         (f"{GEN}::test_a_lora_that_fits_nothing_is_refused_before_it_is_on_a_leaderboard",)),
    Case("a variant whose YAML and file differ", "the file's; a contradiction is refused",
         (f"{GEN}::test_a_variant_is_what_its_file_says",)),
    Case("a second LoRA without metadata; switching; fusing", "a placement per adapter, kept",
         (f"{LORA}::test_each_adapter_keeps_its_placement",
          f"{LORA}::test_a_fused_lora_keeps_its_placement", f"{LORA}::test_unfusing_forgets")),
    Case("LoRAs by hub id, with file:", "found in the cache, else named",
         (f"{LORA}::test_hub_ids_are_asked_too",
          f"{GEN}::test_a_variant_of_the_hub_is_its_file_in_the_cache")),
    Case("from_pretrained without a dtype on a bf16 repository", "one dtype; README's snippet runs",
         (f"{LOAD}::test_the_readmes_snippet_runs_on_a_bf16_repository",
          f"{LOAD}::test_one_dtype_the_transformers",
          f"{LOAD}::test_half_precision_is_storage",
          f"{LOAD}::test_the_shipped_storage_is_read_as_float32")),
    Case("sigmas unsorted, above 1, NaN, or ending in 0", "refused, or finite",
         (f"{PIPE}::test_bad_arguments_say_what_is_wrong",
          f"{PIPE}::test_sigmas_may_end_in_0_where_guidance_is_linear")),
    Case("rescale without any spread", "pulls nothing, no NaN",
         ("stdrc/test_guidance.py::test_rescale_without_any_spread_pulls_nothing",)),
    Case("negative_prompt=None, seeds=np.int64(3), a callback that returns None", "as diffusers",
         (f"{PIPE}::test_arguments_are_taken_as_in_diffusers",)),
    # pictures, prompts, tables
    Case("prompts that differ after the tokenizer's limit", "remarked on their row; strict refuses",
         (f"{PIPE}::test_a_prompt_that_is_too_long_is_remarked_on_or_refused",
          f"{GEN}::test_a_prompt_that_is_cut_is_said_on_its_row",
          f"{GEN}::test_what_the_miniature_was_not_taught_is_said_on_its_row")),
    Case("a cut-out PNG, 16-bit grey, EXIF; in hub sets; shown to any diffusers pipeline",
         "one picture for generator and metrics",
         (f"{IMAGES}::test_a_picture_is_the_same_however_it_is_handed_over",
          f"{IMAGES}::test_a_cut_out_stands_on_white",
          f"{IMAGES}::test_sixteen_bits_are_scaled_by_their_range_and_not_by_their_content",
          f"{SET}::test_a_hub_sets_pictures_are_read_as_everywhere",
          f"{FIELD}::test_a_diffusers_pipeline_sees_a_cut_out_as_the_metrics_do")),
    Case("U+2028, U+0085 in JSONL and CSV", "inside the value, as pandas reads it",
         (f"{TABLES}::test_other_line_ends_of_unicode_stand_inside_values",
          f"{TABLES}::test_csv_and_json_lines_give_back_what_was_written")),
    Case("a byte-order mark; Latin-1", "read; refused with its line and 'save the file as UTF-8'",
         (f"{TABLES}::test_a_byte_order_mark_is_accepted",
          f"{TABLES}::test_latin_1_is_refused_with_its_line",
          f"{RUN}::test_metadata_is_read_as_other_programs_write_it")),
    Case("score --samples with ids 2,1", "each video against its own person; no match is refused",
         (f"{SCORE}::test_a_tables_ids_say_which_video_is_whose",
          f"{SCORE}::test_a_table_that_matches_nothing_is_refused")),
    Case("crops of training and inference; face_detector in args", "the same; refused",
         (f"{RUN}::test_training_and_sampling_cut_references_alike",
          f"{LORA}::test_the_crop_is_the_trainings_by_default",
          f"{LORA}::test_an_argument_that_would_be_overruled_is_refused",
          f"{GEN}::test_references_are_encoded_anew_for_another_crop_or_size")),
    Case("training on a phone video on its side", "upright, its boxes fit",
         (f"{RUN}::test_a_turned_clip_is_upright_and_its_boxes_fit",)),
    # frames that are asked for
    Case("sparse reading of B-frames and open groups; cut with -c copy", "frame i is frame i",
         (f"{VIDEO}::test_frame_i_is_frame_i_however_few_are_asked_for",
          f"{VIDEO}::test_frames_that_an_edit_list_hides_are_not_counted",
          f"{SUITE}::test_few_frames_are_the_same_alone_and_beside_a_metric_of_all",
          f"{SUITE}::test_the_cache_knows_how_a_frame_was_decoded")),
    Case("HDR, fields, pixels that are not square", "said with the score",
         (f"{VIDEO}::test_what_a_score_should_say_with_it",
          f"{SUITE}::test_what_a_video_is_read_as_is_said_with_its_scores")),
    Case("damage that decodes, in VP9 and AV1", "refused",
         (f"{VIDEO}::test_damage_that_would_still_decode_is_noticed_in_vp9",
          f"{VIDEO}::test_a_frame_of_av1_that_is_not_shown_is_missed")),
    # what is kept
    Case("num_frames 4, then 16; a target, reference, video or weights replaced",
         "exactly what depends on it is done again",
         (f"{KEPT}::test_what_depends_on_a_change_is_done_again_and_nothing_else",
          f"{KEPT}::test_the_number_of_frames_is_in_a_sampled_metrics_version",
          f"{KEPT}::test_replaced_weights_are_noticed_on_a_complete_run",
          f"{SETS}::test_a_version_is_of_all_that_a_value_depends_on")),
    Case("order of keys, comments, places, time stamps", "nothing is done",
         (f"{KEPT}::test_what_does_not_matter_does_nothing",)),
    Case("every field of a config, a generator and a sample", "decided, and as decided",
         tuple(f"{FIELD}::{name}" for name in (
             "test_every_field_of_a_run_is_decided",
             "test_a_field_of_a_run_does_again_what_is_decided",
             "test_a_field_of_a_generator_is_in_the_key_where_it_matters",
             "test_every_axis_is_in_the_key",
             "test_a_field_of_a_sample_is_in_the_key_where_it_matters"))),
    Case("videos that the plan no longer has", "retired, listed, removed by clean",
         (f"{KEPT}::test_what_a_plan_no_longer_has_is_retired_until_it_is_back_or_cleaned",)),
    Case("killed between a video and its row", "the remark is kept",
         ("bench/test_runner.py::test_a_kill_between_a_file_and_its_row_loses_no_remark",)),
    # numbers that claim too much
    Case("KID of 60 pairs of equal sets, 24 videos of 16 frames", "0 in 55 of 60 intervals or more",
         (f"{DIST}::test_frames_of_a_video_are_no_independent_samples",)),
    Case("KVD between videos and their own targets", "0 on average for equal distributions",
         (f"{DIST}::test_videos_made_after_one_target_are_no_independent_samples",
          f"{DIST}::test_a_metric_leaves_out_pairs_of_one_target")),
    Case("intervals of KID, KVD, FVD and FID", "over people; none below three",
         (f"{DIST}::test_intervals_resample_people_and_need_three",
          f"{SETS}::test_the_interval_is_over_people")),
    Case("FVD's frames", "16 consecutive ones, short side cropped, said",
         (f"{SETS}::test_distances_are_of_the_first_consecutive_frames",
          f"{EXTRACT}::test_the_short_side_is_cropped_as_cd_fvds_loader_does")),
    Case("features of 1e200; in half precision", "refused in words; converted first and said",
         (f"{DIST}::test_features_that_are_too_large_are_refused_in_words",
          f"{DIST}::test_half_precision_is_converted_first_and_said")),
    Case("VBench's background consistency", "its own transform to 1e-5",
         (f"{EXTRACT}::test_background_consistency_sees_frames_as_vbench_does",)),
]  # fmt: skip


class Seen:
    """A pytest plug-in: the outcome of each test, its parameters counted together."""

    def __init__(self) -> None:
        self.passed: dict[str, int] = {}
        self.wrong: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.said: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.partition("[")[0].removeprefix("tests/")
        if report.failed:
            self.wrong[name] = report.longreprtext.strip().splitlines()[-1]
        elif report.skipped:
            self.skipped[name] = str(report.longrepr[-1])
        elif report.when == "call":
            self.passed[name] = self.passed.get(name, 0) + 1
            if said := dict(report.user_properties).get("seen"):
                self.said[name] = said


def rows(only: str = "") -> Iterator[tuple[str, str, str, bool]]:
    """Case, right value, what was seen, and whether it is right."""
    wanted = [case for case in CASES if only.lower() in case.name.lower()]
    seen = Seen()
    tests = dict.fromkeys(str(ROOT / "tests" / test) for case in wanted for test in case.tests)
    pytest.main(
        [*tests, "-o", "addopts=", "-p", "no:terminal", f"--rootdir={ROOT}"], plugins=[seen]
    )
    for case in wanted:
        words, right, checks = [], True, 0
        for test in case.tests:
            passed = seen.passed.get(test, 0)
            right = right and passed > 0 and test not in seen.wrong
            checks += passed
            if test in seen.wrong or not passed:
                words.append(seen.wrong.get(test) or seen.skipped.get(test) or f"no {test}")
            elif test in seen.said:
                words.append(seen.said[test])
        yield case.name, case.right, "; ".join(words) or f"{checks} checks hold", right
