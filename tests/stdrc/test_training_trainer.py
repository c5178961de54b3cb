"""The loop: what the model is called with, exact resumption, refusing to save what is broken."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTX2Pipeline
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from stdrc.errors import STDRCError
from stdrc.positions import ReferencePlacement
from stdrc.sequence import TokenSequence
from stdrc.training import Trainer, checkpoint
from stdrc.training.data import BatchSource
from stdrc.training.denoiser import Denoiser, pack
from stdrc.training.optimizer import make_optimizer
from stdrc.training.trainer import learning_rate

from .training_tiny import tiny_config, tiny_data, tiny_transformer


def test_denoiser_is_the_plain_transformer_call() -> None:
    """Embedding two timesteps a sample and trimming the audio branch change no number."""
    model = tiny_transformer().eval()
    placement = ReferencePlacement.tass()
    sequence = TokenSequence.of(model.rope, placement, frames=2, height=3, width=3, fps=8.0)
    g = torch.Generator().manual_seed(1)
    video = pack(torch.randn(3, 4, 2, 3, 3, generator=g), model)
    reference = pack(torch.randn(3, 4, 1, 3, 3, generator=g), model)
    text, sigmas = torch.randn(3, 5, 16, generator=g), torch.tensor([0.1, 0.5, 0.9])
    with torch.no_grad():
        ours, _ = Denoiser(model)(video, sigmas, text, None, reference, sequence)
        time = torch.cat([sigmas[:, None].expand(3, 18), torch.zeros(3, 9)], dim=1) * 1000
        plain = model(
            hidden_states=torch.cat([video, reference], dim=1),
            audio_hidden_states=torch.randn(3, 1, 4, generator=g),
            encoder_hidden_states=text,
            audio_encoder_hidden_states=torch.randn(3, 5, 16, generator=g),
            timestep=time,
            audio_timestep=sigmas[:, None] * 1000,
            sigma=sigmas * 1000,
            encoder_attention_mask=torch.ones(3, 5),
            audio_encoder_attention_mask=torch.ones(3, 5),
            video_coords=sequence.coords.expand(3, -1, -1, -1),
            audio_num_frames=1,
            isolate_modalities=True,
            use_cross_timestep=True,
        ).sample[:, :18]
    torch.testing.assert_close(ours, plain, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("alignment", [0.0, 0.5])
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_every_trained_parameter_gets_a_gradient(
    tmp_path: Path, mode: str, alignment: float
) -> None:
    """Else DDP would wait for it, and weight decay would eat it."""
    config = tiny_config(tmp_path, mode=mode, identity={"alignment": alignment})
    trainer = Trainer(config, tiny_data(), transformer=tiny_transformer())
    assert any("head" in n for n, _ in trainer.model.named_parameters()) == (alignment > 0)
    loss, _ = trainer.loss(trainer.source.batch(0), torch.Generator())
    loss.backward()
    without = [
        name for name, p in trainer.model.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert without == []
    frozen = [n for n, p in trainer.model.named_parameters() if not p.requires_grad and p.grad]
    assert frozen == []


def test_loss_falls(tmp_path: Path) -> None:
    seen: list[float] = []
    config = tiny_config(tmp_path, steps=40, optimizer={"lr": 1e-2, "warmup": 5}, batch_size=6)
    Trainer(
        config, tiny_data(), transformer=tiny_transformer(),
        on_step=lambda _, numbers: seen.append(numbers["loss"]),
    ).fit()  # fmt: skip
    assert sum(seen[-10:]) < 0.85 * sum(seen[:10])


def _run(output: Path, kill_at: int | None, **changes: object) -> None:
    def on_step(step: int, _: dict[str, float]) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    config = tiny_config(output, checkpoint_every=2, ema={"decay": 0.9}, **changes)
    Trainer(config, tiny_data(), transformer=tiny_transformer(), on_step=on_step).fit(resume=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "full", "accumulation": 2},
        {"mode": "lora", "lora": {"rank": 2, "dropout": 0.2}},
        {"mode": "full", "optimizer": {"name": "adafactor", "lr": 1e-3, "schedule": "cosine"}},
        {"mode": "full", "optimizer": {"name": "muon", "lr": 1e-2, "warmup": 2}},
        {"mode": "full", "identity": {"alignment": 0.5}},
    ],
    ids=["full", "lora with dropout", "adafactor", "muon", "alignment"],
)
def test_killed_and_resumed_equals_never_stopped(tmp_path: Path, changes: dict) -> None:
    # Not forked from here: another test may have used autograd's threads, which don't survive it.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    for output, kill_at in ((tmp_path / "whole", None), (tmp_path / "cut", 3)):
        process = server.Process(target=_run, args=(output, kill_at), kwargs=changes)
        process.start()
        process.join(60)
        assert process.exitcode == (-signal.SIGKILL if kill_at else 0)
    assert [p.name for p in checkpoint.checkpoints(tmp_path / "cut/checkpoints")] == [
        "step-0000002"
    ]
    process = server.Process(target=_run, args=(tmp_path / "cut", None), kwargs=changes)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    names = ["weights.safetensors", "ema.safetensors", "optimizer.safetensors"]
    for name in names:
        whole = load_file(tmp_path / "whole/checkpoints/step-0000006" / name)
        cut = load_file(tmp_path / "cut/checkpoints/step-0000006" / name)
        assert set(whole) == set(cut)
        assert len(whole) > 10
        for key in whole:
            assert torch.equal(whole[key], cut[key]), (name, key)


def test_alignment_reads_the_block_it_names_and_leaves_no_trace(tmp_path: Path) -> None:
    """Its gradient stops at that block, checkpointing or not, and its head isn't in the result."""
    gradients = []
    for checkpointing in (False, True):
        config = tiny_config(
            tmp_path / str(checkpointing),
            identity={"alignment": 1.0, "layer": 0},
            gradient_checkpointing=checkpointing,
            dropout={"text": 0, "reference": 0.5, "both": 0},
        )
        trainer = Trainer(config, tiny_data(), transformer=tiny_transformer(num_layers=3))
        batch = trainer.source.batch(0)
        assert 0 < batch.with_reference < 3
        _, alignment = trainer.loss.velocity(batch, pack(batch.latents, trainer.transformer))
        alignment.backward()
        by_block = [
            {n: p.grad for n, p in block.named_parameters() if p.grad is not None}
            for block in trainer.transformer.transformer_blocks
        ]
        assert [bool(found) for found in by_block] == [True, False, False]
        gradients.append(by_block[0])
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
    trainer = Trainer(
        tiny_config(tmp_path / "run", steps=1, identity={"alignment": 1.0}),
        tiny_data(),
        transformer=tiny_transformer(),
    )
    result = trainer.fit()
    saved = load_file(result / "transformer" / "diffusion_pytorch_model.safetensors")
    assert set(saved) == set(tiny_transformer().state_dict())


