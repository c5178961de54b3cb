"""The losses: flow matching, weighted towards the face, and identity of decoded frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import LTX2Pipeline
from torch import Tensor, nn
from torchvision.ops import roi_align

from stdrc.errors import STDRCError
from stdrc.training.config import IdentityConfig
from stdrc.training.linear_decoder import LinearDecoder


class IdentityEncoder(Protocol):
    """A frozen, differentiable face encoder.

    Called with face crops [N, 3, crop_size, crop_size], RGB in -1..1; returns embeddings [N, D], of
    any length. `crop_size` is 112 where the attribute is missing. With an attribute `aligned` that
    is true, crops have the five landmarks where ArcFace's have them; else they are squares around
    the box.
    """

    def __call__(self, crops: Tensor) -> Tensor: ...


def add_noise(clean: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """x_s = (1 - s) x_0 + s e, with s [B] over [B, ...]."""
    s = sigmas.view(-1, *[1] * (clean.ndim - 1))
    return (1 - s) * clean + s * noise


def flow_matching_loss(velocity: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of the velocity over tokens, with an optional weight per token.

    The weights are normalised to mean 1 in each sample, so a face weight changes where the loss
    looks, not how large it is.

    Args:
        velocity, target: [B, N, D]; the target is noise minus clean.
        weight: [B, N], > 0.

    Returns:
        [B] loss of each sample.
    """
    error = (velocity.float() - target.float()).square().mean(dim=2)  # [B, N]
    if weight is None:
        return error.mean(dim=1)
    return (error * weight).sum(dim=1) / weight.sum(dim=1)


class PixelError:
    """Squared errors of velocities in the pixels that a linear decoder draws.

    The mean square of the pixels and `edges` times that of the differences between neighbours, in
    units of what noise of variance 1 in every channel has, so that it is as large as
    `flow_matching_loss` where the channels' errors are independent and equal.

    Args:
        linear: the decoder's matrix.
        edges: weight of the differences, >= 0.
    """

    def __init__(self, linear: LinearDecoder, edges: float) -> None:
        self.linear, self.edges, self.unit = linear, edges, 1.0
        shape = (1, len(linear.weight) - 1, 2, 16, 16)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        self.unit = float(self(noise.to(linear.weight)).mean())

    def __call__(self, error: Tensor, weight: Tensor | None = None) -> Tensor:
        """
        Args:
            error: [B, C, F, H, W], of the velocity.
            weight: [B, F, H, W] of each latent, > 0; normalised to mean 1 in each sample.

        Returns:
            [B].
        """
        pixels = self.linear.difference(error.float())  # [B, T, 3, H * s, W * s]
        right, below = pixels.diff(dim=4), pixels.diff(dim=3)
        if weight is None:
            weight = error.new_ones(len(error), *error.shape[2:])
        temporal, spatial = self.linear.temporal, self.linear.spatial
        weight = weight.repeat_interleave(temporal, 1)[:, temporal - 1 :]
        weight = weight.repeat_interleave(spatial, 2).repeat_interleave(spatial, 3)
        weight = (weight / weight.mean(dim=(1, 2, 3), keepdim=True))[:, :, None]
        total = (weight * pixels.square()).mean(dim=(1, 2, 3, 4))
        if self.edges:
            total = total + self.edges * (
                (weight[..., 1:] * right.square()).mean(dim=(1, 2, 3, 4))
                + (weight[..., 1:, :] * below.square()).mean(dim=(1, 2, 3, 4))
            )
        return total / self.unit


