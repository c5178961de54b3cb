"""From a training folder to `TrainingData`: everything is encoded once and cached by its content.

A cached encoding's key is a hash of what determines it: the file's bytes, the weights that encode
it, the clip's shape, and for a reference the augmentation, its strength and which variant it is.
Another run with the same data finds its latents there whatever it trains. The augmentation acts on
pixels, so several variants of each reference are encoded ahead, beside the plain one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from media.errors import UserError
from media.video import VideoReader
from stdrc.errors import STDRCError
from stdrc.images import Crop
from stdrc.pipeline import STDRCPipeline
from stdrc.training.config import ClipConfig, TrainConfig
from stdrc.training.data import FileRows, Rows, TrainingData
from stdrc.training.encoding_cache import EncodingCache
from stdrc.training.folder import (
    ClipEntry,
    Problem,
    check_clip,
    frame_to_clip,
    list_problems,
    nearest_shape,
    read_folder,
    window_frames,
)
from stdrc.training.objectives import IdentityEncoder, crops_for, face_coverage
from stdrc.training.references import ReferenceEncoder, groups, missing_boxes, resolve_crop
from stdrc.training.result import weights_fingerprint

IDENTITY_FRAMES = 3  # of a clip, spread over it, whose embeddings are averaged


@dataclass(frozen=True)
class _Window:
    """One clip of a video: which entry, which frames, its encoding's file and its shape."""

    entry: int
    frames: tuple[int, ...]
    fps: float
    latent: Path
    shape: ClipConfig


