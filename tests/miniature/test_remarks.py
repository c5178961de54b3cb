"""What the miniature does not know is said: words, and pictures of another world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from insightface.data import get_image
from PIL import Image

from bench.cli import main
from media.images import read_image
from miniature.judges.familiar import Familiar, worn
from miniature.remarks import remarks
from miniature.world import World


def test_captions_of_the_world_need_no_remark() -> None:
    world = World(split="test", size=40)
    assert remarks([clip.caption for clip in world], {}) == []
    assert remarks(["A person TURNS the head, smiling.", ""], {}) == []


def test_unknown_words_are_named_once() -> None:
    (said,) = remarks(["a person plays guitar in Paris, guitar 2", "\u732b"], {})
    assert "not taught 'plays', 'guitar', 'paris', '2' and '\u732b'" in said
    (said,) = remarks(["someone nods in front of a mauve wall"], {})
    assert "was not taught 'mauve'" in said


def test_drawn_pictures_pass_and_photographs_do_not(media: Path) -> None:
    judge, rng = Familiar(), np.random.default_rng(0)
    drawn = [worn(Image.fromarray(c.reference), rng) for c in World(split="test", size=60, seed=5)]
    assert all(judge.knows(picture) for picture in drawn)
    photographs = [Image.fromarray(read_image(p)) for p in sorted((media / "faces").iterdir())]
    assert photographs
    assert not any(judge.knows(picture) for picture in photographs)


def test_what_is_not_a_portrait_is_strange() -> None:
    judge = Familiar()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for pixels in (noise, np.zeros((64, 64, 3), np.uint8), get_image("t1", to_rgb=True)):
        assert not judge.knows(Image.fromarray(pixels))


def test_generate_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = World(split="test", size=1)[0]
    Image.fromarray(clip.reference).save(tmp_path / "drawn.png")
    Image.fromarray(get_image("t1", to_rgb=True)).save(tmp_path / "people.png")
    common = ["generate", "--force", "--steps", "2", "-q", "-o", str(tmp_path / "x.mp4")]
    said = []
    for prompt, name in ((clip.caption, "drawn.png"), ("a person plays guitar", "people.png")):
        with pytest.raises(SystemExit) as ended:
            main([*common, "-p", prompt, "-r", str(tmp_path / name)])
        assert not ended.value.code
        said.append([s for s in capsys.readouterr().err.splitlines() if s.startswith("stdrc: ")])
    assert said[0] == []
    words, picture = said[1]
    assert "'plays' and 'guitar'" in words
    assert "'people.png' does not look like a portrait of the drawn world" in picture
    with pytest.raises(SystemExit) as ended:
        main([*common, "--strict", "-p", "a person plays guitar", "-r", str(tmp_path / name)])
    assert ended.value.code == 2
    assert words.removeprefix("stdrc: ")[:60] in capsys.readouterr().err
