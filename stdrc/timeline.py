"""Several events, several people: what of a video follows which prompt and which references.

`segments` cuts a video at every border of an event and of a reference's time. Each segment has its
own prompt and references, hence a guided velocity of its own, and `BlendedVelocity` gives every
latent frame the velocity of the segment it lies in, with a linear cross-fade at the borders. It
costs as many times the passes of a step as there are segments. `joined_prompt` is the cheap way:
one prompt that states the times in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from diffusers.utils import logging
from torch import Tensor

from stdrc.conditions import EncodedReference, EncodedText
from stdrc.errors import STDRCError
from stdrc.guidance import ThreeStreamGuidance
from stdrc.positions import ReferencePlacement
from stdrc.sampling import GuidedVelocity
from stdrc.sequence import TokenSequence

logger = logging.get_logger(__name__)

#: A sentence of `joined_prompt`.
EVENT_SENTENCE = "From {start:g} to {end:g} seconds: {prompt}."


@dataclass(frozen=True)
class Event:
    """What happens from `start` to `end`, in seconds.

    Args:
        prompt: in words, or as `encode_text` gives it.
    """

    start: float
    end: float
    prompt: str | EncodedText

    def __post_init__(self) -> None:
        _check(self.start, self.end, "An event")


@dataclass(frozen=True)
class Reference:
    """An image of a person, and when that person is seen.

    Args:
        image: a path, a PIL image, an array or a tensor.
        person: who it is, where there are several.
        start, end: seconds between which the model is shown it; None: from the beginning, to the
            end.
    """

    image: Any
    person: str = ""
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        _check(self.start or 0.0, math.inf if self.end is None else self.end, "A reference")


def shown_when(reference: Any) -> tuple[float, float] | None:
    """Seconds between which a reference is shown; None: always."""
    if not isinstance(reference, Reference) or (reference.start, reference.end) == (None, None):
        return None
    return reference.start or 0.0, math.inf if reference.end is None else reference.end


def _check(start: float, end: float, what: str) -> None:
    if not 0 <= start < end:
        raise STDRCError(
            f"{what} goes from {start:g} to {end:g} seconds; it has to start at 0 or later and end "
            "after that."
        )


@dataclass(frozen=True)
class Segment:
    """A stretch of a video under one prompt and one set of references.

    Args:
        start: seconds; it ends where the next start is.
        event: which event happens in it; None: the video's own prompt holds.
        references: which references are shown in it.
        share: of the stretch's velocity; events that overlap share it.
    """

    start: float
    event: int | None
    references: tuple[int, ...]
    share: float = 1.0


def joined_prompt(prompt: str, events: Iterable[Event], sentence: str = EVENT_SENTENCE) -> str:
    """The prompt, and behind it a sentence for each event.

    Args:
        sentence: with {start}, {end} and {prompt}.

    Example:
        >>> joined_prompt("A man in a park.", [Event(0, 2, "he waves"), Event(2, 5, "he sits")])
        'A man in a park. From 0 to 2 seconds: he waves. From 2 to 5 seconds: he sits.'
    """
    try:
        told = [
            sentence.format(start=e.start, end=e.end, prompt=str(e.prompt).strip().rstrip("."))
            for e in events
        ]
    except (KeyError, IndexError, ValueError) as error:
        raise STDRCError(
            f"An event's sentence has {{start}}, {{end}} and {{prompt}}, not {sentence!r}."
        ) from error
    return " ".join([prompt.strip(), *told])


def segments(
    seconds: float, events: Sequence[Event] = (), times: Sequence[tuple[float, float] | None] = ()
) -> list[Segment]:
    """A video of that many seconds, cut where an event or a reference's time begins or ends.

    Args:
        events: in any order; where several overlap there is a segment for each.
        times: of each reference, in seconds; None: always.

    Raises:
        STDRCError: an event or a reference lies behind the video's end.

    Example:
        >>> [s.start for s in segments(2.0, [Event(0, 1.2, "a"), Event(1.2, 2, "b")])]
        [0.0, 1.2]
    """
    spans = [(e.start, e.end) for e in events]
    for start, _ in [*spans, *(t for t in times if t is not None)]:
        if start >= seconds:
            raise STDRCError(
                f"The video ends after {seconds:g} seconds, and something is to start at "
                f"{start:g}; make it longer, or the timeline shorter."
            )
    marks = {0.0}
    for start, end in [*spans, *(t for t in times if t is not None)]:
        marks |= {float(t) for t in (start, end) if t < seconds - 1e-6}
    found: list[Segment] = []
    last: Any = None
    for start in sorted(marks):
        held = tuple(i for i, (a, b) in enumerate(spans) if a <= start < b)
        shown = tuple(i for i, t in enumerate(times) if t is None or t[0] <= start < t[1])
        if (held, shown) != last:
            found += [Segment(start, i, shown, 1 / len(held or (1,))) for i in held or (None,)]
        last = held, shown
    return found


def blend_weights(starts: Sequence[float], moments: Tensor, fade: float) -> Tensor:
    """How much of each segment's velocity a token takes.

    Args:
        starts: of the S segments, ascending seconds.
        moments: [N] seconds of the tokens' middles.
        fade: seconds of the linear cross-fade around each border; 0 cuts.

    Returns:
        [S, N] in 0..1, adding up to 1 over the segments.

    Example:
        >>> blend_weights([0.0, 1.0], torch.tensor([0.5, 1.0, 1.5]), 0.5).tolist()
        [[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]
    """
    if not 0 <= fade < math.inf:
        raise STDRCError(f"A cross-fade lasts 0 or more seconds, not {fade}.")
    rises = [torch.ones_like(moments)]
    for border in starts[1:]:
        if fade:
            rises.append(((moments - border) / fade + 0.5).clamp(0, 1))
        else:
            rises.append((moments >= border).to(moments.dtype))
    rises.append(torch.zeros_like(moments))
    # What has risen and not yet given way to the next.
    return torch.stack([rise - after for rise, after in pairwise(rises)])


@dataclass
class BlendedVelocity:
    """The velocity of a video whose segments differ in prompt or references.

    Args:
        parts: the guided velocity of each segment, over the whole video.
        segments: in order of their starts.
        fade: see `blend_weights`.
    """

    parts: Sequence[GuidedVelocity]
    segments: Sequence[Segment]
    fade: float

    def __post_init__(self) -> None:
        first = self.parts[0]
        self.join, self.split = first.join, first.split
        self._video = self._weights(first.sequence.video.coords)
        self._sound: Tensor | None = None
        if first.audio is not None:
            rope = first.transformer.audio_rope
            device = first.sequence.coords.device
            self._sound = self._weights(rope.prepare_audio_coords(1, first.audio[0], device))

    def _weights(self, coords: Tensor) -> Tensor:
        """[S, 1, N, 1] of tokens at coords [1, axes, N, 2], the first axis in seconds."""
        starts = sorted({segment.start for segment in self.segments})
        weights = blend_weights(starts, coords[0, 0].mean(dim=-1), self.fade)
        each = [weights[starts.index(s.start)] * s.share for s in self.segments]
        return torch.stack(each)[:, None, :, None]

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The blended velocity at `x`, in its shape; sigma is a scalar tensor in 0..1."""
        found = [self.split(part(x, sigma)) for part in self.parts]
        video = sum(w * v for w, (v, _) in zip(self._video, found))
        if self._sound is None:
            return video
        return self.join(video, sum(w * s for w, (_, s) in zip(self._sound, found)))


class VideoSize(Protocol):
    """A video's frames, and what of it is left in the latents."""

    @property
    def num_frames(self) -> int: ...
    @property
    def frame_rate(self) -> float: ...
    @property
    def frames(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...


def timed_velocity(
    transformer: Any,
    guidance: ThreeStreamGuidance,
    placement: ReferencePlacement,
    size: VideoSize,
    text: EncodedText,
    negative: EncodedText,
    references: EncodedReference | None,
    events: Sequence[Event] = (),
    *,
    fade: float = 0.25,
    audio: tuple[int, int] | None = None,
    attention_kwargs: dict[str, Any] | None = None,
) -> GuidedVelocity | BlendedVelocity:
    """The guided velocity of a video; of one with several segments theirs, blended.

    Args:
        text, negative: [B] encoded prompts, and what "no text" means.
        references: [B] of them, with their times; None for plain text-to-video.
        events: with encoded prompts, the same for all B videos.
        (others): see `GuidedVelocity` and `blend_weights`.

    Raises:
        STDRCError: events or references that the video has no room for.
    """
    times: tuple[tuple[float, float] | None, ...] = ()
    if references is not None:
        times = references.times or (None,) * references.tokens.shape[1]
    rope, device = transformer.rope, text.video.device
    intervals = [_latent_frames(rope, size, span) for span in times]
    cut = segments(size.num_frames / size.frame_rate, events, times)
    parts = []
    for segment in cut:
        shown, said, tokens = list(segment.references), text, None
        if segment.event is not None:
            prompt = events[segment.event].prompt
            assert isinstance(prompt, EncodedText)
            said = prompt[[0] * len(text)]
        if references is not None and shown:
            tokens = references.tokens[:, shown].flatten(1, 2)  # [B, K*h*w, C]
        sequence = TokenSequence.of(
            rope,
            placement if shown else None,
            references=len(shown),
            frames=size.frames,
            height=size.rows,
            width=size.columns,
            fps=size.frame_rate,
            intervals=[intervals[i] for i in shown],
            sources=shown,
            device=device,
        )
        given = (transformer, sequence, guidance, said, negative, tokens, audio, attention_kwargs)
        parts.append(GuidedVelocity(*given))
    return parts[0] if len(parts) == 1 else BlendedVelocity(parts, cut, fade)


def _latent_frames(
    rope: Any, size: VideoSize, span: tuple[float, float] | None
) -> tuple[int, int] | None:
    """The latent frames [first, last + 1) whose middles lie in these seconds."""
    if span is None:
        return None
    coords = rope.prepare_video_coords(1, size.frames, 1, 1, None, fps=size.frame_rate)
    middles = coords[0, 0].mean(dim=-1).tolist()
    inside = [i for i, t in enumerate(middles) if span[0] <= t < span[1]]
    if not inside:
        raise STDRCError(
            f"No latent frame lies between {span[0]:g} and {span[1]:g} seconds, where a reference "
            "is to be shown; show it for longer."
        )
    return inside[0], inside[-1] + 1


def warn_of_people(reference: Any, placement: ReferencePlacement) -> None:
    """Several people at one place can't be told apart by where their tokens stand."""
    given = reference if isinstance(reference, list | tuple) else [reference]
    flat = [r for one in given for r in (one if isinstance(one, list | tuple) else [one])]
    people = {r.person for r in flat if isinstance(r, Reference)}
    if said := at_one_place(len(people), placement):
        logger.warning(said)


def at_one_place(people: int, placement: ReferencePlacement) -> str:
    """What is to be said of that many people's references under a placement; empty if nothing."""
    if people < 2 or placement.when != "start" or placement.phase:
        return ""
    return (
        f"References of {people} people stand at one place under the placement '{placement}', and "
        "the model can't tell their order; place them after the video, as 'tass' does."
    )