def test_alignment_is_learned(tmp_path: Path) -> None:
    seen: list[float] = []
    config = tiny_config(
        tmp_path, steps=40, optimizer={"lr": 1e-2, "warmup": 5}, batch_size=6,
        identity={"alignment": 1.0},
    )  # fmt: skip
    Trainer(
        config, tiny_data(), transformer=tiny_transformer(),
        on_step=lambda _, numbers: seen.append(numbers["alignment"]),
    ).fit()  # fmt: skip
    assert sum(seen[-10:]) < 0.5 * sum(seen[:10])


def test_alignment_that_cannot_be(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, identity={"alignment": 1.0})
    with pytest.raises(STDRCError, match="needs face boxes and embeddings"):
        Trainer(config, tiny_data(face=False), transformer=tiny_transformer())
    config = tiny_config(tmp_path, identity={"alignment": 1.0, "layer": 2})
    with pytest.raises(STDRCError, match=r"identity\.layer is 2; this model has blocks 0 to 1"):
        Trainer(config, tiny_data(), transformer=tiny_transformer())


def orthogonalised(matrix: np.ndarray) -> np.ndarray:
    """Five steps of Newton-Schulz as what they are: one odd polynomial of the singular values."""
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    values /= np.sqrt((values**2).sum())
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return (left * values) @ right


