"""The training loop: normalisation, resume, checkpoints, stopping on NaN.

pytest tests/engine/test_loop.py
"""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from typing import ClassVar

import pytest
import torch

from stillroom.engine import checkpoint
from stillroom.engine.loop import TrainingStopped
from stillroom.errors import UserError
from stillroom.method import Objective
from stillroom.methods.baselines import SupervisedTokens
from stillroom.signals import Needs, Reduced


def gradients(trainer):
    """The gradients of one step, before the optimiser uses them."""
    kept = {}

    def keep(sums, counts):
        kept.update({n: p.grad.clone() for n, p in trainer.pair.named_parameters() if p.grad is not None})
        return {}

    trainer._update = keep
    trainer.train_step()
    return kept


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4])
def test_the_gradient_does_not_depend_on_how_the_step_is_split(make_trainer, tmp_path, micro_batch):
    whole = gradients(make_trainer(tmp_path / "a", dtype=torch.float64))
    split = gradients(make_trainer(tmp_path / "b", dtype=torch.float64, micro_batch=micro_batch))
    assert whole.keys() == split.keys() and len(whole) > 10
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], atol=1e-10, rtol=1e-8)


def test_the_loss_is_the_mean_over_all_trained_tokens_of_the_step(make_trainer):
    trainer = make_trainer(dtype=torch.float64, micro_batch=2)
    batches = trainer.batches(0)
    model = trainer.pair.student
    nats, tokens = 0.0, 0
    for batch in batches:  # the slow way: token by token
        logits = model(**batch.student).logits.detach()
        for row, place in batch.mask.nonzero().tolist():
            nats -= float(logits[row, place].log_softmax(-1)[batch.labels[row, place]])
            tokens += 1
    assert trainer.train_step()["sft"] == pytest.approx(nats / tokens, rel=1e-6)


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.pair.student.state_dict().items()}


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(make_trainer, tmp_path, stop):
    plain = make_trainer(tmp_path / "plain", save_every=1)
    plain.run()
    killed = make_trainer(tmp_path / "killed", save_every=1)
    step = killed.train_step

    def stopping():
        if killed.step == stop:
            raise KeyboardInterrupt
        return step()

    killed.train_step = stopping
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    resumed = make_trainer(tmp_path / "killed", save_every=1)
    resumed.run(resume=True)
    for name, tensor in weights(plain).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    lines = [[json.loads(x) for x in (t.folder / "metrics.jsonl").read_text().splitlines()] for t in (plain, resumed)]
    kept = [[{k: v for k, v in line.items() if k != "rows_per_second"} for line in run] for run in lines]
    assert kept[0] == kept[1]


SCRIPT = """
    import sys, time
    from pathlib import Path
    import stillroom.engine.loop as loop
    from stillroom.recipe import check
    from stillroom.run import execute
    slow = loop.Trainer.train_step
    def step(self):
        time.sleep(0.05)
        print("step", self.step, flush=True)
        return slow(self)
    loop.Trainer.train_step = step
    recipe = check({
        "name": sys.argv[2], "task": "language", "output": sys.argv[1], "method": "sft", "student": sys.argv[4],
        "data": {"train": sys.argv[5], "validation": sys.argv[5]},
        "train": {"steps": 24, "batch_size": 4, "save_every": 1, "evaluate_every": 4, "learning_rate": 0.01},
    })
    execute(recipe, resume=sys.argv[3] == "resume", timed=False)
"""


def test_killed_at_three_moments_and_resumed_it_ends_in_the_same_weights(tiny, tmp_path):
    rows = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"{n} plus 1 is", "completion": f" {n + 1}"} for n in range(30)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def start(name, mode):
        command = [sys.executable, str(script), str(tmp_path), name, mode, str(tiny), str(rows)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    plain = start("plain", "fresh")
    assert plain.communicate()[0].count("step") == 24 and plain.returncode == 0
    # A step takes 0.05 s at least, so the latest kill falls some four steps behind its moment: before the end.
    mode, moments = "fresh", [2, 8, 14]
    for moment in moments:
        process = start("killed", mode)
        for line in process.stdout:
            if line.strip() == f"step {moment}":
                time.sleep(0.014 * moment)  # at another place in the step each time
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        mode = "resume"
    last = start("killed", "resume")
    steps_left = last.communicate()[0].count("step")
    assert last.returncode == 0 and 0 < steps_left < 24
    names = [tmp_path / name / "model" / "model.safetensors" for name in ("plain", "killed")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_run_trains_though_its_caller_wants_no_gradients(make_trainer, tmp_path):
    trainer = make_trainer(folder=tmp_path / "quiet", steps=2)
    before = [value.clone() for value in trainer.pair.student.parameters()]
    with torch.no_grad():
        trainer.run()
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.pair.student.parameters(), strict=True))


