"""Training of ST-DRC: flow matching with the reference in context, on LTX-2.x or the miniature."""

from stdrc.training.config import TrainConfig
from stdrc.training.data import TrainingData
from stdrc.training.run import train
from stdrc.training.trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "TrainingData", "train"]
