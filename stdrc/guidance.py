"""Three-stream guidance: separate weights for the text and for the reference.

The model is asked up to four questions per step, v(text, reference) with either left out, and a
fifth with self-attention perturbed in some blocks (STG); guidance is a linear combination of the
answers whose coefficients sum to 1. ST-DRC (arXiv 2606.02441) names two
weights without printing the decomposition, so the three in use stand side by side as `order`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from stdrc.errors import STDRCError, one_sentence

if TYPE_CHECKING:
    from torch import Tensor

Order = Literal["text_first", "reference_first", "joint"]


class Stream(Enum):
    """One question to the model: which of (text, reference) it is given, and whether perturbed."""

    NONE = (False, False, False)
    TEXT = (True, False, False)
    REFERENCE = (False, True, False)
    BOTH = (True, True, False)
    PERTURBED_TEXT = (True, False, True)
    PERTURBED = (True, True, True)

    @property
    def has_text(self) -> bool:
        return self.value[0]

    @property
    def has_reference(self) -> bool:
        return self.value[1]

    @property
    def perturbed(self) -> bool:
        """Whether the self-attention of some blocks is skipped."""
        return self.value[2]


def _two_levels(value: Any) -> Any:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError("is two noise levels (low, high)")
    return value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 <= value[0] <= value[1] <= 1.0:
        raise ValueError("needs 0 <= low <= high <= 1")
    return value


Weight = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


@one_sentence("Guidance")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ThreeStreamGuidance:
    """Weights for text adherence and reference fidelity.

    With w = text, r = reference, and 0 for what is left out:

    - `"text_first"`: v(0,0) + w [v(T,0) - v(0,0)] + r [v(T,R) - v(T,0)]
    - `"reference_first"`: v(0,0) + r [v(0,R) - v(0,0)] + w [v(T,R) - v(0,R)] (InstructPix2Pix)
    - `"joint"`: v(0,R) + w [v(T,R) - v(0,R)] + (r - 1) [v(T,R) - v(T,0)] (ComfyUI BFS nodes)

    and with s = stg each of them plus s [v(T,R) - v_perturbed(T,R)] (spatio-temporal skip guidance,
    Hyung et al., arXiv 2411.18664), before `parallel` and `rescale`.

    The fields carry their ranges and descriptions: whatever offers guidance as a setting (a sweep,
    a command line) reads them from `__pydantic_fields__` and does not state them again.

    Raises:
        STDRCError: naming the field, what it takes and what was given.

    Example:
        >>> [s.name for s in ThreeStreamGuidance(1.0, 1.0).coefficients()]
        ['BOTH']
    """

    text: Annotated[Weight, Field(description="w_text; 1 adds nothing, 0 ignores the prompt")] = 3.0
    reference: Annotated[
        Weight,
        Field(description="w_ref; 1 adds nothing, 0 (text_first) leaves the reference out"),
    ] = 1.5
    order: Annotated[Order, Field(description="the decomposition")] = "text_first"
    rescale: Annotated[
        Share,
        Field(
            description="how far the result's standard deviation is pulled to that of the fully "
            "conditional prediction (Lin et al., arXiv 2305.08891, section 3.4)"
        ),
    ] = 0.0
    interval: Annotated[
        tuple[float, float],
        BeforeValidator(_two_levels),
        AfterValidator(_ordered),
        Field(
            description="noise levels (low, high) within which guidance acts; outside, only v(T,R) "
            "runs (Kynkaanniemi et al., arXiv 2404.07724)"
        ),
    ] = (0.0, 1.0)
    parallel: Annotated[
        Share,
        Field(
            description="how much is kept of what guidance adds along the fully conditional "
            "prediction, which is contrast and saturation; 0 is adaptive projected guidance "
            "(Sadat et al., arXiv 2410.02416, its eta), 1 plain guidance"
        ),
    ] = 1.0
    stg: Annotated[
        Weight,
        Field(
            description="weight of v(T,R) minus the same pass with the self-attention of "
            "`stg_blocks` skipped; 0 doesn't run it"
        ),
    ] = 0.0
    stg_blocks: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(min_length=1, description="the transformer's blocks that `stg` perturbs, from 0"),
    ] = (28,)

    @classmethod
    def ltx23(cls) -> ThreeStreamGuidance:
        """Lightricks' settings for LTX-2.3: guidance 3, STG 1 on block 28, rescale 0.7.

        The reference, where there is one, is in every stream, as IC-LoRA's pipelines have it. Their
        long negative prompt goes with it (`preset="ltx23"` of the pipeline takes both).
        """
        return cls(3.0, 1.0, "joint", rescale=0.7, stg=1.0, stg_blocks=(28,))

    @classmethod
    def parse(cls, value: Mapping[str, Any] | ThreeStreamGuidance) -> ThreeStreamGuidance:
        """Guidance from a mapping of its arguments, or itself."""
        if isinstance(value, ThreeStreamGuidance):
            return value
        return cls(**value)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse` turns back into the same guidance."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def acting(self) -> dict[str, Any]:
        """Name -> value of the fields that act: without a guidance that is off, and what it reads.

        Two guidances with the same acting fields give the same video, and a video made before
        guidance learned something new is still known by these.
        """
        values = asdict(self)
        if not self.stg:
            del values["stg"], values["stg_blocks"]
        return values

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
        if self.stg and (sigma is None or self.active(sigma)):
            weights[Stream.BOTH] = weights.get(Stream.BOTH, 0.0) + self.stg
            weights[Stream.PERTURBED] = -self.stg
        if not has_reference:
            merged: dict[Stream, float] = {}
            for stream, weight in weights.items():
                bare = Stream((stream.has_text, False, stream.perturbed))
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
                f"given: {', '.join(s.name for s in predictions)}."
            )
        if len(weights) == 1:  # the sole coefficient is 1: keep the prediction bit for bit
            return predictions[next(iter(weights))]
        guided: Tensor = sum(  # type: ignore[assignment]  # of two or more: not the int 0
            weight * predictions[stream] for stream, weight in weights.items()
        )
        if self.linear:
            return guided
        richest = max(
            weights, key=lambda s: (not s.perturbed, s.has_text + s.has_reference, s.has_text)
        )
        conditional, axes = predictions[richest], tuple(range(1, guided.ndim))
        if self.parallel != 1.0:
            along = _projection(guided - conditional, conditional)
            guided = guided - (1.0 - self.parallel) * along
        if self.rescale:
            spread = guided.std(axes, keepdim=True)
            ratio = conditional.std(axes, keepdim=True) / spread
            # Without any spread there is nothing to pull.
            ratio = ratio.where(spread > 0, 1.0)
            guided = guided * (self.rescale * ratio + (1.0 - self.rescale))
        return guided


def _projection(vectors: Tensor, onto: Tensor) -> Tensor:
    """The part of each sample [B, ...] along `onto`; nothing where that is zero."""
    axes = tuple(range(1, vectors.ndim))
    # Sums over a whole video: half precision would not do.
    wide = onto.double() if onto.element_size() == 8 else onto.float()
    share = (vectors.to(wide.dtype) * wide).sum(axes, keepdim=True)
    share = share / wide.square().sum(axes, keepdim=True).clamp_min(1e-12)
    return (share * wide).to(vectors.dtype)
