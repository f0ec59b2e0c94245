"""A user's step: its steady peak, whose the bytes are, and every refusal by name."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.card.targets import target_named
from bench.predict.any_step import StepPrediction, over_the_limit, predict_step
from distill.base.errors import UserError

Step = Callable[[], object]

WIDTH = 256


def built(device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer, Tensor]:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)).to(device)
    return model, torch.optim.AdamW(model.parameters()), torch.randn(8, WIDTH, device=device)


def plain_step(device: torch.device) -> Step:
    model, optimizer, images = built(device)

    def step() -> Tensor:
        logits = model(images)
        loss = logits.square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


@pytest.fixture(scope="module")
def plain() -> StepPrediction:
    return predict_step(plain_step)


def test_the_first_update_is_another_and_the_third_is_as_the_second(plain: StepPrediction) -> None:
    assert plain.updates == 3
    assert plain.peak_phase == "update" and plain.peak_update in (1, 2)
    assert plain.target.name == "rtx4050" and plain.allocator == "native"


def test_each_byte_that_is_reserved_has_an_owner(plain: StepPrediction) -> None:
    numbers = sum(p.numel() for p in built(torch.device("cpu"))[0].parameters())
    assert plain.breakdown["weights"] == 4 * numbers
    assert plain.breakdown["gradients"] == 4 * numbers
    assert plain.breakdown["optimizer_state"] == 8 * numbers
    assert sum(plain.breakdown.values()) == plain.reserved
    assert plain.requested <= plain.allocated <= plain.reserved <= plain.safe_bytes


def test_the_same_step_is_predicted_to_the_same_byte(plain: StepPrediction) -> None:
    assert predict_step(plain_step, target_named("rtx4050")) == plain


def test_what_is_over_a_limit_says_by_how_much_and_where(plain: StepPrediction) -> None:
    words = over_the_limit(plain, plain.safe_bytes - 2**20)
    assert words is not None
    for told in ("1.0 MiB more", plain.target.title, plain.peak_op, plain.peak_owner, "Largest"):
        assert told in words
    assert over_the_limit(plain, plain.safe_bytes) is None


def test_logits_that_are_held_keep_no_graph_after_backward() -> None:
    """As on a card: the engine empties each node, whoever holds it."""

    def holding(device: torch.device) -> Step:
        _model, _, images = built(device)
        deep = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(8))).to(device)
        held: list[Tensor] = []

        def step() -> None:
            held[:] = [deep(images)]
            held[0].sum().backward()
            deep.zero_grad()
            torch.zeros(64, WIDTH, WIDTH, device=device)  # the peak, long after backward

        return step

    def dropping(device: torch.device) -> Step:
        _model, _, images = built(device)
        deep = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(8))).to(device)

        def step() -> None:
            deep(images).sum().backward()
            deep.zero_grad()
            torch.zeros(64, WIDTH, WIDTH, device=device)

        return step

    logits_bytes = 4 * 8 * WIDTH
    difference = predict_step(holding).requested - predict_step(dropping).requested
    assert 0 <= difference <= 2 * logits_bytes


def test_parameters_that_are_tied_or_were_given_to_an_optimizer_stay_so() -> None:
    def tied(device: torch.device) -> Step:
        first, second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        second.weight = first.weight
        both = nn.Sequential(first, second)
        optimizer = torch.optim.SGD(both.parameters(), lr=0.1)
        both.to(device)
        assert first.weight is second.weight

        def step() -> None:
            both(torch.ones(4, WIDTH, device=device)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    assert predict_step(tied).breakdown["weights"] == 4 * (WIDTH * WIDTH + 2 * WIDTH)


def test_an_inference_block_is_traced_as_one_without_gradients() -> None:
    def teaching(device: torch.device) -> Step:
        model, _, images = built(device)

        def step() -> None:
            with torch.inference_mode():
                model(images)

        return step

    assert predict_step(teaching).breakdown["gradients"] == 0


def item(device: torch.device) -> Step:
    model, _optimizer, images = built(device)
    return lambda: model(images).sum().item()


def branch(device: torch.device) -> Step:
    model, _, images = built(device)
    return lambda: 1 if model(images).sum() > 0 else 2


def shaped(device: torch.device) -> Step:
    _model, _, images = built(device)
    return lambda: images[images > 0]


def recurrent(device: torch.device) -> Step:
    net = nn.LSTM(4, 4).to(device)
    return lambda: net(torch.ones(3, 2, 4, device=device))


def recurrent_cell(device: torch.device) -> Step:
    net = nn.LSTMCell(4, 4).to(device)
    return lambda: net(torch.ones(2, 4, device=device))


def own_kernel(device: torch.device) -> Step:
    return lambda: torch.ones(2, device=device).data_ptr()


class Doubled(torch.autograd.Function):
    """A function with a backward of its own."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient


def own_function(device: torch.device) -> Step:
    weight = torch.ones(3, device=device, requires_grad=True)
    return lambda: Doubled.apply(weight).sum().backward()


def without_rule(device: torch.device) -> Step:
    return lambda: torch.ones(3, 5, device=device).cumsum(0)


def line(device: torch.device) -> Step:
    net = nn.Conv1d(3, 3, 3).to(device)
    return lambda: net(torch.ones(2, 3, 8, device=device))


