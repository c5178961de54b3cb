"""The loss of a batch: flow matching with the reference in context, and the identity objectives.

Predict the velocity with the clean reference behind the noisy video tokens; weigh the squared error
towards the face; add the identity loss on a few decoded frames. Samples whose reference was
dropped run in a second, shorter pass, so nothing is padded or masked.
"""

from __future__ import annotations

import torch
from diffusers import LTX2VideoTransformer3DModel
from torch import Tensor, nn

from stdrc.sampling import sample_euler
from stdrc.sequence import TokenSequence
from stdrc.training.config import TrainConfig
from stdrc.training.data import Batch
from stdrc.training.denoiser import pack, unpack
from stdrc.training.objectives import (
    IdentityLoss,
    PixelError,
    add_noise,
    flow_matching_loss,
    identity_alignment_loss,
)


class BatchLoss:
    """Called with a batch; knows the model and all objectives of a run.

    Args:
        model: `Denoiser`, as accelerate wraps it.
        transformer: the one inside it.
        fps: of the clips.
        identity: of decoded frames, where it is asked for.
        pixels: measures the velocity's error as it would be drawn, where that is asked for.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        transformer: LTX2VideoTransformer3DModel,
        fps: float,
        identity: IdentityLoss | None,
        device: torch.device,
        pixels: PixelError | None = None,
    ) -> None:
        self.config, self.model, self.transformer = config, model, transformer
        self.pixels = pixels
        self.identity, self.fps, self.device = identity, fps, device
        self._sequences: dict[tuple[int, ...], list[TokenSequence]] = {}

    def sequences(self, batch: Batch) -> list[TokenSequence]:
        """Those of a batch's shape: with no reference, then with one at each placement."""
        frames, height, width = shape = tuple(batch.latents.shape[2:])
        if shape not in self._sequences:
            self._sequences[shape] = [
                TokenSequence.of(
                    self.transformer.rope, placement, frames=frames, height=height, width=width,
                    fps=self.fps, device=self.device,
                )
                for placement in (None, *self.config.reference_placements)
            ]  # fmt: skip
        return self._sequences[shape]

    def _unpack(self, tokens: Tensor, batch: Batch) -> Tensor:
        frames, height, width = batch.latents.shape[2:]
        return unpack(tokens, frames, height, width, self.transformer)

    def _face_weight(self, batch: Batch) -> Tensor | None:
        """[B, F, H, W] of each latent, or none where the face counts as everything else."""
        if self.config.face_weight <= 1:
            return None
        assert batch.face is not None
        return 1 + (self.config.face_weight - 1) * batch.face

    def __call__(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of a micro-batch and its parts.

        Args:
            batch: on the device.
            generator: on the CPU, for the frames of the identity loss.
        """
        noisy = add_noise(batch.latents, batch.noise, batch.sigmas)
        target = pack(batch.noise - batch.latents, self.transformer)
        video = pack(noisy, self.transformer)
        velocity, alignment = self.velocity(batch, video)
        face, weight = self._face_weight(batch), None
        if face is not None:
            weight = pack(face[:, None], self.transformer).mean(dim=2)
        per_sample = flow_matching_loss(velocity, target, weight)
        loss = per_sample.mean()
        parts = {"flow": float(loss.detach())}
        if self.pixels is not None:
            error = self._unpack(velocity.float() - target, batch)
            drawn = self.pixels(error, face).mean()
            parts["pixels"] = float(drawn.detach())
            loss = torch.lerp(loss, drawn, self.config.pixels.weight)
        if alignment is not None:
            parts["alignment"] = float(alignment.detach())
            loss = loss + self.config.identity.alignment * alignment
        # Without a reference nothing but the noisy latents can tell who is to be drawn.
        known = slice(0, batch.with_reference)
        if self.identity is not None and batch.with_reference:
            assert batch.boxes is not None
            clean_guess = self._unpack(
                video[known] - batch.sigmas[known, None, None] * velocity[known].float(), batch
            )
            identity = self.identity(
                clean_guess, batch.latents[known], batch.sigmas[known], batch.boxes[known],
                batch.clips[known], generator,
            )  # fmt: skip
            if identity is not None:
                parts["identity"] = float(identity.detach())
                loss = loss + self.config.identity.weight * identity
            rolled = self._rollout_identity(batch, generator)
            if rolled is not None:
                parts["rollout"] = float(rolled.detach())
                loss = loss + self.config.identity.weight * rolled
        return loss, parts

    def _rollout_identity(self, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """The identity loss after the model's own steps.

        A noised true clip shows who it is at all but the highest noise levels, so a model trained
        on those alone relies on what it has drawn so far and drifts away from its reference. Here
        it starts at a level where little more than the face's position is visible, steps down
        without gradients, and is asked for the true face where it arrives.
        """
        identity, count = self.config.identity, self.config.identity.rollout
        count = min(count, batch.with_reference)
        if not count:
            return None
        assert self.identity is not None
        assert batch.boxes is not None
        assert batch.reference is not None
        reference = pack(batch.reference[:count], self.transformer)
        mask = None if batch.text_mask is None else batch.text_mask[:count]

        def velocity(video: Tensor, sigmas: Tensor) -> Tensor:
            found = self.model(
                video, sigmas, batch.text[:count], mask, reference,
                self.sequences(batch)[1 + batch.placement],
            )[0]  # fmt: skip
            return found.float()

        drawn = torch.rand(2, count, generator=generator).to(batch.latents)
        start, end = (
            low + (high - low) * share
            for (low, high), share in zip((identity.rollout_from, identity.rollout_to), drawn)
        )
        shares = torch.linspace(0, 1, identity.rollout_steps + 1).to(start)[:, None]
        levels = torch.lerp(start, end, shares)  # [steps + 1, count]
        noisy = add_noise(batch.latents[:count], batch.noise[:count], start)
        video = pack(noisy, self.transformer)
        with torch.no_grad():
            video = sample_euler(velocity, video, levels)
        guess = video - end[:, None, None] * velocity(video, end)
        guess = self._unpack(guess, batch)
        return self.identity(
            guess, batch.latents[:count], torch.zeros_like(end), batch.boxes[:count],
            batch.clips[:count], generator, samples=count,
        )  # fmt: skip

    def velocity(self, batch: Batch, video: Tensor) -> tuple[Tensor, Tensor | None]:
        """Velocity [B, N, D], and the batch's identity alignment loss where it is asked for."""
        k = batch.with_reference
        mask = batch.text_mask
        outputs: list[tuple[Tensor, Tensor | None]] = []
        if k:
            assert batch.reference is not None
            outputs.append(
                self.model(
                    video[:k], batch.sigmas[:k], batch.text[:k],
                    None if mask is None else mask[:k],
                    pack(batch.reference, self.transformer),
                    self.sequences(batch)[1 + batch.placement],
                )
            )  # fmt: skip
        if k < len(video):
            outputs.append(
                self.model(
                    video[k:], batch.sigmas[k:], batch.text[k:],
                    None if mask is None else mask[k:], None, self.sequences(batch)[0],
                )
            )  # fmt: skip
        velocity = torch.cat([found for found, _ in outputs])
        if not self.config.identity.alignment:
            return velocity, None
        assert batch.identities is not None
        assert batch.face is not None
        face = pack(batch.face[:, None], self.transformer).mean(dim=2)
        losses, start = [], 0
        for found, read in outputs:
            rows = slice(start, start + len(found))
            assert read is not None
            losses.append(identity_alignment_loss(read, batch.identities[rows], face[rows]))
            start += len(found)
        return velocity, torch.cat(losses).mean()
