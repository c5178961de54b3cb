"""ConsisID's evaluation: faces times prompts in a man's and a woman's wording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.evalsets import reading
from bench.evalsets.base import EvalSetBase
from bench.evalsets.reading import IMAGES, inside, is_folder
from bench.evalsets.samples import Sample
from media.files import natural_order


class ConsisIDSet(EvalSetBase):
    """Face images times a CSV of prompts in a man's and a woman's wording."""

    kind: Literal["consisid"]
    path: Path = Field(description="Folder with the CSV and `eval/face_images/`.")
    prompts: str = Field(
        default="video_caption_eval_old.csv", description="The CSV, inside `path`."
    )
    images: str = Field(
        default="eval/face_images", description="The folder of faces, inside `path`."
    )

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        table = inside(self.path, self.prompts, "evalset.prompts", problems)
        faces = inside(self.path, self.images, "evalset.images", problems)
        if table is None or faces is None or not is_folder(faces, problems):
            return
        rows = list(
            reading.rows(table, "csv", problems, ("index", "Class", "Refined_man", "Refined_woman"))
        )
        images = [p for p in faces.iterdir() if p.suffix.lower() in IMAGES]
        for image in natural_order(images):
            column = "Refined_woman" if "woman" in image.name else "Refined_man"
            for where, row in rows:
                # The prompts hold a placeholder for the row's own class word ("man", "woman", ...).
                prompt = row[column].replace("{class_token}", row["Class"])
                yield Sample(
                    f"{image.stem}--{row['index']}", prompt, (image,), None, image.stem, (), where
                )
