"""``stillroom distill`` from the rows to the report, on tiny models; killed, gone on with, and on two processes.

.venv/bin/python -m pytest tests/cli/test_distill.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.cli.conftest import SMALL, TINY, TRAIN, contents, new_model, working_in, write_recipe, write_rows

AGAINST = ["untrained", "sft", "teacher_texts", "reverse_kl", "jsd"]
TEACHER = {"new": {"architecture": "llama", "vocabulary": 300, "config": TINY}, "max_length": 32}


@pytest.fixture(scope="module")
def world(tmp_path_factory, shop):
    """A teacher trained by sft from nothing on a file, and a student distilled from it, held against all others."""
    folder = tmp_path_factory.mktemp("world")
    with working_in(folder) as stillroom:
        train = TRAIN | {"steps": 120, "evaluate_every": 40, "group_by_length": True}
        path = write_recipe(folder, shop, "teacher", student=TEACHER, train=train)
        teacher = stillroom("distill", path)
        assert teacher.code == 0, teacher.err
        student = {"new": {"architecture": "llama", "tokenizer": "runs/teacher/model", "config": SMALL}}
        keys = {
            "teacher": {"model": "runs/teacher/model", "max_new_tokens": 12},
            "student": student | {"max_length": 32},
            "method": {"name": "forward_kl", "temperature": 1.0},
            "against": AGAINST,
        }
        live = stillroom("distill", write_recipe(folder, shop, "live", **keys), "--json")
        assert live.code == 0, live.err
        keys["teacher"] = keys["teacher"] | {"cache": True, "top_k": 300}
        cached = stillroom("distill", write_recipe(folder, shop, "cached", **keys))
        assert cached.code == 0, cached.err
        yield SimpleNamespace(folder=folder, runs=folder / "runs", live=live, cached=cached, call=stillroom, keys=keys)


def read(path):
    return json.loads(path.read_text())


def test_all_that_a_run_leaves_is_there(world):
    found = set(contents(world.runs / "live"))
    model = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    wanted = {"recipe.yaml", "run.json", "metrics.jsonl", "evaluation.json", "report.html", "model/README.md"}
    wanted |= {f"model/{name}" for name in model}
    wanted |= {f"checkpoints/step-000006/state.{kind}" for kind in ("json", "safetensors")}
    for name in AGAINST[1:]:
        wanted |= {f"against/{name}/{file}" for file in ("metrics.jsonl", "model/model.safetensors")}
    assert wanted <= found
    assert not [name for name in found if "against/untrained" in name or ".partial" in name or ".tmp" in name]


def test_the_teacher_learnt_and_so_did_the_students(world):
    lines = [json.loads(line) for line in (world.runs / "teacher" / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0]["total"], lines[-1]["evaluation"]["loss"]
    assert first > 5 and last < first / 3
    systems = {system["name"]: system["metrics"] for system in read(world.runs / "live" / "evaluation.json")["systems"]}
    for name in ("forward_kl", "reverse_kl", "jsd", "sft"):
        assert systems[name]["perplexity"] < systems["untrained"]["perplexity"]
    assert systems["forward_kl"]["teacher_kl"] < systems["untrained"]["teacher_kl"]


def test_json_on_stdout_is_the_evaluation(world):
    told = json.loads(world.live.out)
    assert told.pop("folder") == "runs/live"
    assert told == read(world.runs / "live" / "evaluation.json")


def test_everybody_is_measured_and_said_to_be_what_it_is(world):
    found = read(world.runs / "live" / "evaluation.json")
    roles = {system["name"]: system["role"] for system in found["systems"]}
    baselines = {"sft": "baseline", "teacher_texts": "baseline", "reverse_kl": "baseline", "jsd": "baseline"}
    assert roles == {"teacher": "teacher", "forward_kl": "student", "untrained": "start"} | baselines
    alone = {system["name"] for system in found["systems"] if system.get("without_teacher")}
    assert alone == {"sft"}
    assert found["primary"] == "perplexity" and found["worst"]
    for system in found["systems"]:
        assert system["cost"]["throughput"] > 0 and system["disk_bytes"] > system["parameters"] * 4
    about = read(world.runs / "live" / "run.json")
    assert about["counts"]["rows"] == 60 and 0 < about["counts"]["trained_share"] < 1
    assert (about["teacher"], about["student"], about["seed"]) == ("runs/teacher/model", "new", 0)
    assert about["command"] == f"stillroom distill {world.folder / 'live.yaml'}"


def test_the_report_and_the_card_name_every_system(world):
    for page in ("report.html", "model/README.md"):
        text = (world.runs / "live" / page).read_text()
        assert all(name in text for name in ("teacher", "forward_kl", *AGAINST))


def test_the_table_on_stdout_and_where_things_are_on_stderr(world):
    assert all(name in world.cached.out for name in ("teacher", "forward_kl", "jsd", "perplexity"))
    assert "model: runs/cached/model\nreport: runs/cached/report.html" in world.cached.err


def test_a_cached_teacher_teaches_like_the_live_one(world):
    live, cached = (load_file(world.runs / name / "model" / "model.safetensors") for name in ("live", "cached"))
    for name, tensor in live.items():
        torch.testing.assert_close(cached[name], tensor, atol=5e-3, rtol=0)
    start = load_file(world.runs / "cached" / "against" / "sft" / "model" / "model.safetensors")
    assert any((start[name] - live[name]).abs().max() > 0.02 for name in live)


def test_the_recipe_that_is_kept_is_whole_and_runs_again(world):
    kept = yaml.safe_load((world.runs / "live" / "recipe.yaml").read_text())
    assert kept["train"]["learning_rate"] == 0.01 and kept["train"]["weight_decay"] == 0.01
    again = world.call("distill", "runs/live/recipe.yaml", "--set", "name=again", "--set", "against=[]")
    assert again.code == 0
    ours, theirs = (world.runs / name / "model" / "model.safetensors" for name in ("again", "live"))
    assert ours.read_bytes() == theirs.read_bytes()


ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "stillroom":
            raise ImportError("stillroom is not here")
sys.meta_path.insert(0, Blocked())
sys.path = [place for place in sys.path if not place.endswith("/src")]
{code}
assert "stillroom" not in sys.modules
"""

