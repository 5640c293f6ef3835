"""Programs that a model wrote: what they may do, and that nothing else gets through, wall by wall.

.venv/bin/python -m pytest tests/verify/test_programs.py
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

from stillroom.verify import Failed, limited, run_program
from stillroom.verify.limited import ERROR, LARGE, NO_ANSWER, REFUSED, SLOW, UNREADABLE

SOURCE = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("total = 30\nmore = 4\nans = (total + more) / 2", 17),
        ("ans = 1 / 4", Fraction(1, 4)),
        ("ans = 0\nfor n in range(1, 11):\n    ans += n", 55),
        ("n = 100\nwhile n > 7:\n    n = n // 2\nans = n", 6),
        ("parts = [n * n for n in range(4)]\nans = sum(parts) + max(parts[1], 2)", 16),
        ("a, b = divmod(17, 5)\nif a > b:\n    ans = round(a / b, 2)\nelse:\n    ans = 0\nprint(ans)", Fraction(1.5)),
        ("ans = 2 if not 3 < 2 <= 5 and True else 1", 2),
    ],
)
def test_a_program_is_run(program, value):
    assert run_program(program) == value


def test_another_variable_can_be_asked_for():
    assert run_program("answer = 3", "answer") == 3
    assert run_program("answer = 3") == Failed(NO_ANSWER, "'ans' is missing")


HOSTILE = [
    ("import os\nans = 1", REFUSED),
    ("from os import fork", REFUSED),
    ("__import__('os')", REFUSED),
    ("ans = ().__class__.__bases__[0].__subclasses__()", REFUSED),
    ("ans = (1).real", REFUSED),
    ("ans = getattr(1, 'real')", REFUSED),
    ("ans = open('/etc/passwd')", REFUSED),
    ("ans = eval('1')", REFUSED),
    ("ans = __builtins__", REFUSED),
    ("ans = 'a'", REFUSED),
    ("ans = f'{1:>1000000000}'", REFUSED),
    ("def f():\n    return f()\nans = f()", REFUSED),
    ("ans = (lambda: 1)()", REFUSED),
    ("class A: pass", REFUSED),
    ("with x: pass", REFUSED),
    ("try:\n    ans = 1\nexcept:\n    pass", REFUSED),
    ("global ans", REFUSED),
    ("del ans", REFUSED),
    ("ans = [1 async for x in y]", REFUSED),
    ("ans = range(3)[0](1)", REFUSED),
    ("while True: pass", SLOW),
    ("ans = 9 ** 9 ** 9 ** 9", SLOW),
    ("ans = sum(1 for a in range(10**9) for b in range(10**9))", SLOW),
    ("ans = [0] * 10 ** 10", LARGE),
    ("x = [1]\nwhile True:\n    x = x + x", LARGE),
    ("ans = 1 / 0", ERROR),
    ("ans = nothing", ERROR),
    ("max = 1\nans = max(1, 2)", ERROR),
    ("ans = 10 ** 6000", NO_ANSWER),
    ("ans = 1e999", NO_ANSWER),
    ("ans = [1]", NO_ANSWER),
    ("ans = 1 == 1", NO_ANSWER),
    ("ans = -1 ** 0.5 * (-1) ** 0.5", NO_ANSWER),
    ("x = 1", NO_ANSWER),
    ("", NO_ANSWER),
    ("ans = = 1", UNREADABLE),
    ("ans = " + "(" * 1500 + "1" + ")" * 1500, UNREADABLE),
    ("ans = " + "-" * 3900 + "1", UNREADABLE),
    ("ans = 1\0", UNREADABLE),
    ("x" * 5000, UNREADABLE),
]


@pytest.mark.parametrize(("program", "reason"), HOSTILE)
def test_whatever_else_it_does_fails_and_is_soon_over(program, reason):
    started = time.monotonic()
    found = run_program(program, seconds=1.0 if reason == SLOW else 20.0)
    assert isinstance(found, Failed) and found.reason == reason, found
    assert time.monotonic() - started < (8 if reason == SLOW else 20)
    assert run_program("ans = 1") == 1  # and the next one runs


# --- the walls behind the whitelist: code that it would never let through, in the worker's own child ------------------

CODE = """
import os, signal, socket, subprocess, sys, time

