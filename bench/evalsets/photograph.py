"""People cut from a photograph that a dependency ships, for a look at real faces."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.evalsets.base import EvalSetBase
from bench.evalsets.cached import write_once
from bench.evalsets.samples import Sample


class PhotographSet(EvalSetBase):
    """People cut from the photograph that the insightface package ships, times given prompts."""

    kind: Literal["photograph"]
    people: int = Field(default=2, ge=1, le=6, description="How many people, from the left.")
    prompts: list[str] = Field(
        default=["a person smiles in front of a green wall", "a person walks left at night"],
        min_length=1,
    )

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        folder = cache / f"photograph-{self.people}"

        def fill(part: Path) -> None:
            from insightface.data import get_image
            from PIL import Image

            from metrics.features.face_backends.facenet import FacenetFaces
            from stdrc.images import crop_to_face

            pixels = get_image("t1", to_rgb=True)
            boxes = FacenetFaces().detect(pixels[None])[0].boxes.numpy()
            boxes = boxes[boxes[:, 0].argsort()][: self.people]
            for person, box in enumerate(boxes, start=1):
                found = partial(lambda boxes, _: boxes, box[None])
                crop = crop_to_face(Image.fromarray(pixels), found, margin=0.6)
                crop.save(part / f"person{person}.png")

        write_once(folder, fill)
        for person in range(1, self.people + 1):
            reference = folder / f"person{person}.png"
            if not reference.is_file():
                problems.append(f"photograph: only {person - 1} of {self.people} faces were found")
                return
            for number, prompt in enumerate(self.prompts, start=1):
                yield Sample(
                    id=f"person{person}/prompt{number}",
                    prompt=prompt,
                    references=(reference,),
                    identity=f"person{person}",
                    source=f"photograph, person {person}",
                )