GENERATE = """
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))
asked = tokenizer("3 plus 4 is", return_tensors="pt", return_token_type_ids=False)
written = model.generate(**asked, max_new_tokens=8, do_sample=False)
print(tokenizer.decode(written[0], skip_special_tokens=True))
"""


def run_alone(code, *arguments):
    """Run code in a process where stillroom can't be imported."""
    command = [sys.executable, "-I", "-c", ALONE.format(code=code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_model_generates_where_stillroom_is_not(world):
    assert run_alone(GENERATE, world.runs / "teacher" / "model").startswith("3 plus 4 is ")


# --- resume -----------------------------------------------------------------------------------------------------------


def same_runs(one, other):
    """Weights and losses of two runs, system by system, bit for bit; but for what depends on the clock."""
    models = [path.relative_to(one) for path in sorted(one.rglob("model/model.safetensors"))]
    assert len(models) == 3
    for path in models:
        assert (one / path).read_bytes() == (other / path).read_bytes(), path
        logged = [
            [json.loads(line) for line in (run / path).parent.parent.joinpath("metrics.jsonl").read_text().splitlines()]
            for run in (one, other)
        ]
        for line in (line for lines in logged for line in lines):
            line.pop("rows_per_second", None)
        assert logged[0] == logged[1]
    measured = [
        {system["name"]: system["metrics"] for system in read(run / "evaluation.json")["systems"]}
        for run in (one, other)
    ]
    assert measured[0] == measured[1]


def test_killed_in_the_second_method_and_resumed_it_is_the_undisturbed_run(world, shop, monkeypatch):
    from stillroom.engine.loop import Trainer

    keys = world.keys | {"method": "forward_kl", "against": ["sft", "jsd"]}
    keys["train"] = TRAIN | {"save_every": 2, "evaluate_every": 2}
    for name in ("whole", "killed"):
        write_recipe(world.folder, shop, name, **keys)
    assert world.call("distill", "whole.yaml").code == 0

    real = Trainer.train_step

    def stopping(self):
        if self.folder.name == "sft" and self.step == 3:
            raise KeyboardInterrupt
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stopping)
        killed = world.call("distill", "killed.yaml")
    assert killed.code == 130 and "stopped by Ctrl-C" in killed.err
    assert not (world.runs / "killed" / "run.json").exists()
    refused = world.call("distill", "killed.yaml")
    assert refused.code == 2 and "--resume" in refused.err
    resumed = world.call("distill", "killed.yaml", "--resume")
    assert resumed.code == 0, resumed.err
    same_runs(world.runs / "whole", world.runs / "killed")


# --- sentence encoders ------------------------------------------------------------------------------------------------

EMBED = """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
print(*map(float, model.encode("the cat and the tree")))
"""


@pytest.fixture(scope="module")
def encoders(tmp_path_factory, shop):
    """Vectors of a BERT, live and cached, taught to a smaller one with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("encoders")
    texts = [f"the {a} and the {b}" for a in ("cat", "dog", "owl", "fox", "hen") for b in ("tree", "river", "stone")]
    rows = write_rows(folder / "texts.jsonl", [{"text": text} for text in texts * 2])
    teacher = new_model("embeddings", folder / "teacher", TINY | {"max_position_embeddings": 64}, texts)
    new = {"architecture": "bert", "vocabulary": 320, "config": SMALL | {"max_position_embeddings": 64}}
    keys = {
        "task": None,  # follows from the method
        "student": {"new": new},
        "data": {"train": rows, "validation": rows},
        "method": {"name": "distilcse", "queue": 8},
        "against": [{"name": "hpd", "dimensions": 8}, "untrained"],
        "train": TRAIN | {"steps": 20, "batch_size": 10},
    }
    with working_in(folder) as stillroom:
        for name, cache in (("live", False), ("cached", True)):
            path = write_recipe(folder, shop, name, teacher={"model": teacher, "cache": cache}, **keys)
            done = stillroom("distill", path)
            assert done.code == 0, done.err
    return SimpleNamespace(folder=folder, runs=folder / "runs", teacher=teacher, texts=texts)


def test_an_encoder_learns_its_teachers_vectors(encoders):
    systems = {one["name"]: one["metrics"] for one in read(encoders.runs / "live" / "evaluation.json")["systems"]}
    assert set(systems) == {"teacher", "distilcse", "hpd", "untrained"}
    assert systems["distilcse"]["teacher_pairwise"] > systems["untrained"]["teacher_pairwise"]
    recipe = yaml.safe_load((encoders.runs / "live" / "recipe.yaml").read_text())
    assert recipe["task"] == "embeddings"


def test_cached_vectors_teach_like_live_ones(encoders):
    live, cached = (load_file(encoders.runs / name / "model" / "model.safetensors") for name in ("live", "cached"))
    for name, tensor in live.items():
        torch.testing.assert_close(cached[name], tensor, atol=5e-3, rtol=0)


def test_the_encoder_embeds_where_stillroom_is_not(encoders):
    from sentence_transformers import SentenceTransformer

    model = encoders.runs / "live" / "model"
    told = torch.tensor([float(number) for number in run_alone(EMBED, model).split()])
    wanted = torch.tensor(SentenceTransformer(str(model), device="cpu").encode("the cat and the tree"))
    torch.testing.assert_close(told, wanted)
    assert told.norm() == pytest.approx(1.0, abs=1e-5)


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_train_together_and_one_writes(world, shop):
    """Labelling, texts, training, measuring, report: what comes of it is what one process makes."""
    keys = world.keys | {"against": ["sft", "teacher_texts", "untrained"]}
    keys["train"] = TRAIN | {"micro_batch": 2, "save_every": 3}
    assert world.call("distill", write_recipe(world.folder, shop, "one", **keys)).code == 0
    write_recipe(world.folder, shop, "two", **keys)
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29583"]
    command += ["-m", "stillroom", "distill", "two.yaml", "--json"]
    environment = os.environ | {
        "STILLROOM_CACHE": str(world.folder / "cache-of-two"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=world.folder, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    one, two = world.runs / "one", world.runs / "two"
    assert json.loads(done.stdout)["systems"] == read(two / "evaluation.json")["systems"]
    assert set(contents(one)) == set(contents(two))
    assert done.stderr.count("training with sft") == 1
    for path in [path.relative_to(one) for path in one.rglob("model/model.safetensors")]:
        ours, theirs = load_file(one / path), load_file(two / path)
        for name, tensor in ours.items():
            torch.testing.assert_close(theirs[name], tensor, atol=1e-4, rtol=1e-3)
    steps = [json.loads(line)["step"] for line in (two / "metrics.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in (one / "metrics.jsonl").read_text().splitlines()]


# --- the examples -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_three_language_examples_run_one_after_the_other(tmp_path):
    """As they stand, but for a few rows of one package and a few steps."""
    examples = Path(__file__).parents[2] / "examples"
    few = ["train.steps=4", "train.batch_size=8"]
    for part, limit in (("train", 300), ("validation", 40)):
        few += [f"data.{part}.limit={limit}", f"data.{part}.options.packages=[numpy]"]
    with working_in(tmp_path) as stillroom:
        for name in ("language-teacher", "language-student", "language"):
            changes = [*few, *(["against=[untrained, sft, reverse_kl, jsd]"] if name == "language" else [])]
            changes = [word for change in changes for word in ("--set", change)]
            planned = stillroom("plan", examples / f"{name}.yaml", *changes)
            assert planned.code == 0, planned.err
            done = stillroom("distill", examples / f"{name}.yaml", *changes)
            assert done.code == 0, done.err
    systems = read(tmp_path / "runs" / "language" / "evaluation.json")["systems"]
    assert [system["name"] for system in systems] == ["teacher", "forward_kl", "sft", "reverse_kl", "jsd", "untrained"]
    assert systems[1]["parameters"] < systems[0]["parameters"] / 4
