"""Where a reference image's tokens sit in the video's position grid.

LTX-2's rotary embedding reads *coordinates in pixels and seconds*, so a placement is nothing but a
set of coordinates: when the reference happens, and how far it is moved in space. TASS-RoPE
(ST-DRC, arXiv 2606.02441, figure 2b) puts it on the frame after the video, a whole extent down and
to the right; the other placements in use are the same three numbers with other values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from stdrc.errors import STDRCError, UnknownNameError

When = Literal["after", "start", "before"]
Anchor = Literal["extent", "corner"]


@dataclass(frozen=True)
class ReferencePlacement:
    """When and where the reference's tokens stand, relative to a video of t x h x w latents.

    Args:
        when: `"after"` the last latent frame, at the `"start"` (on frame 0), or `"before"` frame 0.
        gap: latent frames left empty between the video and the reference; only for `"after"` and
            `"before"`. Negative ones, down to -t, put it among the video's own frames.
        shift: (rows, columns) in extents of the video: (1.0, 1.0) moves the reference by exactly h
            rows and w columns. Fractions and negative numbers are allowed.
        phase: radians added to the rotary angles of the reference's tokens, times the source id,
            falling off as theta^(-d/L) over each head's L = head_dim / 2 angles; 0 switches it off.
            The per-source phase of LTX-Best-Face-ID.
        source_id: of the first reference; the k-th one after it has source_id + k.
        anchor: what an extent is: `"extent"`, of the t, h, w cells; `"corner"`, up to the start of
            the last cell, one less on each axis (ComfyUI-BFSNodes).
        slot: seconds between references, the first one slot behind the place that `when` and `gap`
            name; 0 keeps them all there. None: the next latent frame each (not at the start).
        downscale: the reference is 1/downscale of the video's height and width and its tokens are
            spread over the same extent (IC-LoRA's reference_downscale_factor).

    Raises:
        STDRCError: for an unknown `when` or `anchor`, numbers that aren't finite, a gap at the
            start, a negative slot, or a downscale that isn't 1, 2, 3, ...
    """

    when: When = "after"
    gap: float = 0
    shift: tuple[float, float] = (1.0, 1.0)
    phase: float = 0.0
    source_id: float = 1
    anchor: Anchor = "extent"
    slot: float | None = None
    downscale: int = 1

    def __post_init__(self) -> None:
        for name, known in (("when", get_args(When)), ("anchor", get_args(Anchor))):
            if getattr(self, name) not in known:
                choices = f"{', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
                raise STDRCError(
                    f"A placement's '{name}' is {choices}, not {getattr(self, name)!r}."
                )
        try:
            rows, columns = (float(s) for s in self.shift)
        except (TypeError, ValueError):
            raise STDRCError(
                f"A placement's 'shift' is two numbers (rows, columns), not {self.shift!r}."
            ) from None
        slot = 0 if self.slot is None else self.slot
        numbers = {
            "gap": self.gap, "shift": rows + columns, "phase": self.phase,
            "source_id": self.source_id, "slot": slot, "downscale": self.downscale,
        }  # fmt: skip
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise STDRCError(f"A placement's '{name}' is a number, not {value!r}.")
            if not math.isfinite(value):
                raise STDRCError(f"A placement's '{name}' must be finite, not {value!r}.")
        if self.when == "start" and self.gap:
            raise STDRCError("A placement at the 'start' has no gap; use 'after' or 'before'.")
        if slot < 0:
            raise STDRCError(f"A placement's 'slot' is 0 or more seconds, not {slot}.")
        if self.downscale < 1 or self.downscale != int(self.downscale):
            raise STDRCError(f"A placement's 'downscale' is 1, 2, 3, ..., not {self.downscale}.")
        object.__setattr__(self, "shift", (rows, columns))

    @classmethod
    def tass(cls) -> ReferencePlacement:
        """ST-DRC: the next frame in time, one whole extent away in space."""
        return cls("after", 0, (1.0, 1.0))

    @classmethod
    def overlap(cls) -> ReferencePlacement:
        """On top of frame 0, as IC-LoRA and diffusers' `LTX2InContextPipeline` have it."""
        return cls("start", 0, (0.0, 0.0))

    @classmethod
    def strata(cls) -> ReferencePlacement:
        """The next frame in time, same place in space."""
        return cls("after", 0, (0.0, 0.0))

    @classmethod
    def spatial(cls) -> ReferencePlacement:
        """Frame 0 in time, one extent away in space: TASS without its first half."""
        return cls("start", 0, (1.0, 1.0))

    @classmethod
    def far(cls, gap: float = 4) -> ReferencePlacement:
        """TASS with `gap` empty latent frames in between."""
        return cls("after", gap, (1.0, 1.0))

    @classmethod
    def bfs_st_drc(cls) -> ReferencePlacement:
        """ComfyUI-BFSNodes' "st_drc": moved by the video's greatest start corner on each axis, so
        one latent cell less than `tass`; several references share the place."""
        return cls("after", 0, (1.0, 1.0), anchor="corner", slot=0.0)

    @classmethod
    def bfs_strata(cls) -> ReferencePlacement:
        """ComfyUI-BFSNodes' "strata": slots of 1.5 s behind the greatest start corner in time."""
        return cls("after", 0, (0.0, 0.0), anchor="corner", slot=1.5)

    @classmethod
    def parse(cls, value: str | Mapping[str, Any] | ReferencePlacement) -> ReferencePlacement:
        """A placement from a name (`"tass"`), a mapping (`{"when": "after", "gap": 2}`) or itself.

        Raises:
            STDRCError: for an unknown name or key; the message names the nearest valid one.
        """
        if isinstance(value, ReferencePlacement):
            return value
        if isinstance(value, str):
            if value not in PLACEMENTS:
                raise UnknownNameError.among("Unknown placement", value, PLACEMENTS)
            return PLACEMENTS[value]
        if isinstance(value, Mapping):
            known = set(cls.__dataclass_fields__)
            if unknown := sorted(set(value) - known):
                raise STDRCError(
                    f"Unknown key {unknown[0]!r} in a placement; "
                    f"known are {', '.join(sorted(known))}."
                )
            return cls(**value)
        raise STDRCError(f"A placement is a name or a mapping, not a {type(value).__name__}.")

    @property
    def name(self) -> str | None:
        """What it is called (a key of `PLACEMENTS`), or None."""
        return next((name for name, p in PLACEMENTS.items() if p == self), None)

    def __str__(self) -> str:
        if self.name:
            return self.name
        rows, columns = self.shift
        more = [
            f", {name} {getattr(self, name)}" if name == "anchor" else f", {name} {value:g}"
            for name, value in asdict(self).items()
            if name not in ("when", "gap", "shift") and value != _DEFAULTS[name]
        ]
        return f"{self.when}, gap {self.gap:g}, shift ({rows:g}, {columns:g}){''.join(more)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse` turns back into the same placement.

        What came after the first four is left out where it is the default: cells and files that
        state a placement keep their names.
        """
        first = ("when", "gap", "shift", "phase")
        plain = {k: v for k, v in asdict(self).items() if k in first or v != _DEFAULTS[k]}
        return {**plain, "shift": list(self.shift)}

    def frame(self, frames: int, index: int = 0) -> float:
        """The latent frame at which the `index`-th reference stands; negative before the video.

        Several references follow one another away from the video (the k-th at t + k); at the start
        they all share frame 0, as in diffusers' `LTX2InContextPipeline`. Seconds of a `slot` are
        not counted here.

        Raises:
            STDRCError: the gap reaches beyond the video's other end.
        """
        if self.gap < -frames:
            raise STDRCError(
                f"A placement's gap of {self.gap:g} is further than the video's {frames} latent "
                f"frames; use {-frames} or more."
            )
        index = 0 if self.slot is not None else index
        if self.when == "after":
            return frames - (self.anchor == "corner") + self.gap + index
        if self.when == "before":
            return -1 - self.gap - index
        return 0

    def _offset(self, height: int, width: int) -> tuple[float, float]:
        """How many cells the reference is moved down and to the right."""
        less = self.anchor == "corner"
        return self.shift[0] * (height - less), self.shift[1] * (width - less)

    def grid(self, frames: int, height: int, width: int, index: int = 0) -> Tensor:
        """Positions (frame, row, column) of the reference's tokens in a video's latent grid.

        Args:
            frames, height, width: the video's latent size t, h, w in patches.
            index: which reference, from 0.

        Returns:
            LongTensor [h*w, 3] (with a `downscale` of d, h*w / d^2 of them, every d-th); a float64
            tensor where a fractional gap, shift or slot leaves the grid. A slot's seconds are
            counted in frames of LTX-2 at 24 frames per second, three a second.

        Example:
            >>> ReferencePlacement.tass().grid(2, 3, 4)[[0, -1]].tolist()
            [[2, 3, 4], [2, 5, 7]]
        """
        down, right = self._offset(height, width)
        rows, columns = torch.meshgrid(
            torch.arange(0, height, self.downscale, dtype=torch.float64) + down,
            torch.arange(0, width, self.downscale, dtype=torch.float64) + right,
            indexing="ij",
        )
        later = (self.slot or 0.0) * (index + 1) * 24 / 8
        when = torch.full_like(rows, self.frame(frames, index) + later)
        positions = torch.stack([when, rows, columns], dim=-1).flatten(0, 1)  # [h*w, 3]
        whole = positions.round()
        return whole.long() if torch.equal(whole, positions) else positions

    def coords(
        self,
        rope: nn.Module,
        *,
        frames: int,
        height: int,
        width: int,
        fps: float,
        index: int = 0,
        interval: tuple[int, int] | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """What the transformer takes as `video_coords` for the reference: pixels and seconds.

        Args:
            rope: the transformer's `LTX2AudioVideoRotaryPosEmbed`; it gives patch size and scale.
            frames, height, width: the video's latent size; the reference has height x width.
            fps: frames per second of the video, > 0.
            index: which reference, from 0.
            interval: latent frames [first, last + 1) that the reference belongs to; it is placed
                beside them as beside a whole video. None: all frames.

        Returns:
            float32 [1, 3, h*w, 2]: [start, end) of each patch in (seconds, pixel rows, columns);
            h*w / d^2 patches, each d times as large, with a `downscale` of d.

        Raises:
            STDRCError: the gap reaches beyond the video, or d doesn't divide h and w.
        """
        d = self.downscale
        if height % d or width % d:
            raise STDRCError(
                f"A reference at 1/{d} of the video needs latents that {d} divides, "
                f"not {height} x {width}."
            )
        scale_t, scale_h, scale_w = rope.scale_factors
        coords = rope.prepare_video_coords(
            1, rope.patch_size_t, height // d, width // d, device, fps=fps
        )
        coords[:, 1:] *= d
        first, last = interval or (0, frames)
        frame = first + self.frame(last - first, index)
        if frame < 0:
            # Before the video there is no causal first frame: whole latent frames that end at 0.
            start, end = frame * scale_t, (frame + rope.patch_size_t) * scale_t
        else:
            # As prepare_video_coords: latent frame k spans pixel frames max(0, 8k-7) .. 8k+1.
            offset = rope.causal_offset - scale_t
            start = max(0, frame * scale_t + offset)
            end = max(0, (frame + rope.patch_size_t) * scale_t + offset)
        later = (self.slot or 0.0) * (index + 1)
        coords[:, 0, :, 0] = start / fps + later
        coords[:, 0, :, 1] = end / fps + later
        down, right = self._offset(height, width)
        coords[:, 1] += down * scale_h
        coords[:, 2] += right * scale_w
        return coords


#: The method's, and its ablations'.
NAMED_PLACEMENTS: dict[str, ReferencePlacement] = {
    "tass": ReferencePlacement.tass(),
    "overlap": ReferencePlacement.overlap(),
    "strata": ReferencePlacement.strata(),
    "spatial": ReferencePlacement.spatial(),
    "far": ReferencePlacement.far(),
}

#: Geometry that LoRAs trained elsewhere need.
COMMUNITY_PLACEMENTS: dict[str, ReferencePlacement] = {
    "bfs_st_drc": ReferencePlacement.bfs_st_drc(),
    "bfs_strata": ReferencePlacement.bfs_strata(),
}
PLACEMENTS = {**NAMED_PLACEMENTS, **COMMUNITY_PLACEMENTS}
_DEFAULTS = {field.name: field.default for field in fields(ReferencePlacement)}


def rotate_by_phase(
    cos: Tensor, sin: Tensor, phase: Tensor, *, heads: int, theta: float
) -> tuple[Tensor, Tensor]:
    """Add phase[n] * theta^(-d/L) to the rotary angle of token n, per head, L = head_dim / 2.

    Args:
        cos, sin: as the rope module returns them, [B, H, N, L] ("split") or [B, N, H * 2L]
            ("interleaved", each angle twice).
        phase: [N] radians, 0 where nothing changes.

    Returns:
        cos and sin of the new angles, same shapes and types.
    """
    interleaved = cos.ndim == 3
    half = cos.shape[-1] // heads // 2 if interleaved else cos.shape[-1]
    falloff = theta ** (-torch.arange(half, device=cos.device, dtype=torch.float64) / half)
    angle = phase.to(torch.float64)[:, None] * falloff  # [N, L]
    if interleaved:
        angle = angle.repeat_interleave(2, dim=-1).repeat(1, heads)  # [N, H * 2L]
    c, s = angle.cos().to(cos.dtype), angle.sin().to(sin.dtype)
    return cos * c - sin * s, sin * c + cos * s


@contextmanager
def source_phases(rope: nn.Module, phase: Tensor | None) -> Iterator[None]:
    """Within the block, `rope` adds `phase` ([N] radians, one per token) to every token's angle."""
    if phase is None or not bool(phase.any()):
        yield
        return

    def add(_: nn.Module, __: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return rotate_by_phase(
            *output, phase.to(output[0].device), heads=rope.num_attention_heads, theta=rope.theta
        )

    handle = rope.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
