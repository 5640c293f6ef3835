"""Several cuts at once, and the student in a process that has no stillroom.

Run: pytest tests/students/test_students_build.py
"""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import ElectraModel

from stillroom.errors import UserError
from stillroom.students import build

CORPUS = ["Return the number of lines in the file.", "Open a file for reading."] * 5
PLAIN = """
import json, sys
sys.modules["stillroom"] = None  # an import of it would fail
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
print(json.dumps(model.encode(json.loads(sys.argv[2])).tolist()))
"""


def test_all_cuts_together(bert, word_pieces):
    student, tokenizer = build(bert, word_pieces, layers=[0, -1], embedding_size=16, vocabulary=80, corpus=iter(CORPUS))
    assert isinstance(student, ElectraModel)
    assert student.config.num_hidden_layers == 2
    assert student.embeddings.word_embeddings.weight.shape == (len(tokenizer), 16)
    assert len(tokenizer) <= 80 < len(word_pieces)
    assert bert.config.num_hidden_layers == 4 and bert.config.vocab_size == len(word_pieces)


def test_the_vocabulary_alone_changes_no_output(bert, word_pieces):
    student, tokenizer = build(bert, word_pieces, vocabulary=80, corpus=CORPUS)
    with torch.no_grad():
        new = student(**tokenizer(CORPUS[0], return_tensors="pt")).last_hidden_state
        old = bert(**word_pieces(CORPUS[0], return_tensors="pt")).last_hidden_state
    assert torch.allclose(new, old, atol=1e-6)


def test_no_cut_is_no_change(bert, word_pieces):
    assert build(bert, word_pieces) == (bert, word_pieces)


@pytest.mark.parametrize(
    ("cuts", "words"),
    [
        ({"vocabulary": 80}, "it has no texts"),
        ({"embedding_size": 8}, "it has no texts"),
        ({"layers": [9]}, "layer 9 does not exist"),
        ({"embedding_size": 64, "corpus": CORPUS}, "must lie between"),
    ],
)
def test_wrong_cuts_are_the_users_errors(bert, word_pieces, cuts, words):
    with pytest.raises(UserError, match=words):
        build(bert, word_pieces, **cuts)


def test_plain_sentence_transformers_loads_it(bert, word_pieces, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    student, tokenizer = build(bert, word_pieces, layers=[0, 3], embedding_size=16, vocabulary=80, corpus=CORPUS)
    student.save_pretrained(tmp_path / "body")
    tokenizer.save_pretrained(tmp_path / "body")
    body = Transformer(str(tmp_path / "body"), max_seq_length=32)
    pipeline = library.SentenceTransformer(modules=[body, Pooling(32, "mean"), Normalize()], device="cpu")
    pipeline.save_pretrained(str(tmp_path / "student"))
    texts = ["the number of files", "Reading a file: its lines!"]

    with torch.no_grad():
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        hidden, real = student(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        wanted = torch.nn.functional.normalize((hidden * real).sum(1) / real.sum(1), dim=-1)
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(tmp_path / "student"), json.dumps(texts)],
        capture_output=True, text=True, cwd=tmp_path, env=plain, check=True,
    )  # fmt: skip
    assert torch.allclose(torch.tensor(json.loads(done.stdout.splitlines()[-1])), wanted, atol=1e-5)
