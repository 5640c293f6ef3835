"""Steps a second of learning a teacher's vectors from the store against plain supervised training of the same student.

The student is a BERT of 4 layers, 256 wide, on 64 texts of 32 tokens a step. Distillation reads 64 vectors of 384
numbers out of 20,000 (``embedding_match``, with its projector); supervised training takes the texts as 32 pairs
(``contrastive``). The same texts, pooling and optimiser on both sides.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from versus import Bar, Figure, main

from stillroom.method import Objective, Step
from stillroom.methods.baselines_embeddings import Contrastive, EmbeddingMatch
from stillroom.signals import Batch, Signals

TEXTS, WINDOW, WIDTH, STORED = 64, 32, 384, 20_000
WARM, TIMED = 3, 20


def encoder() -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    return BertModel(BertConfig(vocab_size=8000, **sizes), add_pooling_layer=False)


def batch_of(number: int) -> Batch:
    draws = torch.Generator().manual_seed(number)
    ids = torch.randint(8000, (TEXTS, WINDOW), generator=draws)
    names = [f"text {place}" for place in torch.randint(STORED, (TEXTS,), generator=draws).tolist()]
    mask = torch.ones(TEXTS, dtype=torch.bool)
    columns = {"pairs": torch.arange(TEXTS).view(-1, 2)}
    return Batch(ids=names, student={"input_ids": ids}, mask=mask, columns=columns)


def trained(method: Objective, teacher: Callable[[Batch], Signals | None]) -> dict[str, float]:
    student = encoder().train()

    def embed(arguments: dict[str, torch.Tensor]) -> Signals:
        return Signals(embedding=student(**arguments).last_hidden_state.mean(1))

    sample = batch_of(0)
    sample.emitted = teacher(sample)
    view = SimpleNamespace(emit=lambda _model, arguments, _needs: embed(arguments))
    method.setup(student, None, sample, view)
    optimiser = torch.optim.AdamW([*student.parameters(), *method.parameters()], lr=1e-4)
    for number in range(WARM + TIMED):
        if number == WARM:
            began = time.perf_counter()
        batch = batch_of(number)
        parts = method.parts(embed(batch.student), teacher(batch), batch, Step(number, WARM + TIMED))
        optimiser.zero_grad()
        sum(part.mean * method.weights.get(name, 1.0) for name, part in parts.items()).backward()
        optimiser.step()
    return {"steps a second": TIMED / (time.perf_counter() - began)}


def stored() -> dict[str, float]:
    from stillroom.store import Header, Signal, Store
    from stillroom.teachers import CachedTeacher

    kept = Signal(codec="float16", shape=(WIDTH,))
    with tempfile.TemporaryDirectory() as place:
        with Store.create(Path(place) / "store", Header(signals={"embedding": kept}, teacher="random")) as writer:
            vectors = torch.nn.functional.normalize(torch.randn(STORED, WIDTH), dim=-1)
            writer.append([f"text {number}" for number in range(STORED)], {"embedding": vectors})
        cached = CachedTeacher(Store.open(Path(place) / "store"))
        return trained(EmbeddingMatch(), lambda batch: cached(batch, ("embedding",)))


def supervised() -> dict[str, float]:
    return trained(Contrastive(), lambda batch: None)


if __name__ == "__main__":
    main(
        Figure(
            name="store_embeddings",
            work="train a sentence encoder",
            sides={"stillroom": stored, "supervised": supervised},
            bars=(Bar("steps a second", 0.95, lower=False),),
        )
    )