def muon_by_hand(
    start: Tensor, gradients: Sequence[Tensor], lr: float, weight_decay: float
) -> np.ndarray:
    """Nesterov momentum of 0.95, decoupled decay, steps of 0.2 root mean square as AdamW's."""
    weights, average = start.detach().numpy().astype(np.float64), 0.0
    for gradient in (g.numpy().astype(np.float64) for g in gradients):
        average = 0.95 * average + 0.05 * gradient
        step = orthogonalised(0.05 * gradient + 0.95 * average)
        weights = weights * (1 - lr * weight_decay) - lr * 0.2 * max(step.shape) ** 0.5 * step
    return weights


def test_muon_takes_the_blocks_matrices_and_adamw_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The combined optimizer does what PyTorch's two do on their own."""
    ours, theirs, rounded = tiny_transformer(), tiny_transformer(), tiny_transformer()
    config = tiny_config(tmp_path, optimizer={"name": "muon", "lr": 1e-2}).optimizer
    combined = make_optimizer(list(ours.named_parameters()), config)
    rate = {"lr": config.lr, "weight_decay": config.weight_decay}
    hidden = {
        name
        for name, parameter in ours.named_parameters()
        if name.startswith("transformer_blocks.") and name.endswith(".weight")
        if parameter.ndim == 2
    }
    apart: dict[nn.Module, list[torch.optim.Optimizer]] = {}
    for model in (theirs, rounded):
        named = dict(model.named_parameters())
        matrices, others = (
            [p for n, p in named.items() if (n in hidden) is of] for of in (True, False)
        )
        assert len(matrices) > 10
        assert len(others) > 10
        apart[model] = [
            torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **rate),
            torch.optim.AdamW(others, betas=config.betas, eps=config.eps, **rate),
        ]
    gradients: dict[str, list[Tensor]] = {}
    for step in range(3):
        for model in (ours, theirs, rounded):
            generator = torch.Generator().manual_seed(step)
            for name, parameter in model.named_parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
                if model is ours:
                    gradients.setdefault(name, []).append(parameter.grad.clone())
        for optimizer in (combined, *apart[rounded]):
            optimizer.step()
        with monkeypatch.context() as patch:
            # PyTorch's Muon orthogonalises in bfloat16 even on a CPU; ours doesn't, nor this one.
            patch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
            for optimizer in apart[theirs]:
                optimizer.step()
    start, plain = (dict(m.named_parameters()) for m in (tiny_transformer(), rounded))
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
        moved = (b - start[name]).norm()
        if name in hidden:
            by_hand = torch.from_numpy(muon_by_hand(start[name], gradients[name], **rate))
            assert (a - by_hand).norm() < 1e-5 * moved, name
            assert (a - plain[name]).norm() < 0.05 * moved, name
        else:
            torch.testing.assert_close(a, plain[name], msg=name)


@pytest.mark.slow
def test_compiled_blocks_train_as_plain_ones(tmp_path: Path) -> None:
    losses: dict[bool, list[float]] = {}
    for compiled in (False, True):
        found = losses[compiled] = []
        Trainer(
            tiny_config(tmp_path / str(compiled), compile=compiled, steps=3),
            tiny_data(),
            transformer=tiny_transformer(),
            on_step=lambda _, numbers, found=found: found.append(numbers["loss"]),
        ).fit()
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