def prepare(
    config: TrainConfig,
    pipe: STDRCPipeline,
    *,
    encoder: IdentityEncoder | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingData:
    """Read, check and encode the folders in `config.data`.

    Args:
        config: the run.
        pipe: with its VAE, text encoder, tokenizer and connectors, on the device to encode on.
        encoder: for `identity.alignment`: embeds the true faces.
        say: called with a line about what is being done.

    Returns:
        Data for `Trainer`, in memory or on disk as `config.cache` says.

    Raises:
        STDRCError: all problems of the folders at once, unless `on_bad_data` is skip; or nothing
            left to train on.
    """
    cache = EncodingCache(config.cache_folder)
    try:
        return _Preparation(config, pipe, cache, encoder, say).run()
    finally:
        cache.close()


class _Preparation:
    def __init__(
        self,
        config: TrainConfig,
        pipe: STDRCPipeline,
        cache: EncodingCache,
        encoder: IdentityEncoder | None,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.pipe, self.cache, self.say = config, pipe, cache, say
        self.encoder = encoder
        self.aligned = bool(getattr(encoder, "aligned", False))
        self.crop: Crop = "none"
        self.problems: list[Problem] = []
        self.remarks: dict[str, list[Path]] = {}
        # Latents don't know the decoder, which may still be in training.
        self.vae_hash = weights_fingerprint(pipe.vae, skip="decoder.")
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
            config.cache.dtype
        ]
        self.temporal = int(pipe.vae.temporal_compression_ratio)
        self.spatial = int(pipe.vae.spatial_compression_ratio)
        for i, shape in enumerate(config.clip.shapes):
            self._check_size(shape, f" in the bucket {shape.name}" if i else "")

    def _check_size(self, clip: ClipConfig, where: str) -> None:
        patch = self.pipe.transformer_spatial_patch_size
        unit = self.spatial * patch * self.config.reference_downscale
        for name in ("height", "width"):
            value = getattr(clip, name)
            if value % unit:
                raise STDRCError(
                    f"clip.{name} is {value}{where}; this model takes multiples of {unit}."
                )
        if (clip.frames - 1) % self.temporal:
            near = max(0, round((clip.frames - 1) / self.temporal)) * self.temporal + 1
            raise STDRCError(
                f"clip.frames is {clip.frames}{where}; this model takes {self.temporal}k + 1, "
                f"for example {near}."
            )

    def run(self) -> TrainingData:
        entries, windows = self._read()
        self._settle("the training data")
        latents, boxes, kept = self._encode_clips(entries, windows)
        references: list[Path] = []
        choices: list[list[int]] | None = None
        if self.config.placement is not None:
            references, choices = ReferenceEncoder(
                self.config,
                self.crop,
                self.cache,
                encode=partial(encode_pixels, self.pipe),
                vae=self.vae_hash,
                dtype=self.dtype,
                say=self.say,
                problems=self.problems,
            ).run(entries, [w.entry for w in kept], [w.shape for w in kept])
        self._settle("the training data")
        if choices is not None:
            # A clip whose references could not be read was reported above; it goes with them.
            whole = [i for i, rows in enumerate(choices) if rows]
            latents = [latents[i] for i in whole]
            boxes = [boxes[i] for i in whole]
            kept = [kept[i] for i in whole]
            choices = [choices[i] for i in whole]
        if not kept:
            raise STDRCError("No clip is left to train on.")
        text, null, mask, captions = self._encode_text([entries[w.entry].caption for w in kept])
        rates = {round(w.fps, 3) for w in kept}
        if len(rates) > 1:
            raise STDRCError(
                f"The videos run at {len(rates)} different rates "
                f"({', '.join(f'{r:g}' for r in sorted(rates)[:5])}); set clip.fps to sample them "
                "all at one."
            )
        config = self.config
        buckets = [
            [i for i, window in enumerate(kept) if window.shape == shape]
            for shape in config.clip.shapes
        ]
        counts = {shape.name: len(rows) for shape, rows in zip(config.clip.shapes, buckets) if rows}
        if config.clip.buckets:
            self.say("clips by shape: " + ", ".join(f"{k} {v}" for k, v in counts.items()))
        face, box_rows = self._faces(boxes, latents)
        identities = self._identities(entries, kept, boxes)
        self.say(f"{len(kept)} clips, {len(references)} references, {len(text)} captions encoded")
        return TrainingData(
            latents=self._rows(latents, "latents"),
            text=text,
            null_text=null,
            text_mask=mask,
            captions=captions,
            references=self._rows(references, "latents") if choices is not None else None,
            choices=choices,
            face=face,
            boxes=box_rows,
            identities=identities,
            fps=kept[0].fps,
            buckets=[rows for rows in buckets if rows],
            description={
                "folders": [folder.name for folder in self.config.data],
                "clips": len(kept),
                "identities": len({entries[w.entry].identity for w in kept}),
                "references": len(references),
                "crop": self.crop if choices is not None else None,
                "fps": kept[0].fps,
                "hash": _hash_names([p.stem for p in latents]),
                **({"buckets": counts} if config.clip.buckets else {}),
            },
        )

    # Reading ------------------------------------------------------------------------------------

    def _read(self) -> tuple[list[ClipEntry], list[_Window]]:
        config = self.config
        if not config.data:
            raise STDRCError("The training file names no data folder; set data: [folder].")
        entries: list[ClipEntry] = []
        windows: list[_Window] = []
        for folder in config.data:
            found, problems = read_folder(folder, config.layout)
            self.problems += problems
            entries += found
        self.crop = resolve_crop(config, entries)
        for index, entry in enumerate(entries):
            windows += self._check(entry, index)
        for remark, videos in self.remarks.items():
            self.say(f"{len(videos)} of {len(entries)} clips, such as {videos[0]}: {remark}")
        return entries, windows

    def _check(self, entry: ClipEntry, index: int) -> Iterator[_Window]:
        config = self.config
        try:
            info = VideoReader(entry.video).info
        except UserError as problem:
            self.problems.append(Problem.of(entry.video, problem))
            return
        for remark in info.remarks:
            self.remarks.setdefault(remark, []).append(entry.video)
        shape = config.clip.shapes[0]
        if config.clip.buckets and info.fps:
            size = info.height, info.width
            shape = nearest_shape(*size, info.count, info.fps, config.clip.shapes)
        wrong = check_clip(entry, info, shape)
        for name, needs in (
            ("face_weight", config.face_weight > 1),
            ("identity", config.identity.weight > 0 or config.identity.alignment > 0),
        ):
            if needs and entry.boxes is None:
                wrong.append(f"no boxes, which {name} needs")
        if self.aligned and entry.landmarks is None:
            wrong.append("no landmarks, which the identity encoder needs")
        if config.placement is not None:
            wrong += missing_boxes(entry, self.crop)
        if wrong:
            self.problems += [Problem(str(entry.video), what) for what in wrong]
            return
        file = self.cache.file_hash(entry.video)
        for frames in window_frames(info, shape):
            path = self.cache.path(
                kind="clip",
                file=file,
                frames=frames,
                vae=self.vae_hash,
                dtype=config.cache.dtype,
                # The crop follows the face, so the boxes are part of what makes the latent.
                boxes=_hash_names([repr(_at(entry.boxes, i)) for i in frames]),
                height=shape.height,
                width=shape.width,
                **({"landmarks": True} if self.aligned else {}),
            )
            yield _Window(index, tuple(frames), config.clip.fps or info.fps, path, shape)

    def _settle(self, what: str) -> None:
        """Stop at the problems found so far, or say that their clips are left out."""
        if not self.problems:
            return
        count = len(self.problems)
        listed = list_problems(self.problems)
        if self.config.on_bad_data == "stop":
            raise STDRCError(
                f"{count} problem{'s' * (count > 1)} in {what}; fix them, or set "
                f"on_bad_data: skip to leave these clips out:\n{listed}"
            )
        self.say(f"{count} problems in {what}; these clips are left out:\n{listed}")
        self.problems = []

    # Clips --------------------------------------------------------------------------------------

    def _encode_clips(
        self, entries: Sequence[ClipEntry], windows: Sequence[_Window]
    ) -> tuple[list[Path], list[Tensor | None], list[_Window]]:
        latents: list[Path] = []
        boxes: list[Tensor | None] = []
        kept: list[_Window] = []
        missing = [w for w in windows if not self.cache.has(w.latent)]
        if missing:
            self.say(f"encoding {len(missing)} of {len(windows)} clips")
        broken: set[Path] = set()
        for group in groups(missing, self.config.cache.batch_size, lambda w: w.shape.name):
            pixels, box_rows, paths = [], [], []
            for window in group:
                entry = entries[window.entry]
                try:
                    frames = VideoReader(entry.video).read(window.frames)
                except UserError as problem:
                    self.problems.append(Problem.of(entry.video, problem))
                    broken.add(window.latent)
                    continue
                clip, in_clip = frame_to_clip(
                    frames, _boxes_at(entry, window, self.aligned), window.shape
                )
                pixels.append(clip)
                box_rows.append(in_clip)
                paths.append(window.latent)
            if not pixels:
                continue
            encoded = encode_pixels(self.pipe, torch.stack(pixels))
            for path, latent, box in zip(paths, encoded, box_rows, strict=True):
                tensors = {"latents": latent.to(self.dtype)}
                if box is not None:
                    tensors["boxes"] = box
                self.cache.put(path, tensors)
        for window in windows:
            if window.latent in broken:
                continue
            with safe_open(window.latent, framework="pt") as file:
                boxes.append(file.get_tensor("boxes") if "boxes" in file.keys() else None)  # noqa: SIM118
            latents.append(window.latent)
            kept.append(window)
        return latents, boxes, kept

    def _faces(
        self, boxes: Sequence[Tensor | None], latents: Sequence[Path]
    ) -> tuple[list[Tensor] | None, list[Tensor] | None]:
        config = self.config
        identity = config.identity
        if config.face_weight <= 1 and identity.weight <= 0 and identity.alignment <= 0:
            return None, None
        rows = [box for box in boxes if box is not None]
        face = []
        for box, path in zip(rows, latents, strict=True):
            with safe_open(path, framework="pt") as file:
                _, frames, height, width = file.get_slice("latents").get_shape()
            face.append(
                face_coverage(
                    box[:, :4],
                    frames=frames, height=height, width=width,
                    temporal=self.temporal, spatial=self.spatial,
                )
            )  # fmt: skip
        return face, rows

    def _identities(
        self,
        entries: Sequence[ClipEntry],
        windows: Sequence[_Window],
        boxes: Sequence[Tensor | None],
    ) -> Tensor | None:
        """[N, E]: the true face of each clip, a unit mean over a few of its frames."""
        config = self.config
        if not config.identity.alignment:
            return None
        if not isinstance(self.encoder, nn.Module):
            raise STDRCError(
                "identity.alignment needs an encoder that is a torch.nn.Module: its weights name "
                "the embeddings that are kept. Set identity.encoder, or pass identity_encoder=."
            )
        encoder = self.encoder.to(self.pipe.vae.device).eval()
        weights = weights_fingerprint(encoder)
        paths = [
            self.cache.path(
                kind="identity",
                clip=window.latent.stem,
                encoder=weights,
                margin=config.identity.margin,
                frames=IDENTITY_FRAMES,
            )
            for window in windows
        ]
        missing = [i for i, path in enumerate(paths) if not self.cache.has(path)]
        if missing:
            self.say(f"embedding the faces of {len(missing)} of {len(paths)} clips")
        for i in missing:
            window, box = windows[i], boxes[i]
            assert box is not None
            entry = entries[window.entry]
            frames = VideoReader(entry.video).read(window.frames)
            clip, _ = frame_to_clip(frames, _boxes_at(entry, window, self.aligned), window.shape)
            mean = embed_faces(encoder, clip[None], box[None], config.identity.margin)
            self.cache.put(paths[i], {"identity": mean[0]})
        return torch.stack([load_file(path)["identity"] for path in paths])

    # Text ---------------------------------------------------------------------------------------

    def _encode_text(
        self, captions: Sequence[str]
    ) -> tuple[Rows, Tensor, Tensor | None, list[list[int]]]:
        """Embeddings of each distinct caption, of the empty one, the mask, and each clip's row."""
        config, pipe = self.config, self.pipe
        distinct = list(dict.fromkeys(captions))
        hashes = {"text_encoder": weights_fingerprint(pipe.text_encoder)}
        if not config.train_connectors:
            hashes["connectors"] = weights_fingerprint(pipe.connectors)
        paths = {
            caption: self.cache.path(
                kind="text", caption=caption, dtype=config.cache.dtype, **hashes
            )
            for caption in [*distinct, ""]
        }
        missing = [caption for caption, path in paths.items() if not self.cache.has(path)]
        if missing:
            self.say(f"encoding {len(missing)} of {len(paths)} captions")
        for caption in missing:
            self.cache.put(paths[caption], self._text(caption))
        null = load_file(paths[""])
        masks = torch.stack([load_file(paths[caption])["mask"] for caption in [*distinct, ""]])
        mask = None if bool(masks.all()) and not config.train_connectors else masks.float()
        number = {caption: i for i, caption in enumerate(distinct)}
        rows = self._rows([paths[caption] for caption in distinct], "text")
        return rows, null["text"], mask, [[number[caption]] for caption in captions]

    @torch.no_grad()
    def _text(self, caption: str) -> dict[str, Tensor]:
        pipe = self.pipe
        if not self.config.train_connectors:
            encoded = pipe.encode_text(caption)
            text, mask = encoded.video, encoded.mask
        else:
            # As `STDRCPipeline.encode_text`, up to the connectors.
            text, mask, _, _ = pipe.encode_prompt(
                [caption],
                do_classifier_free_guidance=False,
                max_sequence_length=min(pipe.tokenizer_max_length, 1024),
            )
        return {"text": text[0].cpu().to(self.dtype), "mask": mask[0].cpu().to(torch.uint8)}

    # Storage ------------------------------------------------------------------------------------

    def _rows(self, files: Sequence[Path], key: str) -> Rows:
        """In memory if the whole kind fits the limit, else on disk."""
        return FileRows(files, key).loaded(self.config.cache.in_memory_gb)


@torch.no_grad()
def encode_pixels(pipe: STDRCPipeline, pixels: Tensor) -> Tensor:
    """[B, 3, T, H, W] in -1..1 to normalised latents [B, C, F, h, w], on the CPU.

    Raises:
        STDRCError: they are not finite.
    """
    vae = pipe.vae
    encoded = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode().float()
    normalised = pipe._normalize_latents(
        encoded, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
    ).cpu()
    if not bool(torch.isfinite(normalised).all()):
        raise STDRCError("The autoencoder's latents are not finite; use another cache.dtype.")
    return normalised


@torch.no_grad()
def embed_faces(encoder: nn.Module, video: Tensor, boxes: Tensor, margin: float) -> Tensor:
    """The true faces of clips: unit means over a few frames of each, spread over it.

    Args:
        encoder: see `objectives.IdentityEncoder`; it computes where its weights are.
        video: [N, 3, T, H, W] in -1..1.
        boxes: [N, T, 4 or 14] pixels, NaN where there is no face.
        margin: of the crops, see `objectives.face_crops`.

    Returns:
        [N, E] on the CPU, zero where a clip has no face.
    """
    of, frames = [], []
    for n, seen in enumerate(~boxes.isnan().any(dim=2)):
        shown = seen.nonzero().flatten()
        at = torch.linspace(0, len(shown) - 1, min(IDENTITY_FRAMES, len(shown))).long()
        of += [n] * len(at)
        frames += shown[at].tolist()
    crops = crops_for(encoder, video[of, :, frames], boxes[of, frames], margin)
    found = encoder(crops.to(next(encoder.parameters()).device)).float().cpu()
    total = found.new_zeros(len(video), found.shape[1])
    return F.normalize(total.index_add_(0, torch.tensor(of), F.normalize(found, dim=1)), dim=1)


def _at(boxes: Sequence[Any] | None, number: int) -> Any:
    return boxes[number] if boxes is not None and number < len(boxes) else None


def _boxes_at(
    entry: ClipEntry, window: _Window, aligned: bool
) -> list[tuple[float, ...] | None] | None:
    """Boxes of a window's frames, with the landmarks behind where faces are to be aligned."""
    if entry.boxes is None:
        return None
    boxes: list[tuple[float, ...] | None] = [_at(entry.boxes, i) for i in window.frames]
    if not aligned:
        return boxes
    marks = [_at(entry.landmarks, i) for i in window.frames]
    return [None if b is None or m is None else (*b, *m) for b, m in zip(boxes, marks)]


def _hash_names(names: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
