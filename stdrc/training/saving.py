"""Saving and resuming a training: gathered weights, averages, moments, and what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from stdrc.errors import STDRCError
from stdrc.training import checkpoint as checkpoints
from stdrc.training.config import TrainConfig
from stdrc.training.data import TrainingData, seeded
from stdrc.training.ema import WeightAverage

# Settings that may change between a run and its continuation without changing what it computes.
_FREE_TO_CHANGE = {
    "output", "log_dir", "trackers", "log_every", "checkpoint_every", "keep_checkpoints",
    "sample_every", "save_dtype", "samples", "cache", "on_nan", "max_skipped", "on_bad_data",
    "data", "base", "compile", "validation",
}  # fmt: skip


class Resumable:
    """What `Trainer` saves and restores; it has the attributes named here."""

    config: TrainConfig
    data: TrainingData
    accelerator: Accelerator
    device: torch.device
    model: nn.Module
    optimizer: Any
    parameters: list[nn.Parameter]
    average: WeightAverage | None
    step: int
    skipped: int
    _losses: list[float]

    def averaged(self) -> AbstractContextManager[None]:
        """A block in which the model holds the averaged weights, where there is an average."""
        return self.average.in_place() if self.average is not None else nullcontext()

    def weights(self, *, frozen: bool = False) -> dict[str, Tensor]:
        """Parameters by `Denoiser`'s names, on the CPU, gathered where they are sharded.

        Args:
            frozen: also those that aren't trained.
        """
        if self.config.base_weights != "saved" and not frozen:
            # torch looks up what bitsandbytes adds to a state dict as attributes, and finds none.
            named = self.accelerator.unwrap_model(self.model).named_parameters()
            return {name: p.detach().cpu() for name, p in named if p.requires_grad}
        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=not frozen
        )
        return dict(get_model_state_dict(self.model, options=options))

    def averaged_weights(self, *, frozen: bool = False) -> dict[str, Tensor]:
        """The averaged parameters, or the parameters where none are averaged."""
        with self.averaged():
            return {name: value.clone() for name, value in self.weights(frozen=frozen).items()}

    def save_checkpoint(self) -> Path:
        """Write a checkpoint of the current step.

        Raises:
            STDRCError: weights that aren't finite, or a disk that won't take it.
        """
        config = self.config
        folder = config.output / "checkpoints" / f"step-{self.step:07d}"
        weights = self.weights()
        ema = self.averaged_weights() if self.average is not None else None
        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=True
        )
        moments = get_optimizer_state_dict(self.model, self._inner_optimizer, options=options)
        rng = gather_object([_random_states(self.device)])
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            checkpoints.write_checkpoint(
                folder,
                weights=weights,
                optimizer=moments,
                ema=ema,
                state={
                    "step": self.step,
                    "skipped": self.skipped,
                    "losses": self._losses,
                    "world": self.accelerator.num_processes,
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    "rng": rng,
                    "settings": _settings(config, len(self.data)),
                },
            )
            checkpoints.prune(folder.parent, config.keep_checkpoints)
        self.accelerator.wait_for_everyone()
        return folder

    def load_checkpoint(self, folder: Path) -> None:
        """Continue a run from a checkpoint.

        Raises:
            STDRCError: the checkpoint is damaged or was made with other settings.
        """
        weights, moments, ema, state = checkpoints.read_checkpoint(folder)
        self._same_settings(folder, state)
        # strict: a run's checkpoint has exactly the parameters that the run trains.
        missing = {n for n, p in self.model.named_parameters() if p.requires_grad}
        missing = {name.replace("_fsdp_wrapped_module.", "") for name in missing}
        missing = {name.removeprefix("module.") for name in missing} ^ set(weights)
        if missing:
            raise STDRCError(
                f"The checkpoint {folder} does not fit this model; {sorted(missing)[0]} is in one "
                "and not in the other."
            )
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, strict=False)
        if self.average is not None and ema is not None:
            set_model_state_dict(self.model, ema, options=options)
            self.average.copy_from(self.parameters)
        set_model_state_dict(self.model, weights, options=options)
        # The groups alone are taken from here; every rank has them, unlike a full state.
        state_dict = get_optimizer_state_dict(
            self.model,
            self._inner_optimizer,
            options=StateDictOptions(ignore_frozen_params=True),
        )
        state_dict["state"] = moments
        set_optimizer_state_dict(self.model, self._inner_optimizer, state_dict, options=options)
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        rank = self.accelerator.process_index
        if len(state["rng"]) == self.accelerator.num_processes:
            _set_random_states(state["rng"][rank], self.device)
        else:  # the same clips in the same steps, and other draws of noise and dropout
            torch.manual_seed(
                seeded(self.config.seed, "resumed", state["step"], rank).initial_seed()
            )
        self.step, self.skipped = int(state["step"]), int(state["skipped"])
        self._losses = list(state["losses"])

    @property
    def _inner_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _same_settings(self, folder: Path, state: Mapping[str, Any]) -> None:
        # What an older version did not write had its default.
        plain = _settings(TrainConfig(base="", output=Path()), 0)
        now, then = _settings(self.config, len(self.data)), _over(plain, state["settings"])
        world, before = self.accelerator.num_processes, int(state["world"])
        if world != before:  # a step needs its clips; how they are shared out may change
            shares = [(before, then), (world, now)]
            clips = [n * s.pop("batch_size") * s.pop("accumulation") for n, s in shares]
            if clips[0] != clips[1]:
                raise STDRCError(
                    f"Cannot resume {folder} with {world} processes: a step had {clips[0]} clips "
                    f"with {before}, and would have {clips[1]}; set batch_size and accumulation so "
                    "that it has as many."
                )
        for key in sorted(set(now) | set(then)):
            if now.get(key) != then.get(key):
                raise STDRCError(
                    f"Cannot resume {folder}: {key} was {then.get(key)!r} and is now "
                    f"{now.get(key)!r}; change it back or choose another output."
                )
        if int(state["step"]) > self.config.steps:
            raise STDRCError(
                f"{folder} is past steps: {self.config.steps}; raise it or choose another output."
            )


def _settings(config: TrainConfig, clips: int) -> dict[str, Any]:
    """What a run and its continuation have in common."""
    settings = config.model_dump(mode="json")
    settings = {k: v for k, v in settings.items() if k not in _FREE_TO_CHANGE}
    if settings["optimizer"]["schedule"] == "constant":
        del settings["steps"]  # a constant rate doesn't know how long the run is
    return {**settings, "clips": clips}


def _over(defaults: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    pairs = ((key, value, defaults.get(key)) for key, value in written.items())
    both = {
        k: _over(d, v) if isinstance(v, dict) and isinstance(d, dict) else v for k, v, d in pairs
    }
    return {**defaults, **both}


def _random_states(device: torch.device) -> dict[str, list[int]]:
    """The global generators, which only a LoRA's dropout draws from."""
    states = {"cpu": torch.get_rng_state().tolist()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device).tolist()
    return states


def _set_random_states(states: Mapping[str, list[int]], device: torch.device) -> None:
    torch.set_rng_state(torch.tensor(states["cpu"], dtype=torch.uint8))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(torch.tensor(states["cuda"], dtype=torch.uint8), device)