@pytest.mark.slow
def test_two_processes_share_the_batch_and_resume_exactly(tmp_path: Path) -> None:
    """DDP over gloo: every rank its own clips, one result; interrupted or not."""
    script = tmp_path / "run.py"
    script.write_text(
        """
import sys, torch
from pathlib import Path
from tests.stdrc.training_tiny import tiny_config, tiny_data, tiny_transformer
from stdrc.training import Trainer

torch.set_num_threads(1)
output, steps = Path(sys.argv[1]), int(sys.argv[2])
config = tiny_config(
    output, steps=steps, mode=sys.argv[3], ema={"decay": 0.9}, accumulation=2,
    lora={"rank": 2, "dropout": 0.2},
)
trainer = Trainer(config, tiny_data(12), transformer=tiny_transformer())
assert trainer.accelerator.num_processes == 2
trainer.fit(resume=True)
"""
    )

    def run(output: Path, steps: int, mode: str) -> None:
        root = Path(__file__).parents[2]
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone",
             str(script), str(output), str(steps), mode],
            check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, timeout=600,
        )  # fmt: skip

    run(tmp_path / "whole", 4, "lora")
    run(tmp_path / "cut", 2, "lora")
    run(tmp_path / "cut", 4, "lora")
    for name in ("weights", "ema", "optimizer"):
        file = f"checkpoints/step-0000004/{name}.safetensors"
        whole, cut = load_file(tmp_path / "whole" / file), load_file(tmp_path / "cut" / file)
        assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(tmp_path: Path) -> None:
    data, config = tiny_data(), tiny_config(tmp_path, steps=1)
    Trainer(config, data, transformer=tiny_transformer()).fit()
    with pytest.raises(STDRCError, match="already holds a run at step 1; add --resume"):
        Trainer(config, data, transformer=tiny_transformer()).fit()
    other = tiny_config(tmp_path, steps=1, placement="overlap")
    with pytest.raises(STDRCError, match=r"Cannot resume .*placement was"):
        Trainer(other, data, transformer=tiny_transformer()).fit(resume=True)
    longer = tiny_config(tmp_path, steps=2)
    # A checkpoint of a version that did not know some settings had their defaults.
    file = tmp_path / "checkpoints" / "step-0000001" / "state.json"
    state = json.loads(file.read_text())
    del state["settings"]["base_weights"], state["settings"]["clip"]["buckets"]
    file.write_text(json.dumps(state))
    assert Trainer(longer, data, transformer=tiny_transformer()).fit(resume=True).exists()


def test_a_run_is_resumed_by_another_number_of_processes_with_the_same_clips(
    tmp_path: Path,
) -> None:
    """Two processes of one clip, as a checkpoint has it, go on as one of two micro-batches."""
    data = tiny_data(12)
    how = {"batch_size": 1, "accumulation": 2, "lora": {"rank": 2, "dropout": 0.2}}
    Trainer(tiny_config(tmp_path, steps=2, **how), data, transformer=tiny_transformer()).fit()
    file = tmp_path / "checkpoints" / "step-0000002" / "state.json"
    state = json.loads(file.read_text())
    state["world"], state["settings"]["accumulation"] = 2, 1
    state["rng"] *= 2
    file.write_text(json.dumps(state))

    longer = tiny_config(tmp_path, steps=3, **how)
    trainer = Trainer(longer, data, transformer=tiny_transformer())
    assert trainer.fit(resume=True).exists()
    ranks = [BatchSource(data, tiny_config(tmp_path, **{**how, "accumulation": 1}), rank=r, world=2)
             for r in (0, 1)]  # fmt: skip
    assert [int(trainer.source.clips(2 * 2 + i)) for i in (0, 1)] == [
        int(r.clips(2)) for r in ranks
    ]

    file = tmp_path / "checkpoints" / "step-0000003" / "state.json"
    state = json.loads(file.read_text())
    file.write_text(json.dumps({**state, "world": 3}))
    with pytest.raises(STDRCError, match=r"with 1 processes: a step had 6 clips with 3, .* have 2"):
        Trainer(tiny_config(tmp_path, steps=4, **how), data, transformer=tiny_transformer()).fit(
            resume=True
        )


