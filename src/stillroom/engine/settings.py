"""How long and how to train: the ``train`` part of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Train(BaseModel):
    """Settings of the training loop.

    Attributes:
        steps: optimiser steps; 0 takes ``epochs`` instead.
        epochs: passes over the data, where ``steps`` is 0.
        batch_size: rows an optimiser step, over all micro-batches and processes.
        micro_batch: rows a forward pass; 0 takes the whole batch at once. The gradient does not depend on it.
        learning_rate: at its highest.
        schedule: constant, linear, cosine, stable-decay; after the warm-up.
        warmup: the share of the run in which the rate rises from 0, in [0, 1).
        optimizer: adamw, adam or sgd (``betas[0]`` is its momentum).
        weight_decay: not applied to biases and norms.
        betas: of the optimiser.
        eps: of the optimiser.
        clip: the largest gradient norm; 0 does not clip.
        precision: of student and teacher: no (float32), bf16, fp16, or auto (bf16 where the machine multiplies it
            natively, else float32). Weights stay in float32 in any case.
        device: auto, or cpu.
        seed: of everything random in training.
        group_by_length: rows of like length share a batch.
        per_class: so many rows of each of a few classes make a batch (N-pair batches), for losses that compare rows by
            their labels; 0 draws rows whatever their labels are.
        fused: losses of next-token distributions are computed from hidden states, a few rows at a time, where method
            and model allow it; false makes all logits first. The same loss either way, up to rounding.
        sharded: of several processes, each keeps a part of the weights of student and teacher, of the gradients and of
            the optimiser's memory (FSDP2), in place of all of them; for language models. Not with fp16.
        log_every: steps between lines of metrics.jsonl.
        evaluate_every: steps between evaluations; None takes a tenth of the run, 0 never evaluates. The best one's
            weights are what is exported.
        save_every: steps between checkpoints; None takes a tenth of the run, 0 never saves.
        keep: checkpoints kept.
        trackers: of Accelerate (tensorboard, wandb, ...).
    """

    model_config = ConfigDict(extra="forbid")

    steps: int = Field(0, ge=0)
    epochs: float = Field(1.0, gt=0)
    batch_size: int = Field(32, ge=1)
    micro_batch: int = Field(0, ge=0)
    learning_rate: float = Field(5e-5, gt=0)
    schedule: Literal["constant", "linear", "cosine", "stable-decay"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    clip: float = Field(1.0, ge=0)
    precision: Literal["auto", "no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu"] = "auto"
    seed: int = 0
    group_by_length: bool = False
    per_class: int = Field(0, ge=0)
    fused: bool = True
    sharded: bool = False
    log_every: int = Field(10, ge=1)
    evaluate_every: int | None = Field(None, ge=0)
    save_every: int | None = Field(None, ge=0)
    keep: int = Field(2, ge=1)
    trackers: list[str] = []

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> Train:
        if self.micro_batch > self.batch_size:
            raise ValueError(f"micro_batch ({self.micro_batch}) can't be larger than batch_size ({self.batch_size})")
        return self

    @model_validator(mode="after")
    def _shards_fit(self) -> Train:
        if self.sharded and self.precision == "fp16":
            raise ValueError("sharded weights are trained in bf16 or float32; set precision to bf16, auto or no")
        return self

    @model_validator(mode="after")
    def _classes_fit(self) -> Train:
        if self.per_class and self.batch_size % self.per_class:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of per_class ({self.per_class})")
        if self.per_class and self.group_by_length:
            raise ValueError("per_class and group_by_length both say which rows meet in a batch; set one of them")
        return self
