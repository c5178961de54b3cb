"""Videos of a few clips that are not trained on, scored by a judge during a run.

The judge is passed in: `stdrc train` brings the metrics of the suite. A clip's own reference is
what the model is shown and its own video the target, so that identity can be told from copying.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from media.video import VideoReader
from media.writing import to_uint8, write_video
from stdrc.conditions import EncodedReference, EncodedText
from stdrc.errors import STDRCError
from stdrc.guidance import ThreeStreamGuidance
from stdrc.pipeline import STDRCPipeline
from stdrc.training.config import ClipConfig, TrainConfig
from stdrc.training.folder import ClipEntry, list_problems, nearest_shape, read_folder
from stdrc.training.references import resolve_crop


@dataclass(frozen=True)
class Drawn:
    """A generated video, and what it was made from and should be like.

    Attributes:
        video: the MP4.
        prompt: the clip's caption.
        references: what the model was shown; none for plain text-to-video.
        target: the clip itself.
        identity: who.
    """

    video: Path
    prompt: str
    references: tuple[Path, ...]
    target: Path
    identity: str


#: Called with a step's videos; its numbers, by name, are logged under "validation/".
Judge = Callable[[Sequence[Drawn]], Mapping[str, float]]


class Validation:
    """Draws the validation clips with the weights of a step, always from the same noise.

    Args:
        config: the run; its section `validation` names the clips.
        pipe: with its VAE and text side, on the device to encode on; they are not needed after.
        judge: scores the videos.

    Raises:
        STDRCError: folders that can't be read, or clips without a picture or box to show.
    """

    def __init__(self, config: TrainConfig, pipe: STDRCPipeline, judge: Judge) -> None:
        assert config.validation is not None
        self.config, self.settings, self.judge = config, config.validation, judge
        self.entries = self._read()
        shown = config.placement is not None
        self.negative = _on_cpu(pipe.encode_text(""))
        self.texts = [_on_cpu(pipe.encode_text(entry.caption)) for entry in self.entries]
        self.references = (
            [self._encode(pipe, *each) for each in zip(self.entries, self.shapes)] if shown else []
        )

    def _read(self) -> list[ClipEntry]:
        entries, problems = [], []
        for folder in self.settings.data:
            found, wrong = read_folder(folder, self.config.layout)
            entries += found
            problems += wrong
        if problems:
            raise STDRCError(f"The validation data has problems:\n{list_problems(problems)}")
        self.crop = resolve_crop(self.config, entries)
        entries = entries[: self.settings.count]
        self.shapes = [self._shape(entry) for entry in entries]
        return entries

    def _shape(self, entry: ClipEntry) -> ClipConfig:
        """What is drawn for a clip: the run's shape, of several the clip's own."""
        clip = self.config.clip
        if not clip.buckets:
            return clip
        info = VideoReader(entry.video).info
        rate = info.fps or clip.fps or 1.0
        return nearest_shape(info.height, info.width, info.count, rate, clip.shapes)

    def _encode(self, pipe: STDRCPipeline, entry: ClipEntry, clip: ClipConfig) -> EncodedReference:
        if not entry.references:
            raise STDRCError(
                f"The validation clip {entry.video} has no reference picture; name one in its row."
            )
        boxes = None
        if self.crop != "none":
            box = (entry.reference_boxes or (None,))[0]
            if box is None:
                raise STDRCError(
                    f"The validation clip {entry.video} has no box of its reference, which is cut "
                    f"to the {self.crop}; give reference_boxes in its row."
                )
            boxes = [box]
        return _on_cpu(
            pipe.encode_reference(
                [entry.references[0]],
                clip.height,
                clip.width,
                crop=self.crop,
                boxes=boxes,
                downscale=self.config.reference_downscale,
            )
        )

    def __call__(self, step: int, pipe: STDRCPipeline, fps: float) -> Mapping[str, float]:
        """Draw and score; the videos are kept in `<output>/validation/step-N/`."""
        folder = self.config.output / "validation" / f"step-{step:07d}"
        progress = getattr(pipe, "_progress_bar_config", {})
        pipe.set_progress_bar_config(disable=True)
        try:
            drawn = [self._draw(i, folder, pipe, fps) for i in range(len(self.entries))]
        finally:
            pipe.set_progress_bar_config(**progress)
        return self.judge(drawn)

    def _draw(self, i: int, folder: Path, pipe: STDRCPipeline, fps: float) -> Drawn:
        entry, clip = self.entries[i], self.shapes[i]
        reference = self.references[i] if self.references else None
        video = pipe(
            prompt_embeds=_on(self.texts[i], pipe),
            negative_prompt_embeds=_on(self.negative, pipe),
            reference_latents=None if reference is None else _on(reference, pipe),
            placement=self.config.placement,
            guidance=ThreeStreamGuidance(
                text=self.settings.text_guidance,
                reference=0.0 if reference is None else self.settings.reference_guidance,
            ),
            height=clip.height,
            width=clip.width,
            num_frames=clip.frames,
            frame_rate=fps,
            num_inference_steps=self.settings.steps,
            seeds=[1000 + i],
            output_type="np",
        ).frames[0]
        path = folder / f"{i:03d}.mp4"
        write_video(path, to_uint8(video), fps)
        shown = entry.references[:1] if reference is not None else ()
        return Drawn(path, entry.caption, shown, entry.video, entry.identity)


def _moved(encoded: Any, *to: Any) -> Any:
    found = {k: v.to(*to) for k, v in vars(encoded).items() if isinstance(v, torch.Tensor)}
    return replace(encoded, **found)


def _on_cpu(encoded: Any) -> Any:
    return _moved(encoded, "cpu")


def _on(encoded: EncodedText | EncodedReference, pipe: STDRCPipeline) -> Any:
    return _moved(encoded, pipe._execution_device)