def test_trackers_are_told_what_tensorboard_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import tracking

    config = tiny_config(tmp_path / "a", steps=3, log_every=1, trackers=["wandb"])
    with pytest.raises(STDRCError, match="trackers: wandb is not installed; pip install it"):
        Trainer(config, tiny_data(), transformer=tiny_transformer())
    told: list[Any] = []

    class Run:
        def log(self, values: Any, step: int) -> None:
            told.append((step, values))

        def finish(self) -> None:
            told.append("finished")

    def begin(**given: Any) -> Run:
        told.append(given)
        return Run()

    fake = types.ModuleType("wandb")
    fake.init, fake.config = begin, types.SimpleNamespace(update=lambda *_, **__: None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.WANDB])
    Trainer(config, tiny_data(), transformer=tiny_transformer()).fit()
    assert (told[0]["project"], told[0]["name"]) == ("stdrc", "a")
    assert [step for step, _ in told[1:-1]] == [1, 2, 3]
    assert set(told[1][1]) >= {"train/loss", "train/grad_norm", "train/lr"}
    assert told[-1] == "finished"


def test_nan_stops_or_skips(tmp_path: Path) -> None:
    data = tiny_data()
    data.latents.tensor[2] = float("nan")  # type: ignore[union-attr]
    with pytest.raises(STDRCError, match=r"not finite at step \d; no checkpoint was made"):
        Trainer(tiny_config(tmp_path / "a"), data, transformer=tiny_transformer()).fit()
    assert not list((tmp_path / "a/checkpoints").iterdir())

    steps: list[bool] = []
    config = tiny_config(tmp_path / "b", on_nan="skip", batch_size=1, steps=6)
    result = Trainer(
        config, data, transformer=tiny_transformer(),
        on_step=lambda _, numbers: steps.append(bool(numbers)),
    ).fit()  # fmt: skip
    assert steps.count(False) == 1
    for tensor in load_file(result / "transformer/diffusion_pytorch_model.safetensors").values():
        assert tensor.isfinite().all()


def test_skipping_forever_stops(tmp_path: Path) -> None:
    data = tiny_data()
    data.latents.tensor[:] = float("nan")  # type: ignore[union-attr]
    config = tiny_config(tmp_path, on_nan="skip", max_skipped=3)
    with pytest.raises(STDRCError, match="not finite 3 times in a row at step 3"):
        Trainer(config, data, transformer=tiny_transformer()).fit()


def test_broken_weights_are_never_saved(tmp_path: Path) -> None:
    trainer = Trainer(tiny_config(tmp_path), tiny_data(), transformer=tiny_transformer())
    next(p for p in trainer.parameters).data[0] = float("inf")
    with pytest.raises(STDRCError, match=r"not saved: .* not finite"):
        trainer.save_checkpoint()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_full_disk_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path, checkpoint_every=2)
    trainer = Trainer(config, tiny_data(), transformer=tiny_transformer())
    real, written = checkpoint.save_file, []

    def full_disk(tensors: dict, path: Path, metadata: dict) -> None:
        real(tensors, path, metadata=metadata)
        written.append(path)
        if len(written) == 4:  # the second file of the second checkpoint
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(STDRCError, match=r"disk is full: .*step-0000004 .*--resume"):
        trainer.fit()
    left = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert left == ["step-0000002"]
    monkeypatch.setattr(checkpoint, "save_file", real)
    result = Trainer(config, tiny_data(), transformer=tiny_transformer()).fit(resume=True)
    assert (result / "stdrc.json").exists()


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, steps=1)
    Trainer(config, tiny_data(), transformer=tiny_transformer()).fit()
    file = tmp_path / "checkpoints/step-0000001/weights.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(STDRCError, match="step-0000001 is damaged"):
        Trainer(config, tiny_data(), transformer=tiny_transformer()).fit(resume=True)


