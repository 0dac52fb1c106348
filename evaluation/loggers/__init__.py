"""Loggers of a job: Weights & Biases, CSV, TensorBoard or none."""

from evaluation.loggers.factories import csv, none, tensorboard, wandb

__all__ = ["csv", "none", "tensorboard", "wandb"]
