"""A training folder from sources: a file per clip, so that it can be sharded and killed.

Each clip's finding is written once, under a name made of the video, the rules and the face backend;
whoever comes after reads it. When the last is there, `metadata.jsonl`, an evaluation set and the
report are written.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.keys import canonical
from bench.preparing.clips import Rules, look, save_picture
from bench.preparing.sources import Source
from media.files import write_atomic


@dataclass(frozen=True)
class Preparation:
    """One call of `stdrc prepare`.

    Args:
        out: the training folder.
        faces: name of a face backend.
        device: where its networks run.
        rules: what a clip must be.
    """

    out: Path
    faces: str
    device: str
    rules: Rules

    def done(self, source: Source) -> Path:
        """Where what was found in a clip is written."""
        status = source.video.stat() if source.video.is_file() else None
        of = [source.id, source.caption, str(source.boxes), status and status.st_size]
        digest = hashlib.sha256(canonical([of, self.faces, self.rules.model_dump()]).encode())
        return self.out / "found" / f"{source.id}-{digest.hexdigest()[:8]}.json"

    def run(
        self, sources: Sequence[Source], *, shard: tuple[int, int] = (1, 1), workers: int = 1
    ) -> Iterator[Source]:
        """Look at this shard's clips that nobody has looked at; each as it is done."""
        mine = [s for i, s in enumerate(sources) if i % shard[1] == shard[0] - 1]
        todo = [source for source in mine if not self.done(source).is_file()]
        if workers == 1:
            for source in todo:
                yield self.clip(source)
            return
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(self.clip, todo)

    def clip(self, source: Source) -> Source:
        """Look at one clip, and write down what was found."""
        found = look(source, _backend(self.faces, self.device), self.rules)
        row = dict(found.row)
        if found.picture is not None:
            assert found.embedding is not None
            reference = f"references/{source.id}.png"
            save_picture(self.out / reference, found.picture)
            row |= {
                "video": self._take(source),
                "references": [reference],
                "embedding": np.round(found.embedding, 5).tolist(),
            }
        written = {"reason": found.reason, "row": row, "identity": source.identity}
        write_atomic(self.done(source), json.dumps({"source": str(source.video), **written}))
        return source

    def _take(self, source: Source) -> str:
        """The video in the folder: the same file where that can be, else a copy."""
        name = f"videos/{source.id}{source.video.suffix.lower()}"
        place = self.out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            try:
                os.link(source.video.resolve(), place)
            except OSError:  # another disk, or one without links
                shutil.copyfile(source.video, place)
        return name

    def finish(self, sources: Sequence[Source]) -> dict[str, Any] | None:
        """Write metadata.jsonl and the report; None while clips are missing.

        Returns:
            The report: clips, kept, left_out {reason: count}, identities, pairs, buckets.
        """
        places = [self.done(source) for source in sources]
        if not all(place.is_file() for place in places):
            return None
        found = [json.loads(place.read_text()) for place in places]
        kept = [each for each in found if not each["reason"]]
        names = identities(
            np.array([each["row"]["embedding"] for each in kept]),
            [each["identity"] for each in kept],
            self.rules.same,
        )
        rows = []
        for each, name in zip(kept, names):
            row = {k: v for k, v in each["row"].items() if k != "embedding"}
            rows.append({**row, "identity": name})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomic(self.out / "metadata.jsonl", text)
        write_atomic(self.out / "evalset.csv", _evalset(rows))
        sizes = Counter(names)
        report = {
            "clips": len(found),
            "kept": len(kept),
            "left_out": dict(Counter(_kind(e["reason"]) for e in found if e["reason"])),
            "identities": len(sizes),
            "cross_clip": sum(count for count in sizes.values() if count > 1),
            "buckets": dict(Counter(row["bucket"] for row in rows)),
            "faces": self.faces,
            "rules": self.rules.model_dump(),
        }
        write_atomic(self.out / "report.json", json.dumps(report, indent=2) + "\n")
        from bench.preparing.page import page

        write_atomic(self.out / "report.html", page(report, rows, found))
        return report


def _evalset(rows: Sequence[dict[str, Any]]) -> str:
    """A CSV evaluation set: each identity's first clip, its reference and its caption."""
    first = {row["identity"]: row for row in reversed(rows)}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "prompt", "reference", "identity", "target"])
    for name in sorted(first):
        row = first[name]
        table.writerow([name, row["caption"], row["references"][0], name, row["video"]])
    return text.getvalue()


def _kind(reason: str) -> str:
    """A reason without what is the clip's own."""
    return reason.partition(":")[0].partition(" '")[0]


@cache
def _backend(name: str, device: str) -> Any:
    from metrics.features.face_backends import load_face_backend

    return load_face_backend(name, device)


def identities(embeddings: np.ndarray, given: Sequence[str], same: float) -> list[str]:
    """A name for each clip's person.

    Clips go in order to the person whose mean face is nearest, if its cosine is `same` or more,
    else to a new one: n clips of k people take n k products, not n^2.

    Args:
        embeddings: [n, D] of unit length.
        given: a name that is known already, or "".
        same: least cosine.
    """
    sums: list[np.ndarray] = []
    names: list[str] = []
    centres = np.zeros((0, embeddings.shape[1] if embeddings.size else 0))
    for embedding, known in zip(embeddings, given):
        if known:
            names.append(known)
            continue
        cosines = centres @ embedding
        best = int(cosines.argmax()) if len(cosines) else -1
        if best < 0 or cosines[best] < same:
            best = len(sums)
            sums.append(np.zeros_like(embedding))
            centres = np.vstack([centres, embedding[None]])
        sums[best] = sums[best] + embedding
        centres[best] = sums[best] / np.linalg.norm(sums[best])
        names.append(f"person{best:06d}")
    return names
