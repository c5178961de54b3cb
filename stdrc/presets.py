"""Published settings by name, so that baselines are comparable with published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.pipelines.ltx2.utils import DEFAULT_NEGATIVE_PROMPT

from stdrc.errors import STDRCError, UnknownNameError
from stdrc.guidance import ThreeStreamGuidance

#: Name -> guidance and negative prompt.
PRESETS: dict[str, tuple[ThreeStreamGuidance, str]] = {
    "ltx23": (ThreeStreamGuidance.ltx23(), DEFAULT_NEGATIVE_PROMPT),
}

#: Whose noise levels a checkpoint walks down.
SCHEDULES = ("dev", "distilled")


def resolve_guidance(
    guidance: ThreeStreamGuidance | Mapping[str, Any] | None,
    negative_prompt: str | Sequence[str] | None,
    preset: str | None,
    schedule: str,
) -> tuple[ThreeStreamGuidance, str | Sequence[str]]:
    """Guidance and negative prompt of a call, from what it names and what it leaves out.

    Raises:
        STDRCError: an unknown preset or schedule, or a preset beside what it would set.
    """
    if schedule not in SCHEDULES:
        raise STDRCError(f"The schedule is {' or '.join(SCHEDULES)}, not {schedule!r}.")
    if preset is not None:
        if preset not in PRESETS:
            raise UnknownNameError.among("There is no preset", preset, PRESETS)
        if guidance is not None or negative_prompt is not None:
            raise STDRCError(
                f"The preset {preset!r} sets guidance and negative prompt; leave those out, or the "
                "preset."
            )
        return PRESETS[preset]
    if guidance is None and schedule == "distilled":
        # What guidance would add was distilled into the weights.
        guidance = ThreeStreamGuidance(1.0, 1.0)
    given = ThreeStreamGuidance() if guidance is None else ThreeStreamGuidance.parse(guidance)
    return given, "" if negative_prompt is None else negative_prompt
