"""The calibration of a face backend's cosines, measured again from photographs at hand.

    python benchmarks/calibration.py FOLDER [--backend dlib]

FOLDER holds facenet-pytorch's test photographs, of its repository's data/test_images and
data/test_images_aligned: NAME.jpg, and NAME_aligned.png for the aligned ones. The insightface
package brings seven more people: six in its group photograph t1, each cut out with half a face
around, and Tom Hanks. Prints strangers, same person and threshold beside the shipped calibration's,
and exits with 1 where one differs by more than 0.002.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from insightface.data import get_image
from PIL import Image

from metrics.features.face_backends import load_face_backend
from metrics.verification import Calibration, calibrate, embed_people
from metrics.weights import require


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--backend", default="dlib")
    asked = parser.parse_args()
    backend = load_face_backend(asked.backend)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for path in sorted(asked.photographs.glob("*.*g")):
            person = folder / path.stem.removesuffix("_aligned")
            person.mkdir(exist_ok=True)
            shutil.copy(path, person)
        group = np.ascontiguousarray(get_image("t1")[..., ::-1])
        cut = {"hanks": np.ascontiguousarray(get_image("Tom_Hanks_54745")[..., ::-1])}
        boxes = backend.detect(group[None])[0].boxes.round().int().tolist()
        for i, (left, top, right, bottom) in enumerate(boxes):
            edge = (right - left) // 2
            cut[f"t1-{i}"] = group[
                max(0, top - edge) : bottom + edge, max(0, left - edge) : right + edge
            ]
        for person, image in cut.items():
            (folder / person).mkdir()
            Image.fromarray(image).save(folder / person / "a.png")
        rows, people = embed_people(backend, folder)
    found = calibrate(rows, people, backend=backend.name, version=backend.version, data="")
    known = Calibration.read(require(f"calibration.{backend.name}"))
    alike = np.array(people)[:, None] == np.array(people)[None]
    cosines, upper = (rows @ rows.T).numpy(), np.triu(np.ones_like(alike), 1)
    for name, mask in (("strangers", upper & ~alike), ("same person", upper & alike)):
        of = cosines[mask]
        print(f"{name}: {len(of)} pairs, {of.min():.3f} to {of.max():.3f}, mean {of.mean():.4f}")
    print(f"people {found.people} (shipped {known.people}); {found.method}")
    worst = 0.0
    for name in ("stranger", "same", "threshold"):
        now, then = getattr(found, name), getattr(known, name)
        worst = max(worst, abs(now - then))
        print(f"{name}: {now:.4f}, shipped {then:.4f}")
    return int(worst > 0.002)


if __name__ == "__main__":
    raise SystemExit(main())
