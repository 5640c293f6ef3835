"""What a long command says while it works: one line a message on stderr, the libraries' own chatter kept down."""

from __future__ import annotations

import logging
import os
import warnings


def show_progress() -> None:
    """Print stillroom's own messages; of the libraries only warnings that matter.

    Of several processes only the first tells how things go.
    """
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("stillroom").setLevel(logging.INFO if first else logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging as of_transformers

    disable_progress_bar()
    of_transformers.disable_progress_bar()
    of_transformers.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning)
