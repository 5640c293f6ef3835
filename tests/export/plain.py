"""What the tests of exports share: a process without stillroom, and what lies in a folder."""

import json
import os
import subprocess
import sys


def plainly(code, *arguments):
    """Run code in a fresh process, out of the repository, where stillroom can't be imported; its last line is JSON."""
    blocked = "import sys; sys.modules['stillroom'] = None\n"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", blocked + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
