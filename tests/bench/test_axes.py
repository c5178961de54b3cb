"""The axes of a sweep are stated once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.axes import AXIS_NAMES, GUIDANCE, Settings
from bench.keys import canonical
from stdrc import ThreeStreamGuidance

#: A guidance with one number more, as somebody would add it to stdrc/guidance.py, and every road
#: that it has to reach the pipeline by.
ADDED = """
import json, sys
from typing import Annotated
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
import stdrc.guidance
from stdrc.errors import one_sentence

@one_sentence("Guidance")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class More(stdrc.guidance.ThreeStreamGuidance):
    zing: Annotated[float, Field(ge=0, le=2, description="how much zing")] = 0.5

stdrc.guidance.ThreeStreamGuidance = More

from bench import config as cfg
from bench.cli import main
from bench.sweep import plan
from stdrc.pipeline import STDRCPipeline
from tests.bench.fakes import write_set
from pathlib import Path

checkpoint, folder = sys.argv[1], Path(sys.argv[2])
seen = []
whole = STDRCPipeline.__call__
def call(self, *args, guidance=None, **kwargs):
    seen.append(guidance.zing)
    return whole(self, *args, guidance=stdrc.guidance.ThreeStreamGuidance(), **kwargs)
STDRCPipeline.__call__ = call

size = {"height": 64, "width": 64, "num_frames": 9, "steps": 2}
config = cfg.parse_config({
    "name": "small",
    "evalset": {"kind": "csv", "path": str(write_set(folder, ["a person"], 1))},
    "generator": {"kind": "stdrc", "checkpoint": checkpoint},
    "sweep": {"base": size, "grid": {"zing": [0, 2]}, "allow_mismatch": True},
}, "test")
samples, generator = config.evalset.load(folder), config.generator.make()
made = plan(config, samples, generator)
for cell in made.cells:
    generator.generate(samples[:1], cell.settings)
try:
    cfg.parse_config({**cfg.config_json(config), "sweep": {"grid": {"zing": [3]}}}, "test")
    refused = ""
except ValueError as error:
    refused = str(error)
arguments = ["generate", "-p", "a person", "-c", checkpoint, "--steps", "2", "--height", "64"]
arguments += ["--width", "64", "--frames", "9", "-q", "-o", str(folder / "x.mp4")]
try:
    main([*arguments, "--zing", "1.5"])
except SystemExit as done:
    code = done.code
print(json.dumps([seen, [c.label for c in made.cells], made.varied, refused, code]))
"""


def test_a_number_added_to_guidance_is_an_axis_everywhere(tmp_path: Path) -> None:
    from miniature.build import MiniatureConfig, build_random

    config = MiniatureConfig(
        heads=2, layers=1, latent_channels=4, vae_channels=(8, 16), decoder_channels=(16, 16)
    )
    checkpoint = build_random(tmp_path / "random", config)
    command = [sys.executable, "-c", ADDED, str(checkpoint), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen, labels, varied, refused, code = json.loads(done.stdout.splitlines()[-1])
    assert seen == [0.0, 2.0, 1.5]
    assert labels == ["zing=0", "zing=2"]
    assert varied == ["zing"]
    assert "sweep.grid.zing: 3 should be less than or equal to 2" in refused
    assert not code


def test_what_does_nothing_leaves_a_videos_key_as_it_was() -> None:
    """What guidance learns later must not change the keys of the videos that are there."""
    assert ThreeStreamGuidance().acting() == {
        "text": 3.0,
        "reference": 1.5,
        "order": "text_first",
        "rescale": 0.0,
        "interval": (0.0, 1.0),
        "parallel": 1.0,
    }
    idle = ThreeStreamGuidance(stg=0.0, stg_blocks=(3,))
    assert idle.acting() == ThreeStreamGuidance().acting()
    assert ThreeStreamGuidance(stg=1.0, stg_blocks=(3,)).acting()["stg_blocks"] == (3,)


def test_the_axes_are_the_fields_in_the_order_of_labels() -> None:
    assert set(AXIS_NAMES) == set(Settings.model_fields) - {"args", "seed"}
    assert set(GUIDANCE) == set(ThreeStreamGuidance().to_dict())
    settings = Settings(text=3, reference=1, interval=[0, 0.5], args={"b": 1, "a": 2})
    assert settings.axes() == {
        "text": 3.0,
        "reference": 1.0,
        "interval": (0.0, 0.5),
        "args.a": 2,
        "args.b": 1,
    }
    assert Settings.of(json.loads(canonical(settings.axes()))) == settings
    assert settings.replace(seed=4).axes() == settings.axes()


@pytest.mark.parametrize(
    "name", [n for n in AXIS_NAMES if n not in ("checkpoint", "augmentation", "loras", "timeline")]
)
def test_the_command_line_has_every_axis(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.cli import main

    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    flag = {"reference": "--ref", "frame_rate": "--fps", "num_frames": "--frames"}.get(name)
    assert (flag or f"--{name.replace('_', '-')}") in capsys.readouterr().out
