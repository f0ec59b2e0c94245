"""A plugin of pytest: `@pytest.mark.limit_vram("5 GiB")` on a test that builds a training step.

    @pytest.mark.limit_vram("5 GiB", target="rtx4050")
    def test_training_fits(vram_device):
        model = Net().to(vram_device)
        optimizer = torch.optim.AdamW(model.parameters())

        def step():
            ...

        return step

The test is the `make_step` of `predict_step`: what it gives is called as one update, on fake
tensors, as often as it takes. It fails where a card would have to reserve more than the limit, and
where the step can't be predicted. Without a size the limit is what the card leaves to PyTorch.
Fixtures run before, where no fake card is: what they build has to stay on the CPU.
`allocator` may be "native" (the default, as PyTorch's) or "expandable".

Found by pytest where this package is installed. Costs nothing in a session without such a test.
"""

from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

import pytest
from _pytest.unittest import TestCaseFunction

from bench.predict.limit_text import limit_in_bytes
from distill.base.errors import UserError

MARKER = (
    "limit_vram(limit, *, target, allocator): fail where the step that the test returns needs more "
    'of a card than that ("5 GiB", or bytes), predicted without a GPU'
)

OPTIONS = {"limit", "target", "allocator"}
ALLOCATORS = ("native", "expandable")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def vram_device(request: pytest.FixtureRequest) -> Any:
    """The fake device that a marked test builds its step on, a `torch.device`.

    Fails a test without the mark, which would build on a card that is there.
    """
    if request.node.get_closest_marker("limit_vram") is None:
        pytest.fail(
            'vram_device is for tests with a mark: @pytest.mark.limit_vram("5 GiB").', pytrace=False
        )
    return import_module("torch").device("cuda")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail a marked method of `unittest`, which would pass unseen: it can't give a step."""
    if isinstance(item, TestCaseFunction) and item.get_closest_marker("limit_vram"):
        pytest.fail(
            "limit_vram: A test of unittest.TestCase can't give a step. Make it a function, or a "
            "method of a plain class.",
            pytrace=False,
        )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Run a marked test as the `make_step` of a prediction."""
    mark = pyfuncitem.get_closest_marker("limit_vram")
    if mark is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    try:
        words = _judged(mark, lambda device: _built(pyfuncitem.obj, arguments))
    except UserError as error:
        words = str(error)
    if words is not None:
        pytest.fail(f"limit_vram: {words}", pytrace=False)
    return True


def _judged(mark: pytest.Mark, make_step: Any) -> str | None:
    """Why the step is over the mark's limit, or `None`. Raises `UserError` for a wrong mark."""
    # Only now: it loads torch, which takes seconds, and most sessions have no such test.
    any_step = import_module("bench.predict.any_step")
    asked = dict(mark.kwargs)
    if len(mark.args) > 1 or not asked.keys() <= OPTIONS or (mark.args and "limit" in asked):
        raise UserError('The mark takes a limit, target and allocator: limit_vram("5 GiB").')
    if mark.args:
        asked["limit"] = mark.args[0]
    limit, target = asked.get("limit"), asked.get("target", "rtx4050")
    allocator = asked.get("allocator", "native")
    if allocator not in ALLOCATORS:
        raise UserError(f"{allocator!r} is no allocator: {' or '.join(ALLOCATORS)}.")
    limit_bytes = None if limit is None else limit_in_bytes(limit)
    prediction = any_step.predict_step(make_step, target, allocator=allocator)
    if limit_bytes is None:
        limit_bytes = any_step.limit_on(prediction.target)
    words: str | None = any_step.over_the_limit(prediction, limit_bytes)
    return words


def _built(test: Any, arguments: dict[str, Any]) -> Any:
    """What the test gives, which has to be a step."""
    if iscoroutinefunction(test):
        raise UserError(f"{test.__name__} is async: write it as a plain function.")
    step = test(**arguments)
    if not callable(step):
        raise UserError(
            f"{test.__name__} gives {type(step).__name__}, not a step: "
            "return the function that runs one update."
        )
    return step
