"""The token sequence: the noisy video, and behind it the clean references.

Everything that follows from a reference standing in the sequence is said here, once, for sampling
and for training: the coordinates of its tokens, their timestep 0, their rotary phase, and that what
the model says of them is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stdrc.positions import ReferencePlacement, source_phases


@dataclass
class TokenSequence:
    """Where the tokens of a video and of its references stand.

    Args:
        coords: [1, 3, N + R, 2], [start, end) in (seconds, pixel rows, pixel columns), the video's
            N tokens first.
        tokens: N.
        phase: [N + R] radians of rotary phase, or None where there is none.
    """

    coords: Tensor
    tokens: int
    phase: Tensor | None = None

    @classmethod
    def of(
        cls,
        rope: nn.Module,
        placement: ReferencePlacement | None = None,
        *,
        references: int = 1,
        frames: int,
        height: int,
        width: int,
        fps: float,
        intervals: Sequence[tuple[int, int] | None] = (),
        sources: Sequence[int] = (),
        device: torch.device | str | None = None,
    ) -> TokenSequence:
        """The sequence of a video with `references` images placed beside it.

        Args:
            rope: the transformer's `LTX2AudioVideoRotaryPosEmbed`.
            placement: None for a video without a reference (R = 0).
            references: how many images, each of height x width tokens.
            frames, height, width: latent size of the video.
            fps: frames per second of the video.
            intervals: for each image the latent frames [first, last + 1) that it belongs to; None,
                and left out: all of them. Those that share an interval follow one another.
            sources: for each image which one it is, where not all of them are here.
        """
        video = rope.prepare_video_coords(1, frames, height, width, device, fps=fps)
        tokens = video.shape[2]
        if placement is None:
            return cls(video, tokens)
        intervals = tuple(intervals) or (None,) * references
        parts = [
            placement.coords(
                rope,
                frames=frames,
                height=height,
                width=width,
                fps=fps,
                index=intervals[:k].count(interval),
                interval=interval,
                device=device,
            )
            for k, interval in enumerate(intervals)
        ]
        phase = None
        if placement.phase:
            phase = torch.zeros(tokens, dtype=torch.float64, device=device)
            turned = [
                phase.new_full((p.shape[2],), placement.phase * (placement.source_id + k))
                for k, p in zip(sources or range(references), parts)
            ]
            phase = torch.cat([phase, *turned])
        return cls(torch.cat([video, *parts], dim=2), tokens, phase)

    @property
    def video(self) -> TokenSequence:
        """The same video without its references."""
        return TokenSequence(self.coords[:, :, : self.tokens], self.tokens)

    def velocities(
        self,
        transformer: nn.Module,
        video: Tensor,
        reference: Tensor | None,
        sigmas: Tensor,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor]:
        """One pass of the transformer.

        Args:
            transformer: diffusers' LTX-2.x transformer.
            video: [B, N, C] noisy tokens.
            reference: [B, R, C] clean tokens; None where the sequence has none.
            sigmas: [B] noise levels of the video in 0..1.
            inputs: text, audio and switches, as the transformer's `forward` takes them.

        Returns:
            The velocities (noise minus clean) of the video's tokens [B, N, C], and of the audio's.
        """
        config = transformer.config
        time = sigmas * config.timestep_scale_multiplier  # [B]; the model's clock runs to 1000
        hidden, levels = video, time
        runs: list[tuple[Tensor, int]] = []
        if reference is not None:
            hidden = torch.cat([video, reference], dim=1)  # [B, N + R, C]
            # The reference is clean: its tokens are at timestep 0 whatever the video's level.
            runs = [
                (time[:, None], self.tokens),
                (torch.zeros_like(time)[:, None], reference.shape[1]),
            ]
            levels = torch.cat([t.expand(-1, count) for t, count in runs], dim=1)  # [B, N + R]
        with (
            source_phases(transformer.rope, self.phase),
            shared_timesteps(transformer, runs) if runs else nullcontext(),
        ):
            picture, sound = transformer(
                hidden_states=hidden,
                timestep=levels,
                audio_timestep=time,
                sigma=time,
                video_coords=self.coords.expand(len(video), -1, -1, -1),
                # New with LTX-2.3: 2.0 modulates across modalities by each one's own timestep.
                use_cross_timestep=bool(config.cross_attn_mod),
                return_dict=False,
                **inputs,
            )
        return picture[:, : self.tokens], sound


@contextmanager
def shared_timesteps(transformer: nn.Module, groups: list[tuple[Tensor, int]]) -> Iterator[None]:
    """Embed each distinct timestep once, then copy it to its tokens.

    The model embeds a timestep per token though a sample has two, the video's and the reference's
    0. In a small model that is a tenth of a step. Same numbers, fewer of them.

    Args:
        transformer: diffusers' LTX-2.x transformer.
        groups: for each run of tokens that share a timestep, in sequence order, the timesteps
            [B, 1] and how many tokens there are.
    """

    def fewer(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        distinct = torch.cat([time for time, _ in groups], dim=1).flatten()  # [B * groups]
        return (distinct, *args[1:]), kwargs

    def spread(_: nn.Module, __: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        batch = groups[0][0].shape[0]
        spread_out = []
        for values in output:
            values = values.view(batch, len(groups), -1)
            tokens = [
                values[:, i : i + 1].expand(-1, count, -1) for i, (_, count) in enumerate(groups)
            ]
            spread_out.append(torch.cat(tokens, dim=1).flatten(0, 1))  # [B * tokens, D]
        return spread_out[0], spread_out[1]

    embed = transformer.time_embed
    handles = [
        embed.register_forward_pre_hook(fewer, with_kwargs=True),
        embed.register_forward_hook(spread),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