def test_lora_loads_into_diffusers_and_says_how_it_was_made(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, mode="lora", lora={"rank": 3, "alpha": 6}, placement="strata")
    trained = tiny_transformer()
    path = Trainer(config, tiny_data(), transformer=trained).fit()
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["stdrc"])
        assert not [key for key in file.keys() if "audio" in key]  # noqa: SIM118
    assert ReferencePlacement.parse(about["placement"]) == ReferencePlacement.strata()
    assert about["steps"] == 6
    assert about["augmentation"]["colour"] is True

    fresh = tiny_transformer()
    state, metadata = LTX2Pipeline.lora_state_dict(str(path), return_lora_metadata=True)
    LTX2Pipeline.load_lora_into_transformer(state, fresh, metadata=metadata)
    g = torch.Generator().manual_seed(3)
    video, text = torch.randn(1, 18, 4, generator=g), torch.randn(1, 5, 16, generator=g)
    alone = TokenSequence.of(fresh.rope, frames=2, height=3, width=3, fps=8.0)

    def velocity(model: torch.nn.Module) -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            return Denoiser(model)(video, torch.tensor([0.5]), text, None, None, alone)[0]

    torch.testing.assert_close(velocity(fresh), velocity(trained), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(velocity(fresh), velocity(tiny_transformer()), atol=1e-5)


def test_mixed_placements_are_drawn_evenly_and_belong_to_none(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, mode="lora", steps=3, mixed_placements=["overlap", "far"])
    source = BatchSource(tiny_data(), config)
    drawn = [source.batch(i).placement for i in range(300)]
    assert drawn == [source.batch(i).placement for i in range(300)]
    assert all(70 < drawn.count(k) < 130 for k in range(3))
    trainer = Trainer(config, tiny_data(), transformer=tiny_transformer())
    coords = [sequence.coords for sequence in trainer.loss.sequences(source.batch(0))[1:]]
    assert len(coords) == 3
    assert not torch.equal(coords[0], coords[1])
    with safe_open(trainer.fit(), framework="pt") as file:
        about = json.loads(file.metadata()["stdrc"])
    assert about["placement"] is None
    assert [ReferencePlacement.parse(p) for p in about["mixed_placements"]] == [
        ReferencePlacement.parse(name) for name in ("tass", "overlap", "far")
    ]
    with pytest.raises(STDRCError, match="mixed_placements needs a placement"):
        tiny_config(tmp_path, placement="none", mixed_placements=["far"])


def test_dropout_drops_what_it_says() -> None:
    data = tiny_data(clips=200)
    config = tiny_config(
        Path("x"), batch_size=200, dropout={"text": 0.2, "reference": 0.1, "both": 0.3}
    )
    batch = BatchSource(data, config).batch(0)
    no_text = (batch.text == data.null_text).all(dim=(1, 2))
    no_reference = torch.arange(200) >= batch.with_reference
    assert abs(float((no_text & ~no_reference).float().mean()) - 0.2) < 0.09
    assert abs(float((~no_text & no_reference).float().mean()) - 0.1) < 0.07
    assert abs(float((no_text & no_reference).float().mean()) - 0.3) < 0.1


def test_references_and_clips_stay_together() -> None:
    data = tiny_data(clips=7)
    config = tiny_config(Path("x"), batch_size=5)
    source = BatchSource(data, config)
    epoch = torch.cat([source.clips(i) for i in range(7)])
    assert epoch.bincount().tolist() == [5] * 7  # five epochs, each clip once in each
    assert len(set(epoch[:7].tolist())) == 7
    batch = source.batch(3)
    references = data.references.tensor  # type: ignore[union-attr]
    for i in range(batch.with_reference):
        clip = int(batch.clips[i])
        own = references[[clip, 7 + clip]]
        assert (own == batch.reference[i]).all(dim=(1, 2, 3, 4)).any()
    assert torch.equal(batch.latents, data.latents.gather(batch.clips))  # type: ignore[union-attr]
    again = BatchSource(data, config).batch(3)
    assert torch.equal(again.noise, batch.noise)
    assert not torch.equal(source.batch(4).noise, batch.noise)


def test_learning_rate() -> None:
    config = tiny_config(
        Path("x"),
        optimizer={"lr": 1.0, "warmup": 10, "schedule": "cosine", "final": 0.1},
    ).optimizer
    rates = [learning_rate(step, 110, config) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
