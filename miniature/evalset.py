"""The evaluation set `world`: drawn faces whose identity and true clip are known exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.evalsets.base import EvalSetBase
from bench.evalsets.cached import digest, write_once
from bench.evalsets.reading import rows
from bench.evalsets.samples import Sample

WORLD_VERSION = 1  # raised when the same settings would draw another world


class WorldSet(EvalSetBase):
    """The procedural world's held-out split: drawn faces whose identity is known exactly."""

    kind: Literal["world"]
    identities: int = Field(default=4, ge=1)
    prompts: int = Field(default=3, ge=1, description="Prompts (true clips) of each identity.")
    frames: int = Field(default=9, ge=1)
    image_size: int = Field(default=64, ge=16)
    seed: int = 0

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        from miniature.world import World  # OpenCV need not load for other sets

        world = World(
            split="test",
            size=self.identities * self.prompts,
            seed=self.seed,
            clips_per_identity=self.prompts,
            frames=self.frames,
            resolution=self.image_size,
        )
        values = self.model_dump(exclude={"kind", "prefix", "limit"})
        folder = cache / f"world-{digest(values, WORLD_VERSION)}"

        def fill(part: Path) -> None:
            from PIL import Image

            from media.writing import write_video

            listed = []
            for index, clip in enumerate(world):
                person, number = divmod(index, self.prompts)
                reference = f"id{person + 1:03d}.png"
                if number == 0:  # one photograph per person, as in the challenges
                    Image.fromarray(clip.reference).save(part / reference)
                target = f"id{person + 1:03d}-{number + 1}.mp4"
                write_video(part / target, clip.frames, world.fps, crf=0)
                row = {"prompt": clip.caption, "reference": reference, "target": target}
                listed.append({"id": f"id{person + 1:03d}/prompt{number + 1}", **row})
            lines = "".join(json.dumps(row) + "\n" for row in listed)
            (part / "samples.jsonl").write_text(lines, encoding="utf-8")

        table = write_once(folder, fill) / "samples.jsonl"
        for where, row in rows(table, "jsonl", problems):
            yield Sample(
                id=row["id"],
                prompt=row["prompt"],
                references=(folder / row["reference"],),
                target=folder / row["target"],
                identity=row["id"].split("/")[0],
                source=where,
            )
