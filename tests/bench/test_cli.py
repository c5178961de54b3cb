import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bench.cli import COMMANDS, main


def run(*arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    out, err = capsys.readouterr()
    return done.value.code or 0, out, err


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from miniature.build import MiniatureConfig, build_random

    config = MiniatureConfig(
        heads=2, layers=1, latent_channels=4, vae_channels=(8, 16), decoder_channels=(16, 16)
    )
    return build_random(tmp_path_factory.mktemp("cli") / "random", config)


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "face.png"
    pixels = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_help_lists_every_command_within_80_columns(capsys):
    code, out, _ = run("--help", capsys=capsys)
    assert code == 0
    assert all(name in out for name in COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(name, capsys):
    code, out, _ = run(name, "--help", capsys=capsys)
    assert code == 0
    assert f"stdrc {name}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_generate_writes_a_playable_video(checkpoint, face, tmp_path, capsys):
    import av

    target = tmp_path / "out.mp4"
    arguments = ["generate", "-c", str(checkpoint), "-p", "a person smiles", "-r", str(face)]
    arguments += ["--height", "64", "--width", "64", "--frames", "9", "--fps", "8"]
    code, out, _ = run(*arguments, "--steps", "2", "-o", str(target), capsys=capsys)
    assert code == 0
    assert "9 frames, 64 x 64" in out
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert sum(1 for _ in container.decode(stream)) == 9
    first = target.read_bytes()
    run(*arguments, "--steps", "2", "-q", "--force", "-o", str(target), capsys=capsys)
    assert target.read_bytes() == first, "same seed, same bytes"


def test_generate_with_sound_loras_and_the_distilled_schedule(checkpoint, face, tmp_path, capsys):
    import av
    import torch
    from safetensors.torch import load_file, save_file

    (weights,) = (checkpoint / "transformer").glob("*.safetensors")
    out, width = load_file(weights)["proj_in.weight"].shape
    lora = {
        "proj_in.lora_A.weight": torch.ones(1, width),
        "proj_in.lora_B.weight": torch.full((out, 1), 0.05),
    }
    save_file(lora, tmp_path / "a.safetensors")
    videos = {}
    for strength in ("0", "1"):
        target = tmp_path / f"{strength}.mp4"
        code, _, err = run(
            "generate", "-c", str(checkpoint), "-p", "a person smiles", "-r", str(face), "-q",
            "--height", "64", "--width", "64", "--frames", "9", "--fps", "8", "--audio",
            "--schedule", "distilled", "--lora", f"{tmp_path}/a.safetensors={strength}",
            "--lora", f"{tmp_path}/a.safetensors=0", "-o", str(target), capsys=capsys,
        )  # fmt: skip
        assert code == 0, err
        videos[strength] = target.read_bytes()
        with av.open(str(target)) as container:
            assert container.streams.audio[0].codec_context.name == "aac"
            assert sum(frame.samples for frame in container.decode(audio=0)) > 0
    assert videos["0"] != videos["1"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--preset", "ltx23", "--text", "2"], "sets guidance and negative prompt"),
        (["--schedule", "distilled"], "has 8 steps, not 2"),
        (["--stg", "1"], "names block 28"),
        (["-r", "nowhere.jpg"], "nowhere.jpg can't be read as an image: No such file"),
        (["--placement", "tas"], "Did you mean 'tass'"),
        (["--text", "nan"], "finite"),
        (["--order", "first"], "'joint'"),
        (["-c", "./nowhere"], "no checkpoint at ./nowhere"),
        (["-o", "out.gif"], "name it out.mp4"),
        (["-o", "missing/out.mp4"], "no folder missing"),
        (["--frames", "8"], "4k+1, not 8; use 9"),
        (["--height", "60"], "multiple of 8 pixels"),
        (["--lora", "nowhere.safetensors"], "no LoRA at nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    checkpoint, tmp_path, monkeypatch, capsys, extra, words
):
    monkeypatch.chdir(tmp_path)
    arguments = ["generate", "-p", "a person", "-c", str(checkpoint), "--steps", "2", "-q"]
    arguments += ["--height", "64", "--width", "64", "--frames", "9", *extra]
    code, _, err = run(*arguments, capsys=capsys)
    sentence = err.strip().splitlines()[-1]
    assert code == 2
    assert sentence.startswith("stdrc: ")
    assert words in sentence
    assert "Traceback" not in err
    assert list(tmp_path.glob("*")) == [], "nothing half-written"


def test_a_face_crop_without_a_face_is_refused(checkpoint, tmp_path, capsys):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (160, 160), "grey").save(blank)
    target = tmp_path / "out.mp4"
    arguments = ["generate", "-p", "a person", "-c", str(checkpoint), "-r", str(blank)]
    arguments += ["--crop", "face", "--height", "64", "--width", "64", "--frames", "9", "-q"]
    code, _, err = run(*arguments, "-o", str(target), capsys=capsys)
    assert code == 2
    assert "No face was found" in err
    assert not target.exists()


def test_unknown_command_and_program_entry():
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", "generat"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "No such command" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_command_is_met_with_the_right_one(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["scroe", "videos"])
    assert ended.value.code == 2
    assert "No such command 'scroe'. Did you mean 'score'?" in capsys.readouterr().err


def test_doctor_reports_every_metric_as_json(capsys):
    import json

    code, out, _ = run("doctor", "--json", capsys=capsys)
    assert code == 0
    report = json.loads(out)
    rows = {row["metric"]: row for row in report["metrics"]}
    assert rows["temporal.flicker"]["ready"]
    missing = [row for row in rows.values() if not row["ready"]]
    assert all(row["reason"] for row in missing)
