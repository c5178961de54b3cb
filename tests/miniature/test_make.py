"""What the miniature's last training reads, and how processes share its trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from miniature import checkpoint
from miniature.crowd import GROUP, CrowdEncoder, draw_group, encode_crowd, read_crowd
from miniature.identity_encoder import load_identity_encoder
from miniature.make import CONFIGS, sharing
from miniature.world import World, write_layout
from stdrc.pipeline import STDRCPipeline
from stdrc.training import TrainConfig
from stdrc.training.encoding import prepare


@pytest.fixture(scope="module")
def pipe() -> STDRCPipeline:
    return STDRCPipeline.from_pretrained(checkpoint(), dtype=torch.float32)


def test_a_crowd_is_what_a_training_folder_of_it_would_be(
    pipe: STDRCPipeline, tmp_path: Path
) -> None:
    world, encoder = World("train", size=4), load_identity_encoder()
    folder = write_layout(world, tmp_path / "world")
    asked = [f"data=[{folder}]", f"output={tmp_path}", f"cache.folder={tmp_path / 'cache'}"]
    config = TrainConfig.load(CONFIGS / "miniature-rollout.yaml", asked)
    written = prepare(config, pipe, encoder=encoder)
    path = tmp_path / "crowd.safetensors"
    encode_crowd(world, CrowdEncoder(pipe, encoder, config.identity.margin), path)
    crowd = read_crowd(path, 8.0)

    every = torch.arange(4)
    assert len(crowd) == len(written) == 4
    assert crowd.choices == written.choices
    for kind in ("text", "boxes", "face"):
        torch.testing.assert_close(crowd.rows(kind).gather(every), written.rows(kind).gather(every))
    torch.testing.assert_close(crowd.null_text, written.null_text)
    plain = 2 * every  # the perturbed ones are as random as they are in the folder
    torch.testing.assert_close(
        crowd.rows("references").gather(plain), written.rows("references").gather(plain)
    )
    assert not torch.equal(
        crowd.rows("references").gather(plain + 1), crowd.rows("references").gather(plain)
    )
    # A folder's clips are videos, whose compression costs about one grey level.
    off = crowd.rows("latents").gather(every) - written.rows("latents").gather(every)
    assert 0 < float(off.square().mean()) < 0.05
    assert crowd.identities is not None
    assert written.identities is not None
    assert float((crowd.identities * written.identities).sum(dim=1).min()) > 0.9


def test_the_last_group_of_a_crowd_is_what_is_left() -> None:
    world = World("train", size=GROUP + 2)
    rest = draw_group(world, GROUP)
    assert len(rest.clips) == len(rest.captions) == 2
    frames = torch.from_numpy(world[GROUP + 1].frames).permute(3, 0, 1, 2)
    assert torch.equal(((rest.clips[1] + 1) * 127.5).round().byte(), frames)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_a_batch(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = TrainConfig.load(CONFIGS / "miniature-rollout.yaml", ["base=x", "output=y"])
    config = TrainConfig.load(
        CONFIGS / "miniature-rollout.yaml", ["base=x", "output=y", *sharing(config)]
    )
    assert config.batch_size * processes == 384
    assert config.identity.samples * processes == 384
    assert config.identity.rollout * processes == 72


def test_a_batch_that_does_not_divide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "5")
    config = TrainConfig.load(CONFIGS / "miniature-base.yaml", ["base=x", "output=y"])
    with pytest.raises(SystemExit, match="5 processes can't share batch_size"):
        sharing(config)
