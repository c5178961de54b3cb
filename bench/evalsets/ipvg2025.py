"""The layout of the identity-preserving video generation challenge of 2025."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from bench.evalsets.base import EvalSetBase
from bench.evalsets.reading import IMAGES, is_folder, read_text
from bench.evalsets.samples import Sample
from media.files import natural_order


class IPVG2025Set(EvalSetBase):
    """`idNNN/{image.png|image.webp, prompt1.txt ..}` folders."""

    kind: Literal["ipvg2025"]
    path: Path

    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        if not is_folder(self.path, problems):
            return
        folders = natural_order(p for p in self.path.iterdir() if p.is_dir())
        for folder in folders:
            images = [
                folder / f"image{ext}" for ext in IMAGES if (folder / f"image{ext}").is_file()
            ]
            prompts = natural_order(folder.glob("prompt*.txt"))
            if len(images) != 1:
                problems.append(f"{folder}: needs exactly one image.png or image.webp")
                continue
            if not prompts:
                problems.append(f"{folder}: has no prompt1.txt")
            for path in prompts:
                text = read_text(path, problems)
                if text is not None:
                    yield Sample(
                        id=f"{folder.name}/{path.stem}",
                        prompt=text.strip(),
                        references=(images[0],),
                        identity=folder.name,
                        source=str(path),
                    )