def test_runs_of_one_process_may_differ_in_precision(make_trainer, tmp_path):
    for number, precision in enumerate(("no", "bf16", "no")):
        trainer = make_trainer(tmp_path / str(number), steps=1, precision=precision)
        trainer.run()
        assert trainer.accelerator.mixed_precision == precision


def test_a_run_that_is_there_is_not_overwritten(make_trainer, tmp_path):
    make_trainer(tmp_path / "run", save_every=2).run()
    with pytest.raises(UserError, match="--resume"):
        make_trainer(tmp_path / "run", save_every=2).run()


def test_a_checkpoint_of_another_recipe_is_refused(make_trainer, tmp_path):
    make_trainer(tmp_path / "run", save_every=2).run()
    with pytest.raises(UserError, match="another recipe"):
        make_trainer(tmp_path / "run", save_every=2, fingerprint="two").run(resume=True)


def test_the_best_evaluation_is_what_is_kept(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path / "run", evaluate_every=1, steps=4)
    seen = []
    scores = iter([1.0, 0.2, 0.8, 0.9])

    def evaluate(student):
        seen.append({name: tensor.clone() for name, tensor in student.state_dict().items()})
        return {"loss": next(scores)}

    trainer.evaluate = evaluate
    trained = trainer.run()
    assert trained.best == (2, 0.2)
    for name, tensor in weights(trainer).items():
        assert torch.equal(tensor, seen[1][name])


class Breaks(SupervisedTokens):
    """Becomes NaN at the third step, in its second part."""

    def parts(self, student, teacher, batch, step):
        good = super().parts(student, teacher, batch, step)["sft"]
        factor = float("nan") if step.number == 2 else 1.0
        return {"good": good, "bad": Reduced(good.sum * factor, good.count)}


def test_a_nan_stops_the_run_names_the_part_and_leaves_the_weights(make_trainer):
    trainer = make_trainer(objective=Breaks())
    trainer.train_step()
    trainer.step = 1
    trainer.train_step()
    trainer.step = 2
    before = weights(trainer)
    with pytest.raises(TrainingStopped, match=r"'bad'.*step 2"):
        trainer.train_step()
    for name, tensor in weights(trainer).items():
        assert torch.equal(tensor, before[name])


class OwnCount(Objective):
    needs = Needs(student=("logits",))
    units: ClassVar = {"own": "own"}

    def parts(self, student, teacher, batch, step):
        picked = student.logits[..., 0][batch.mask]
        return {"own": Reduced(picked[::2].sum(), torch.tensor(len(picked[::2])))}


def test_a_count_known_only_afterwards_cannot_be_accumulated(make_trainer):
    make_trainer(objective=OwnCount()).train_step()
    with pytest.raises(UserError, match="micro_batch"):
        make_trainer(objective=OwnCount(), micro_batch=2).train_step()


def test_a_disk_that_fills_up_leaves_the_old_checkpoint_whole(tmp_path):
    checkpoint.save(tmp_path, "step-000001", {"weights": torch.arange(10.0)})
    small, large = torch.arange(10.0), torch.zeros(4_000_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        with pytest.raises(UserError, match=r"could not be written.*--resume"):
            checkpoint.save(tmp_path, "step-000002", {"weights": large})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert torch.equal(checkpoint.load(tmp_path / "step-000001")["weights"], small)


def test_a_checkpoint_keeps_every_kind_of_state_and_tied_weights_once(tmp_path):
    tied = torch.randn(3, 2)
    state = {
        "a": tied,
        "again": tied,
        3: [1, 2.5, None, True, "x"],
        "pair": (torch.tensor(7), {"deep": torch.ones(2).half()}),
    }
    checkpoint.save(tmp_path, "step-000001", state)
    loaded = checkpoint.load(tmp_path / "step-000001")
    assert torch.equal(loaded["a"], tied) and torch.equal(loaded["again"], tied)
    assert loaded[3] == state[3] and loaded["pair"][1]["deep"].dtype == torch.float16
    tensors, _ = checkpoint.pack(state)
    assert len(tensors) == 3


def test_a_torn_checkpoint_is_named(tmp_path):
    path = checkpoint.save(tmp_path, "step-000001", {"weights": torch.ones(100)})
    file = path / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match="step-000001"):
        checkpoint.load(path)