def bomb():
    while True:
        os.fork()

def children():
    made = 0
    for _ in range(3):
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            made += 1
        except OSError:
            pass
    return made

def secrets():
    return [dict(os.environ), sys.argv[1:]]

def opened(path, mode):
    with open(path, mode) as file:
        return file.read() if "r" in mode else file.write("x")

def deaf():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        pass

ACTS = {
    "bomb": bomb, "children": children, "secrets": secrets, "read": lambda: opened("/etc/hostname", "r"),
    "write": lambda: opened(PLACE, "w"), "sleep": lambda: time.sleep(60), "deaf": deaf, "long": lambda: "x" * 10**7,
    "memory": lambda: len(bytearray(10**9)), "socket": lambda: socket.socket() and 1,
    "command": lambda: subprocess.run(["true"]).returncode, "gone": lambda: os._exit(3),
    "killed": lambda: os.kill(os.getpid(), signal.SIGSEGV), "recursion": lambda: ACTS["recursion"](),
    "fine": lambda: 1,
}

def task(given):
    return ACTS[given]
"""
DRIVER = """
import json, sys
from stillroom.verify import worker
worker.TASKS["hostile"] = worker.Task("hostile", sealed=True)
asked = {"task": "hostile", "seconds": 1.0, "memory": 2**27}
for act in sys.argv[1:]:
    print(worker._answer(asked | {"given": act}).decode())
"""


@pytest.fixture
def act(tmp_path):
    """What becomes of acts in the sealed child."""
    (tmp_path / "hostile.py").write_text(f"PLACE = {str(tmp_path / 'written')!r}\n{CODE}")

    def run(*names):
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, *names],
            env=os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{tmp_path}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not hold all of these limits")
def test_the_walls_hold_without_the_whitelist(act, tmp_path):
    found = act("bomb", "children", "read", "write", "socket", "command", "memory", "fine")
    names = ("bomb", "children", "read", "write", "socket", "command", "memory")
    said = dict(zip(names, found, strict=False))
    assert found[-1] == {"value": 1}
    assert said["children"] == {"value": 0}
    for name in ("bomb", "read", "write", "socket", "command"):
        assert said[name]["failed"][0] == ERROR and "Error" in said[name]["failed"][1], (name, said[name])
    assert said["memory"]["failed"][0] == LARGE
    assert not (tmp_path / "written").exists()


def test_what_does_not_end_is_ended(act):
    started = time.monotonic()
    found = act("sleep", "deaf", "long", "gone", "killed", "recursion", "fine")
    assert [one.get("failed", ["fine"])[0] for one in found] == [SLOW, SLOW, LARGE, ERROR, ERROR, ERROR, "fine"]
    assert time.monotonic() - started < 20


def test_the_worker_knows_nothing_of_this_process(monkeypatch):
    """No key of the environment reaches it."""
    monkeypatch.setenv("OPENAI_API_KEY", "a secret")
    limited._WORKER._end()
    assert run_program("ans = 1") == 1
    process = limited._WORKER._process
    environment = Path(f"/proc/{process.pid}/environ")
    if not environment.exists():
        pytest.skip("this system has no /proc")
    assert b"a secret" not in environment.read_bytes() and b"PYTHONPATH" in environment.read_bytes()


def test_a_worker_that_is_gone_is_started_again():
    assert run_program("ans = 1") == 1
    os.kill(limited._WORKER._process.pid, signal.SIGKILL)
    limited._WORKER._process.wait()
    assert run_program("ans = 2") == 2
    os.kill(limited._WORKER._process.pid, signal.SIGKILL)  # not yet waited for: the pipe breaks instead
    assert run_program("ans = 3") == 3


def test_threads_share_the_worker():
    found = {}

    def ask(number):
        found[number] = run_program(f"ans = {number} * 2")

    threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: number * 2 for number in range(8)}


def test_limits_must_be_above_zero():
    with pytest.raises(ValueError, match="must be above 0"):
        run_program("ans = 1", seconds=0)
