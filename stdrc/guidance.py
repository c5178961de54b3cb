"""Three-stream guidance: separate weights for the text and for the reference.

The model is asked up to four questions a step, v(text, reference) with either left out; guidance is
a linear combination of the answers whose coefficients sum to 1. ST-DRC (arXiv 2606.02441) names two
weights without printing the decomposition, so the three in use stand side by side as `order`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Literal

import torch
from torch import Tensor

from stdrc.errors import STDRCError

Order = Literal["text_first", "reference_first", "joint"]


class Stream(Enum):
    """One question to the model: which of (text, reference) it is given."""

    NONE = (False, False)
    TEXT = (True, False)
    REFERENCE = (False, True)
    BOTH = (True, True)

    @property
    def has_text(self) -> bool:
        return self.value[0]

    @property
    def has_reference(self) -> bool:
        return self.value[1]


@dataclass(frozen=True)
class ThreeStreamGuidance:
    """Weights for text adherence and reference fidelity.

    With w = text, r = reference, and 0 for what is left out:

    - `"text_first"`: v(0,0) + w [v(T,0) - v(0,0)] + r [v(T,R) - v(T,0)]
    - `"reference_first"`: v(0,0) + r [v(0,R) - v(0,0)] + w [v(T,R) - v(0,R)] (InstructPix2Pix)
    - `"joint"`: v(0,R) + w [v(T,R) - v(0,R)] + (r - 1) [v(T,R) - v(T,0)] (ComfyUI BFS nodes)

    Args:
        text: w_text; 1 adds nothing, 0 ignores the prompt.
        reference: w_ref; 1 adds nothing, 0 (text_first) leaves the reference out.
        order: the decomposition.
        rescale: 0..1, how far the result's standard deviation is pulled to that of the fully
            conditional prediction (Lin et al., arXiv 2305.08891, section 3.4).
        interval: noise levels (low, high) within which guidance acts; outside, only v(T,R) runs
            (Kynkaanniemi et al., arXiv 2404.07724).
        parallel: 0..1, how much is kept of what guidance adds along the fully conditional
            prediction. That part is contrast and saturation; 0 is adaptive projected guidance
            (Sadat et al., arXiv 2410.02416, its eta), 1 plain guidance.

    Raises:
        STDRCError: for NaN or infinite weights, an unknown order, or a bad rescale, interval or
            parallel.

    Example:
        >>> [s.name for s in ThreeStreamGuidance(1.0, 1.0).coefficients()]
        ['BOTH']
    """

    text: float = 3.0
    reference: float = 1.5
    order: Order = "text_first"
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    parallel: float = 1.0

    def __post_init__(self) -> None:
        for name in ("text", "reference", "rescale", "parallel"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise STDRCError(f"Guidance '{name}' is a number, not {value!r}.")
            if not math.isfinite(value):
                raise STDRCError(f"Guidance '{name}' must be a finite number, not {value}.")
        if self.order not in ("text_first", "reference_first", "joint"):
            raise STDRCError(
                "Guidance 'order' is 'text_first', 'reference_first' or 'joint', "
                f"not {self.order!r}."
            )
        for name in ("rescale", "parallel"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise STDRCError(f"Guidance '{name}' lies in 0..1, not {getattr(self, name)}.")
        try:
            low, high = (float(x) for x in self.interval)
        except (TypeError, ValueError):
            raise STDRCError(
                f"Guidance 'interval' is two noise levels (low, high), not {self.interval!r}."
            ) from None
        if not 0.0 <= low <= high <= 1.0:
            raise STDRCError(
                f"Guidance 'interval' needs 0 <= low <= high <= 1, not ({low}, {high})."
            )
        object.__setattr__(self, "interval", (low, high))

    @classmethod
    def parse(cls, value: Mapping[str, Any] | ThreeStreamGuidance) -> ThreeStreamGuidance:
        """Guidance from a mapping of its arguments, or itself."""
        if isinstance(value, ThreeStreamGuidance):
            return value
        known = cls.__dataclass_fields__
        if unknown := sorted(set(value) - set(known)):
            raise STDRCError(
                f"Unknown key {unknown[0]!r} in guidance; known are {', '.join(known)}."
            )
        return cls(**value)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse` turns back into the same guidance."""
        return {**asdict(self), "interval": list(self.interval)}

    @property
    def linear(self) -> bool:
        """Whether the result is the same combination in velocity and in clean space."""
        return not self.rescale and self.parallel == 1.0

    def active(self, sigma: float) -> bool:
        """Whether guidance acts at noise level `sigma` in 0..1."""
        return self.interval[0] <= sigma <= self.interval[1]

    def coefficients(
        self, sigma: float | None = None, *, has_reference: bool = True
    ) -> dict[Stream, float]:
        """How much of each stream the result holds; they sum to 1, and zeros are left out.

        Args:
            sigma: noise level in 0..1; None asks for the weights inside the interval.
            has_reference: without one, a stream with the reference is the same stream without it.
        """
        if sigma is not None and not self.active(sigma):
            weights = {Stream.BOTH: 1.0}
        elif self.order == "text_first":
            weights = {
                Stream.NONE: 1.0 - self.text,
                Stream.TEXT: self.text - self.reference,
                Stream.BOTH: self.reference,
            }
        elif self.order == "reference_first":
            weights = {
                Stream.NONE: 1.0 - self.reference,
                Stream.REFERENCE: self.reference - self.text,
                Stream.BOTH: self.text,
            }
        else:
            weights = {
                Stream.TEXT: 1.0 - self.reference,
                Stream.REFERENCE: 1.0 - self.text,
                Stream.BOTH: self.text + self.reference - 1.0,
            }
        if not has_reference:
            merged: dict[Stream, float] = {}
            for stream, weight in weights.items():
                bare = Stream((stream.has_text, False))
                merged[bare] = merged.get(bare, 0.0) + weight
            weights = merged
        return {stream: float(weight) for stream, weight in weights.items() if weight != 0.0}

    def passes(self, *, has_reference: bool = True) -> int:
        """Transformer passes a guided step takes."""
        return len(self.coefficients(has_reference=has_reference))

    def combine(
        self,
        predictions: Mapping[Stream, Tensor],
        sigma: float | None = None,
        *,
        has_reference: bool = True,
    ) -> Tensor:
        """The guided prediction, in whichever linear space (velocity or x0) the streams are given.

        `rescale` and `parallel` are not linear: their result depends on the space, and the pipeline
        uses x0, as diffusers' LTX-2 pipelines and APG do.

        Args:
            predictions: each stream of `coefficients(sigma)` -> [B, ...].

        Returns:
            Tensor [B, ...].

        Raises:
            STDRCError: if a stream that is needed is missing.
        """
        weights = self.coefficients(sigma, has_reference=has_reference)
        if missing := [s.name for s in weights if s not in predictions]:
            raise STDRCError(
                f"Guidance needs the stream {missing[0]}, which was not evaluated; "
                f"given are {', '.join(s.name for s in predictions)}."
            )
        if len(weights) == 1:  # the sole coefficient is 1: keep the prediction bit for bit
            return predictions[next(iter(weights))]
        guided = sum(weight * predictions[stream] for stream, weight in weights.items())
        assert isinstance(guided, Tensor)
        if self.linear:
            return guided
        richest = max(weights, key=lambda s: (s.has_text + s.has_reference, s.has_text))
        conditional, axes = predictions[richest], tuple(range(1, guided.ndim))
        if self.parallel != 1.0:
            along = _projection(guided - conditional, conditional)
            guided = guided - (1.0 - self.parallel) * along
        if self.rescale:
            ratio = conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
            guided = guided * (self.rescale * ratio + (1.0 - self.rescale))
        return guided


def _projection(vectors: Tensor, onto: Tensor) -> Tensor:
    """The part of each sample [B, ...] along `onto`; nothing where that is zero."""
    axes = tuple(range(1, vectors.ndim))
    # Sums over a whole video: half precision would not do.
    wide = onto.to(torch.promote_types(onto.dtype, torch.float32))
    share = (vectors.to(wide.dtype) * wide).sum(axes, keepdim=True)
    share = share / wide.square().sum(axes, keepdim=True).clamp_min(1e-12)
    return (share * wide).to(vectors.dtype)
