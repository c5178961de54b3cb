"""The evaluation set `world`: drawn faces whose identity and true clip are known exactly."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from bench.evalsets.base import EvalSetBase
from bench.evalsets.cached import digest, write_once
from bench.evalsets.reading import rows
from bench.evalsets.samples import Event, Sample, Shown

WORLD_VERSION = 1  # raised when the same settings would draw another world


def _read_table(folder: Path, problems: list[str]) -> Iterator[Sample]:
    """The samples of a drawn folder."""
    for where, row in rows(folder / "samples.jsonl", "jsonl", problems):
        told = row["reference"]  # an image, or a list of who is shown by which and when
        people: list[dict[str, Any]] = [{"image": told}] if isinstance(told, str) else told
        whom = tuple(Shown(r.get("person", ""), r.get("start"), r.get("end")) for r in people)
        yield Sample(
            id=row["id"],
            prompt=row["prompt"],
            references=tuple(folder / r["image"] for r in people),
            target=folder / row["target"],
            identity="+".join(one.person for one in whom) or row["id"].split("/")[0],
            timeline=tuple(Event(*told) for told in row.get("timeline", ())),
            shown=() if isinstance(told, str) else whom,
            source=where,
        )


class DrawnSet(EvalSetBase):
    """An evaluation set that is drawn into a folder once, named after its settings."""

    versions: ClassVar[tuple[int, ...]] = (WORLD_VERSION,)

    @abstractmethod
    def draw(self, part: Path) -> Iterator[dict[str, Any]]:
        """Draw the files of each sample into `part`; its row names them."""

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        values = self.model_dump(exclude={"prefix", "limit"})
        kind = values.pop("kind").replace("_", "-")

        def fill(part: Path) -> None:
            lines = "".join(json.dumps(row) + "\n" for row in self.draw(part))
            (part / "samples.jsonl").write_text(lines, encoding="utf-8")

        folder = write_once(cache / f"{kind}-{digest(values, *self.versions)}", fill)
        yield from _read_table(folder, problems)


class WorldSet(DrawnSet):
    """The procedural world's held-out split: drawn faces whose identity is known exactly."""

    kind: Literal["world"]
    identities: int = Field(default=4, ge=1)
    prompts: int = Field(default=3, ge=1, description="Prompts (true clips) of each identity.")
    frames: int = Field(default=9, ge=1)
    image_size: int = Field(default=64, ge=16)
    seed: int = 0

    def draw(self, part: Path) -> Iterator[dict[str, Any]]:
        from PIL import Image

        from media.writing import write_video
        from miniature.world import World  # OpenCV need not load for other sets

        world = World(
            split="test",
            size=self.identities * self.prompts,
            seed=self.seed,
            clips_per_identity=self.prompts,
            frames=self.frames,
            resolution=self.image_size,
        )
        for index, clip in enumerate(world):
            person, number = divmod(index, self.prompts)
            reference = f"id{person + 1:03d}.png"
            if number == 0:  # one photograph per person, as in the challenges
                Image.fromarray(clip.reference).save(part / reference)
            target = f"id{person + 1:03d}-{number + 1}.mp4"
            write_video(part / target, clip.frames, world.fps, crf=0)
            row = {"prompt": clip.caption, "reference": reference, "target": target}
            yield {"id": f"id{person + 1:03d}/prompt{number + 1}", **row}


class WorldSequentialSet(DrawnSet):
    """Drawn faces that do two or three things one after another; the timeline is exact."""

    versions: ClassVar[tuple[int, ...]] = (WORLD_VERSION, 2)  # 2: the table names its files
    kind: Literal["world_sequential"]
    identities: int = Field(default=4, ge=1)
    events: int = Field(default=2, ge=2, le=3, description="Motions of each clip.")
    frames: int = Field(default=17, ge=6)
    image_size: int = Field(default=64, ge=16)
    seed: int = 0

    def draw(self, part: Path) -> Iterator[dict[str, Any]]:
        import numpy as np
        from PIL import Image

        from media.writing import write_video
        from miniature.world.sequences import render_sequence, sample_scenes
        from miniature.world.world import World

        people = World(split="test", size=self.identities, seed=self.seed)
        for index in range(self.identities):
            scenes = sample_scenes(np.random.default_rng([96, self.seed, index]), self.events)
            clip = render_sequence(
                people.identity(index),
                scenes,
                frames=self.frames,
                size=self.image_size,
                seed=self.seed * 1_000_003 + index,
            )
            name = f"id{index + 1:03d}"
            Image.fromarray(clip.reference).save(part / f"{name}.png")
            write_video(part / f"{name}.mp4", clip.frames, clip.fps, crf=0)
            files = {"reference": f"{name}.png", "target": f"{name}.mp4"}
            said = {"prompt": clip.caption, "timeline": clip.timeline}
            yield {"id": name, **said, **files}


class WorldPeopleSet(DrawnSet):
    """Two or three drawn people side by side in a wide frame, or one after another in a square one.

    References say who they are; in turn, also when, and each person's time is an event.
    """

    kind: Literal["world_people"]
    clips: int = Field(default=4, ge=1, description="Clips; each has people of its own.")
    people: int = Field(default=2, ge=2, le=3, description="People in each clip.")
    arrangement: Literal["beside", "in_turn"] = Field(
        default="beside",
        description="'beside', each in a square of a frame that is as many times as wide; "
        "'in_turn', each in its part of the clip.",
    )
    frames: int = Field(default=17, ge=6)
    image_size: int = Field(default=64, ge=16, description="Height of the frame in pixels.")
    seed: int = 0

    def draw(self, part: Path) -> Iterator[dict[str, Any]]:
        import numpy as np
        from PIL import Image

        from media.writing import write_video
        from miniature.world.people import render_people
        from miniature.world.sequences import sample_scenes
        from miniature.world.world import World

        world = World(split="test", size=self.clips * self.people, seed=self.seed)
        for index in range(self.clips):
            first = index * self.people
            scenes = sample_scenes(np.random.default_rng([97, self.seed, index]), self.people)
            clip = render_people(
                [world.identity(first + k) for k in range(self.people)],
                scenes,
                self.arrangement,
                frames=self.frames,
                size=self.image_size,
                seed=self.seed * 1_000_003 + index,
            )
            name = f"clip{index + 1:03d}"
            write_video(part / f"{name}.mp4", clip.frames, clip.fps, crf=0)
            references, events = [], []
            parts = zip(clip.people, clip.references, clip.times, clip.captions, strict=True)
            for person, pixels, (start, end), caption in parts:
                image = f"{name}-{person.name}.png"
                Image.fromarray(pixels).save(part / image)
                reference: dict[str, Any] = {"image": image, "person": person.name}
                if self.arrangement == "in_turn":
                    reference |= {"start": start, "end": end}
                    events.append((start, end, caption))
                references.append(reference)
            row = {"id": name, "prompt": clip.caption, "target": f"{name}.mp4"}
            yield row | {"reference": references, "timeline": events}
