"""Steps a second of training from the store against training with the teacher beside the student.

The pair: a teacher of 6 layers, 512 wide, and a student of 2 layers, 256 wide, vocabulary 32,000, batches of 8 rows of
256 tokens, forward KL, AdamW. Both sides are stillroom's: a store with the recipe's defaults (64 ids a token, packed),
or `LocalTeacher`. The weights are drawn at random, so the teacher is flat and every token keeps all 64 ids: the store
that takes longest to read. It was filled before the clock starts. Both models compute in the precision that the loop
takes by itself on the machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from versus import Bar, Figure, main

from stillroom.engine.precision import resolve
from stillroom.method import Step
from stillroom.methods.baselines import ForwardKL
from stillroom.signals import Batch, Signals

VOCABULARY, ROWS, WINDOW = 32_000, 8, 256
WARM, TIMED = 2, 6


def llama(width: int, layers: int) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(width)
    sizes = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, num_attention_heads=8, tie_word_embeddings=True, **sizes)
    )


def batch_of(number: int) -> Batch:
    draws = torch.Generator().manual_seed(number)
    ids = torch.randint(VOCABULARY, (ROWS, WINDOW), generator=draws)
    mask = torch.ones(ROWS, WINDOW, dtype=torch.bool)
    names = [f"{number}:{row}" for row in range(ROWS)]
    return Batch(ids=names, student={"input_ids": ids, "attention_mask": mask.long()}, mask=mask, labels=ids)


def emitted(model: torch.nn.Module, batch: Batch) -> Signals:
    with torch.autocast("cpu", torch.bfloat16, enabled=resolve("auto", "cpu") == "bf16"):
        return Signals(logits=model(**batch.student, use_cache=False).logits)


def trained(teacher: Callable[[Batch], Signals]) -> dict[str, float]:
    """Steps a second, and the seconds of a step that the teacher's signals take."""
    student, method = llama(256, 2).train(), ForwardKL()
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-4)
    waited = began = 0.0
    for number in range(WARM + TIMED):
        if number == WARM:
            waited, began = 0.0, time.perf_counter()
        batch = batch_of(number)
        asked = time.perf_counter()
        signals = teacher(batch)
        waited += time.perf_counter() - asked
        parts = method.parts(emitted(student, batch), signals, batch, Step(number, WARM + TIMED))
        optimiser.zero_grad()
        parts["kd"].mean.backward()
        optimiser.step()
    took = time.perf_counter() - began
    return {"steps a second": TIMED / took, "seconds a step for signals": waited / TIMED}


def live() -> dict[str, float]:
    model = llama(512, 6).eval().requires_grad_(False)

    def teacher(batch: Batch) -> Signals:
        with torch.no_grad():
            return emitted(model, batch)

    return trained(teacher)


def stored() -> dict[str, float]:
    from stillroom.store import Header, Signal, Store
    from stillroom.teachers import CachedTeacher

    model = llama(512, 6).eval().requires_grad_(False)
    kept = Signal(codec="packed", shape=(None,), k=64, vocabulary=VOCABULARY)
    with tempfile.TemporaryDirectory() as place:
        with Store.create(Path(place) / "store", Header(signals={"topk": kept}, teacher="random")) as writer:
            for number in range(WARM + TIMED):
                with torch.no_grad():
                    writer.keep(batch_of(number), emitted(model, batch_of(number)))
        del model
        cached = CachedTeacher(Store.open(Path(place) / "store"))
        return trained(lambda batch: cached(batch, ("logits",)))


if __name__ == "__main__":
    main(
        Figure(
            name="store_training",
            work="train a student on a teacher's next-token distributions",
            sides={"stillroom": stored, "live teacher": live},
            bars=(Bar("steps a second", 2.0, lower=False),),
        )
    )
