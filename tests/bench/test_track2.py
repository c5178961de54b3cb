"""The challenge's sequential track, from eval.json to an archive that passes the check."""

import json
from pathlib import Path

import pytest
import yaml

from bench.cli import main
from miniature.world import World, write_layout

from .test_stdrc_generator import section, weights  # noqa: F401  (a fixture)


def run(*words: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_from_eval_json_to_the_archive(
    tmp_path: Path,
    weights: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_layout(World(split="test", size=2, frames=5), "data", layout="ipvg2026")
    track = "data/test_track2/final"
    config = {
        "name": "track2",
        "evalset": {"kind": "ipvg2026-sequential", "path": track},
        "generator": section(weights),
        "sweep": {
            "base": {"placement": "tass", "augmentation": "on", "steps": 2},
            "grid": {"timeline": ["joined", "blended"]},
        },
        "metrics": {"names": ["timeline.accuracy.miniature", "timeline.boundary.miniature"]},
    }
    Path("track2.yaml").write_text(yaml.safe_dump(config))
    assert run("bench", "track2.yaml") == 0
    table = (Path("runs/track2/leaderboard/leaderboard.csv")).read_text()
    assert "blended" in table
    assert "timeline.accuracy.miniature" in table
    eval_json = f"{track}/eval.json"
    name = ["-f", "ipvg2026-sequential", "--eval", eval_json]
    packed = ["submission", "pack", "runs/track2", "--entry", "blended", "-o", "out", *name]
    assert run(*packed) == 0
    archive = "out/sequential_action_results.zip"
    capsys.readouterr()
    assert run("submission", "check", archive, *name) == 0
    # A timeline that the videos end before is refused.
    entries = json.loads(Path(eval_json).read_text())
    entries[0]["temporal_captions"][-1]["end"] = 3.0
    Path("longer.json").write_text(json.dumps(entries))
    longer = ["-f", "ipvg2026-sequential", "--eval", "longer.json"]
    assert run("submission", "check", archive, *longer) == 1
    assert "its timeline runs to 3 s" in capsys.readouterr().out.replace("\n", " ")