def transposed(device: torch.device) -> Step:
    net = nn.ConvTranspose2d(3, 3, 3).to(device)
    return lambda: net(torch.ones(2, 3, 8, 8, device=device))


def few_words(device: torch.device) -> Step:
    words = nn.Embedding(2, 8).to(device)
    return lambda: words(torch.zeros(4000, dtype=torch.int64, device=device)).sum().backward()


def growing(device: torch.device) -> Step:
    _model, _, images = built(device)
    kept: list[Tensor] = []
    return lambda: kept.append(images * 2)


def emptied(device: torch.device) -> Step:
    model, _, images = built(device)
    return lambda: (model(images), torch.cuda.empty_cache())


def searching(device: torch.device) -> Step:
    torch.backends.cudnn.benchmark = True
    model, _, images = built(device)
    return lambda: model(images).sum().backward()


def elsewhere(device: torch.device) -> Step:
    model, _, images = built(torch.device("cpu"))
    return lambda: model(images)


def card(device: torch.device) -> Step:
    return lambda: torch.Generator(device="cuda")


def hooked(device: torch.device) -> Step:
    model, _, images = built(device)
    return lambda: model(images).register_hook(print)


@pytest.fixture
def settings_are_put_back() -> object:
    yield
    torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize(
    ("make_step", "words"),
    [
        (item, "aten._local_scalar_dense.default reads a number of a tensor"),
        (branch, "aten._local_scalar_dense.default reads a number of a tensor"),
        (shaped, "the shape that aten.nonzero.default gives"),
        (recurrent, "a recurrent net can't be traced"),
        (recurrent_cell, "torch.lstm_cell can't be traced"),
        (own_kernel, "Tensor.data_ptr can't be traced"),
        (own_function, "Doubled, an autograd.Function"),
        (without_rule, "aten.cumsum.default on a card, which has no rule"),
        (line, "a 1-d convolution, whose workspace has no rule"),
        (transposed, "a transposed convolution, whose workspace has no rule"),
        (few_words, "an embedding of only 2 rows and 4000 indices"),
        (growing, "each update keeps 8192 B more of aten.mul.Tensor"),
        (emptied, "torch.cuda.empty_cache can't be traced"),
        (searching, "torch.backends.cudnn.benchmark can't be traced"),
        (card, "a call needs a card"),
        (hooked, "register_hook can't be traced"),
    ],
)
def test_what_cannot_be_predicted_is_refused_by_name(
    make_step: Callable[[torch.device], Step], words: str, settings_are_put_back: None
) -> None:
    with pytest.raises(UserError) as told:
        predict_step(make_step)
    assert words in str(told.value) and str(told.value).endswith("measure it on a GPU.")


def test_a_refusal_names_the_line_of_the_step() -> None:
    with pytest.raises(UserError, match=r"at test_step_prediction.py:\d+: aten._local"):
        predict_step(item)


def test_an_error_of_the_step_is_its_own() -> None:
    def wrong(device: torch.device) -> Step:
        return lambda: F.linear(torch.ones(2, 3, device=device), torch.ones(2, 4, device=device))

    with pytest.raises(RuntimeError, match="must have same reduction dim"):
        predict_step(wrong)


def test_nothing_stays_changed_after_a_refusal() -> None:
    before = torch.inference_mode, torch.cuda.empty_cache, torch.utils.swap_tensors
    with pytest.raises(UserError):
        predict_step(item)
    assert before == (torch.inference_mode, torch.cuda.empty_cache, torch.utils.swap_tensors)
    assert not torch.__future__.get_swap_module_params_on_conversion()


def test_attention_goes_to_the_kernel_that_each_card_takes() -> None:
    def attending(device: torch.device) -> Step:
        x = torch.randn(2, 4, 64, 32, device=device, dtype=torch.float16, requires_grad=True)
        return lambda: F.scaled_dot_product_attention(x, x, x).sum().backward()

    hopper = replace_capability((9, 0))
    with pytest.raises(UserError, match="cuDNN's kernel, which has no rule"):
        predict_step(attending, hopper)
    flash, efficient = (predict_step(attending, replace_capability(c)) for c in ((8, 9), (7, 5)))
    assert flash.requested != efficient.requested


def replace_capability(capability: tuple[int, int]) -> object:
    return target_named("rtx4050").model_copy(update={"compute_capability": capability})


def test_a_card_that_is_not_known_and_a_step_that_is_none_are_told() -> None:
    with pytest.raises(UserError, match="Unknown target"):
        predict_step(plain_step, "rtx9")
    with pytest.raises(UserError, match="target is None"):
        predict_step(plain_step, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="make_step is int"):
        predict_step(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "make_step gives NoneType, not a step"),
        (lambda batch: None, "without arguments: missing a required argument: 'batch'"),
        (torch.nn.Linear(2, 2), "without arguments: missing a required argument: 'input'"),
    ],
)
def test_a_step_that_cannot_be_called_is_told(made: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        predict_step(lambda device: made)  # type: ignore[arg-type, return-value]


def test_a_step_that_builds_elsewhere_is_told_where() -> None:
    with pytest.raises(UserError, match=r"nothing on the device. Build on the one"):
        predict_step(elsewhere)
