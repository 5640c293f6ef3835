"""`stillroom label` killed with SIGKILL at 20 random moments: the resumed store is that of an undisturbed run.

Run: pytest tests/test_label_killed.py
"""

import json
import os
import random
import subprocess
import sys

import pytest

from stillroom.recipe import Scratch
from stillroom.students.open import new_model

MOMENTS = 20

# A process of its own, which has imported everything and computed nothing: each run of the command is a fork of it.
DRIVER = """
import os, random, shutil, signal, sys, time
from pathlib import Path
from stillroom import labelling
from stillroom.cli.app import run
import stillroom.run, stillroom.views.load, transformers

recipe, cache, moments = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
labelling.FLUSH_SECONDS = 0.02
whole = labelling.header_of
labelling.header_of = lambda *a, **k: whole(*a, **k).model_copy(update={"shard_bytes": 4000})  # many shards

def start():
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(run(["label", recipe]))
    return child

def end(child):
    assert os.waitpid(child, 0)[1] == 0, "label failed"

def content():
    (store,) = [path for path in (cache / "signals").iterdir() if path.is_dir()]  # beside its lock
    return {path.name: path.read_bytes() for path in store.iterdir()}

began = time.monotonic()
end(start())
lasts = time.monotonic() - began
undisturbed = content()
assert len(undisturbed) > 5, sorted(undisturbed)
draws, kept = random.Random(0), set()
for moment in range(moments):
    shutil.rmtree(cache / "signals")
    child = start()
    # Mostly while it writes: not before there is a store, and then at some time within what an undisturbed run takes.
    first = time.monotonic()
    while not (cache / "signals").exists() and time.monotonic() - first < 60:
        time.sleep(0.002)
    time.sleep(draws.uniform(0, max(lasts - (time.monotonic() - first), 0.05)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = list((cache / "signals").glob("*/rows-*.safetensors"))
    kept.add(len(found))
    end(start())
    assert content() == undisturbed, f"killed at moment {moment}"
print(len(kept))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kept", [{"codec": "packed", "nucleus": 0.9}, {"sampled": 8}], ids=["nucleus", "sampled"])
def test_a_killed_label_command_ends_in_the_same_bytes(tmp_path, kept):
    draws = random.Random(0)
    rows = [
        {
            "prompt": f"{n} and",
            "completion": " ".join(str(draws.randrange(1000)) for _ in range(draws.randrange(1, 30))),
        }
        for n in range(200)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = [row["prompt"] + row["completion"] for row in rows]
    for name in ("teacher", "student"):
        new_model(
            Scratch(architecture="llama", config=sizes, vocabulary=300), "language", lambda: words, tmp_path / name
        )
    recipe = {
        "name": "killed",
        "output": str(tmp_path / "runs"),
        "task": "language",
        "teacher": {"model": str(tmp_path / "teacher"), **kept},
        "student": {"model": str(tmp_path / "student"), "max_length": 64},
        "data": str(tmp_path / "rows.jsonl"),
        "method": "forward_kl",
        "train": {"steps": 1, "batch_size": 4, "device": "cpu"},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "recipe.yaml"), str(tmp_path / "cache"), str(MOMENTS)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"STILLROOM_CACHE": str(tmp_path / "cache")},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert int(ran.stdout.split()[-1]) > 3  # the moments were different ones: different numbers of files were there