class IdentityHead(nn.Module):
    """Reads a face embedding from a block's features, token by token; used in training only.

    Args:
        width: of the features.
        size: of the embedding.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width, size)

    def forward(self, features: Tensor) -> Tensor:
        """[B, N, width] -> unit embeddings [B, N, size]."""
        return F.normalize(self.out(F.silu(self.hidden(self.norm(features)))), dim=-1)


def identity_alignment_loss(found: Tensor, true: Tensor, face: Tensor) -> Tensor:
    """1 - cos between what tokens say of the face and the true face.

    The velocity's error says little about who is seen: identity is a few percent of it, and a model
    learns to read its reference late. Here every token that shows the face has to know whose it is,
    which at high noise only the reference can tell. The idea is REPA's (arXiv 2410.06940), with a
    face encoder in place of a general one.

    Args:
        found: [B, N + R, E] unit embeddings by token, the R tokens of a reference last.
        true: [B, E] unit embeddings of the clips' true faces.
        face: [B, N] share of each video token inside the face box, its weight.

    Returns:
        [B]; where there is a reference, the mean of the video's and the reference's part.
    """
    cosine = torch.einsum("bne,be->bn", found.float(), true)
    tokens = face.shape[1]
    loss = 1 - (cosine[:, :tokens] * face).sum(dim=1) / face.sum(dim=1).clamp_min(1e-6)
    if cosine.shape[1] > tokens:
        loss = (loss + 1 - cosine[:, tokens:].mean(dim=1)) / 2
    return loss


def face_coverage(
    boxes: Tensor, *, frames: int, height: int, width: int, temporal: int, spatial: int
) -> Tensor:
    """How much of each latent token lies inside the face box.

    Latent frame 0 is pixel frame 0; latent frame k > 0 covers the `temporal` pixel frames up to
    k*temporal. A token covers `spatial` x `spatial` pixels.

    Args:
        boxes: [T, 4] x0 y0 x1 y1 in pixels of the clip, one per pixel frame; NaN rows have no face.
        frames, height, width: the latent's size; T = (frames - 1) * temporal + 1.

    Returns:
        [frames, height, width] in 0..1, averaged over the token's pixel frames.
    """
    expected = (frames - 1) * temporal + 1
    if boxes.shape != (expected, 4):
        raise STDRCError(f"A clip of {expected} frames needs boxes of shape ({expected}, 4).")
    valid = ~boxes.isnan().any(dim=1)
    boxes = torch.nan_to_num(boxes)

    def overlap(low: Tensor, high: Tensor, cells: int) -> Tensor:
        start = torch.arange(cells, dtype=boxes.dtype) * spatial
        covered = torch.minimum(high[:, None], start + spatial) - torch.maximum(low[:, None], start)
        return covered.clamp(min=0) / spatial  # [T, cells]

    rows = overlap(boxes[:, 1], boxes[:, 3], height)
    columns = overlap(boxes[:, 0], boxes[:, 2], width)
    inside = rows[:, :, None] * columns[:, None, :] * valid[:, None, None]  # [T, height, width]
    first, rest = inside[:1], inside[1:]
    return torch.cat([first, rest.unflatten(0, (frames - 1, temporal)).mean(dim=1)])


def face_crops(video: Tensor, boxes: Tensor, size: int, margin: float) -> Tensor:
    """Square crops around face boxes, differentiable in the pixels.

    Args:
        video: [N, 3, H, W] frames, one per box.
        boxes: [N, 4] x0 y0 x1 y1 in pixels.
        size: side of a crop in pixels.
        margin: how much is added on each side, in sides of the box.

    Returns:
        float32 [N, 3, size, size]: half precision can't say where a box is in a large frame.
    """
    video = video.float()
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) * (0.5 + margin)
    index = torch.arange(len(boxes), device=boxes.device, dtype=video.dtype)[:, None]
    regions = torch.cat([index, (centre - half).to(video), (centre + half).to(video)], dim=1)
    return roi_align(video, regions, (size, size), sampling_ratio=2, aligned=True)


#: Where ArcFace's crops of 112 pixels have eyes, nose and the mouth's corners.
_ARCFACE = (
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655),
    (70.7299, 92.2041),
)  # fmt: skip


def aligned_crops(video: Tensor, landmarks: Tensor, size: int) -> Tensor:
    """Crops with the five landmarks where ArcFace has them, differentiable in the pixels.

    The similarity that takes them there is Umeyama's, which in the plane is one complex number.

    Args:
        video: [N, 3, H, W] frames, one per face.
        landmarks: [N, 5, 2] x, y in pixels, whole numbers at pixels' centres.
        size: side of a crop in pixels.

    Returns:
        float32 [N, 3, size, size]; zeros outside the picture.
    """
    video = video.float()
    points = torch.view_as_complex(landmarks.double().contiguous())  # [N, 5]
    template = torch.tensor(_ARCFACE, dtype=torch.float64, device=video.device) * (size / 112)
    wanted = torch.view_as_complex(template)[None]
    centred, aim = points - points.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    turn = (centred.conj() * aim).sum(1) / centred.abs().square().sum(1)  # rotation and scale
    steps = torch.arange(size, dtype=torch.float64, device=video.device)
    crop = torch.complex(*torch.broadcast_tensors(steps[None, :], steps[:, None]))
    back = (crop[None] - wanted.mean(1)[:, None, None]) / turn[:, None, None]
    source = torch.view_as_real(back + points.mean(1)[:, None, None])  # [N, size, size, 2]
    extent = source.new_tensor([video.shape[3], video.shape[2]])
    grid = ((2 * source + 1) / extent - 1).to(video.dtype)
    return F.grid_sample(video, grid, mode="bilinear", align_corners=False)


def crops_for(encoder: Any, frames: Tensor, boxes: Tensor, margin: float) -> Tensor:
    """Crops of frames [n, 3, H, W] as an encoder takes them, by boxes [n, 4 or 14]."""
    size = int(getattr(encoder, "crop_size", 112))
    if getattr(encoder, "aligned", False):
        return aligned_crops(frames, boxes[:, 4:].unflatten(1, (5, 2)), size)
    return face_crops(frames, boxes[:, :4], size, margin)


class IdentityLoss:
    """1 - cos between face embeddings of the decoded x_0 prediction and the decoded true latent.

    Both sides go through the same decoder, so that what the autoencoder cannot draw is not blamed
    on the generator. The true side is embedded once per clip and kept.

    Args:
        vae: frozen; gradients flow through its decoder.
        encoder: see `IdentityEncoder`; its parameters are frozen here.
        linear: stands in for the VAE's decoder.
    """

    def __init__(
        self,
        vae: Any,
        encoder: IdentityEncoder,
        config: IdentityConfig,
        linear: LinearDecoder | None = None,
    ) -> None:
        self.vae, self.encoder, self.config, self.linear = vae, encoder, config, linear
        vae.requires_grad_(False)
        if config.window is not None:
            vae.enable_gradient_checkpointing()
        if isinstance(encoder, torch.nn.Module):
            encoder.eval().requires_grad_(False)
        self._known: dict[int | tuple[int, int], Tensor] = {}

    def __call__(
        self,
        predicted: Tensor,
        clean: Tensor,
        sigmas: Tensor,
        boxes: Tensor,
        clips: Tensor,
        generator: torch.Generator,
        samples: int | None = None,
    ) -> Tensor | None:
        """
        Args:
            predicted, clean: [B, C, F, H, W] normalised latents, the x_0 prediction and the truth.
            sigmas: [B] noise levels; samples above `max_sigma` are left out.
            boxes: [B, T, 4] pixels, NaN where there is no face; for an encoder of aligned faces
                [B, T, 14], with the five landmarks behind.
            clips: [B] row numbers, under which true embeddings are kept.
            generator: on the CPU; draws the frames.
            samples: how many to decode at most; none: the configuration's.

        Returns:
            The mean over the frames used, or None where no sample qualifies.
        """
        seen = (~boxes.isnan().any(dim=2)).cpu()  # [B, T]
        usable = (sigmas <= self.config.max_sigma).cpu() & seen.any(dim=1)
        chosen = usable.nonzero().flatten()[: samples or self.config.samples].tolist()
        if not chosen:
            return None
        drawn = [self._draw(seen[i], generator) for i in chosen]
        here = torch.tensor(chosen, device=boxes.device)
        predicted, clean, boxes = predicted[here], clean[here], boxes[here]
        known = clips.tolist()
        truths = self._truths(clean, boxes, [known[i] for i in chosen], drawn)
        sample = torch.cat([torch.full_like(frames, n) for n, frames in enumerate(drawn)])
        at = sample.to(boxes.device), torch.cat(drawn).to(boxes.device)
        crops = self.crops(self._pixels(predicted, drawn, at), boxes[at])
        found = F.normalize(self.encoder(crops).float(), dim=1)
        return (1 - (found * truths).sum(dim=1)).mean()

    def _draw(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """Frames of one clip in which a face is seen [T], at random, in order."""
        frames = seen.nonzero().flatten()
        drawn = frames[torch.randperm(len(frames), generator=generator)]
        if self._window is not None:  # all of the first one's latent, which is decoded once
            temporal = self.vae.temporal_compression_ratio
            at = torch.div(drawn + temporal - 1, temporal, rounding_mode="floor")
            drawn = drawn[at == at[0]]
        return drawn[: self.config.frames].sort().values

    def _pixels(
        self, latents: Tensor, drawn: Sequence[Tensor], at: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The drawn frames of each sample, one after another [n, 3, H, W]; `at` says them as
        numbers of samples and of frames. A matrix draws all samples at once, a decoder one by one.
        """
        if self.linear is not None:
            return self.decode(latents)[at]
        return torch.cat([self._frames(latents[n : n + 1], each) for n, each in enumerate(drawn)])

    @property
    def _window(self) -> int | None:
        return None if self.linear is not None else self.config.window

    def crops(self, frames: Tensor, boxes: Tensor) -> Tensor:
        """What the encoder is shown of frames [n, 3, H, W], by boxes [n, 4 or 14]."""
        return crops_for(self.encoder, frames, boxes, self.config.margin)

    def _frames(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Pixel frames [n, 3, H, W] of latents [1, C, F, H, W], of which a window is decoded.

        The window holds the frames' latent and one on each side of it where there is one. As a
        video of its own its first latent draws one frame, so that every later one is in place.
        """
        window, temporal = self._window, self.vae.temporal_compression_ratio
        if window is None:
            return self.decode(latents)[0][frames]
        latent = -(-int(frames[0]) // temporal)
        start = max(0, min(latent - 1, latents.shape[2] - window))
        pixels = self.decode(latents[:, :, start : start + window])[0]
        return pixels[frames - start * temporal]

    @torch.no_grad()
    def _truths(
        self, clean: Tensor, boxes: Tensor, clips: Sequence[int], drawn: Sequence[Tensor]
    ) -> Tensor:
        """Embeddings [n, D] of the true faces in the drawn frames of each sample."""
        if self._window is not None:
            found = [self._truth_of(*each) for each in zip(clean, boxes, clips, drawn, strict=True)]
        else:
            missing = [n for n, clip in enumerate(clips) if clip not in self._known]
            # A matrix draws all at once; a decoder has room for one.
            together = [missing] if self.linear is not None else [[n] for n in missing]
            for rows in filter(None, together):
                self._embed(self.decode(clean[rows]), boxes[rows], [clips[n] for n in rows])
            found = [self._known[clip][frames] for clip, frames in zip(clips, drawn, strict=True)]
        return torch.cat(found).to(clean.device)

    def _embed(self, pixels: Tensor, boxes: Tensor, clips: Sequence[int]) -> None:
        """Keep the embeddings of all frames [B, T, 3, H, W] of some clips."""
        # Frames without a face are never drawn; any box keeps the shapes together.
        crops = self.crops(pixels.flatten(0, 1), torch.nan_to_num(boxes.flatten(0, 1)))
        found = F.normalize(self.encoder(crops).float(), dim=1).cpu()
        self._known.update(zip(clips, found.unflatten(0, pixels.shape[:2])))

    def _truth_of(self, clean: Tensor, boxes: Tensor, clip: int, frames: Tensor) -> Tensor:
        """The same for one sample of which only a window is decoded."""
        keys = [(clip, frame) for frame in frames.tolist()]
        if any(key not in self._known for key in keys):
            crops = self.crops(self._frames(clean[None], frames), boxes[frames])
            found = F.normalize(self.encoder(crops).float(), dim=1).cpu()
            self._known.update(zip(keys, found))
        return torch.stack([self._known[key] for key in keys])

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [B, C, F, H, W] as pixels [B, T, 3, H, W] in -1..1."""
        if self.linear is not None:
            return self.linear(latents.to(self.linear.weight.dtype))
        return decode_video(self.vae, latents)


def decode_video(vae: Any, latents: Tensor) -> Tensor:
    """Normalised latents [B, C, F, H, W] as pixels [B, T, 3, H, W] in -1..1, by a VAE's decoder."""
    latents = LTX2Pipeline._denormalize_latents(
        latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
    )
    timestep = latents.new_zeros(len(latents)) if vae.config.timestep_conditioning else None
    return vae.decode(latents.to(vae.dtype), timestep, return_dict=False)[0].transpose(1, 2)
