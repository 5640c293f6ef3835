"""A run's checkpoints: what is in them, which one a run goes on from, and which are refused.

``step-N`` is all that a run goes on from, ``best-N`` the weights of its best evaluation. Both are whole, however many
processes have a part of them (`stillroom.engine.checkpoint` writes and reads them).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from stillroom.engine import checkpoint, sharding
from stillroom.errors import UserError


class Checkpoints:
    """Those of one run.

    Args:
        folder: of the run.
        fingerprint: of the recipe; a checkpoint of another one is refused.
        rows: of the rows' order, likewise.
        accelerator: of this process; the first alone writes.
        pair: student and objective, as they are trained.
        optimizer: theirs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fingerprint: str,
        rows: str,
        accelerator: Accelerator,
        pair: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.run, self.folder, self.fingerprint, self.rows = folder, folder / "checkpoints", fingerprint, rows
        self.accelerator, self.pair, self.optimizer = accelerator, pair, optimizer

    def load(self, *, resume: bool) -> dict[str, Any] | None:
        """Go on from the newest ``step-N``: its weights and moments are loaded.

        Returns:
            What was saved beside them; None if there is no checkpoint.

        Raises:
            UserError: there is one and ``resume`` is false; it is of another recipe or of other rows.
        """
        saved = checkpoint.found(self.folder, "step")
        if not saved:
            if self.accelerator.is_main_process:
                checkpoint.prune(self.folder, "best", keep=0)
            return None
        if not resume:
            raise UserError(
                f"{self.run} already holds a run ({saved[-1].name}); go on with --resume, or give another name"
            )
        state = checkpoint.load(saved[-1])
        if state["fingerprint"] != self.fingerprint:
            raise UserError(
                f"the checkpoint {saved[-1]} belongs to another recipe; resume with the recipe in "
                f"{self.run / 'recipe.yaml'}, or give the run another name"
            )
        if state["rows"] != self.rows:
            raise UserError(
                f"the rows are not those that the checkpoint {saved[-1]} was trained on; bring the data back as they "
                "were, or give the run another name"
            )
        sharding.load_module(self._bare, state["pair"])
        sharding.load_optimizer(self.optimizer, state["optimizer"])
        return state

    def save(self, step: int, progress: dict[str, Any], *, keep: int) -> None:
        """Write ``step-N`` with what else the run needs to go on; only the newest ``keep`` stay."""
        moments = sharding.gathered(self.optimizer.state_dict(), keep=self.accelerator.is_main_process)
        self._write("step", step, {"rows": self.rows, "optimizer": moments, "step": step} | progress, keep)

    def save_best(self, step: int) -> None:
        """Write ``best-N`` in place of an earlier one."""
        self._write("best", step, {}, 1)

    def load_best(self) -> None:
        """Give the pair the weights of the best evaluation."""
        sharding.load_module(self._bare, checkpoint.load(checkpoint.found(self.folder, "best")[-1])["pair"])

    def weights(self) -> dict[str, Any]:
        """Of student and objective, whole; on other processes than the first only what was never shared out."""
        state: dict[str, Any] = sharding.gathered(self._bare.state_dict(), keep=self.accelerator.is_main_process)
        return state

    @property
    def _bare(self) -> nn.Module:
        bare: nn.Module = self.accelerator.unwrap_model(self.pair)
        return bare

    def _write(self, kind: str, step: int, more: dict[str, Any], keep: int) -> None:
        state = {"fingerprint": self.fingerprint, "pair": self.weights()} | more
        if self.accelerator.is_main_process:
            checkpoint.save(self.folder, f"{kind}-{step:06d}", state)
            checkpoint.prune(self.folder, kind, keep)
        self.accelerator.wait_for_everyone()
