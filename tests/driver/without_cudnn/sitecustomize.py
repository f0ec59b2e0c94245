"""Turns cuDNN off in every process under the driver, which does not imitate it.

PyTorch's own convolutions stand in. Python loads this before all else, so it waits for the module
that every measuring process imports.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType


class AfterMemory(importlib.abc.MetaPathFinder):
    """Adds one line to the end of `distill.step.memory`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "distill.step.memory":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        run = spec.loader.exec_module

        def run_and_turn_off(module: ModuleType) -> None:
            run(module)
            module.torch.backends.cudnn.enabled = False  # type: ignore[attr-defined]

        spec.loader.exec_module = run_and_turn_off  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, AfterMemory())
