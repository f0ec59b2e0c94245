"""`predict_step`: the memory that a user's own training step takes of a card, without a GPU.

    from bench.predict.any_step import predict_step

    def make_step(device):
        model = Net().to(device)
        optimizer = torch.optim.AdamW(model.parameters())

        def step():
            loss = model(images(device)).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    prediction = predict_step(make_step, target="rtx4050")
    assert prediction.safe_bytes <= 5 * 2**30

Everything happens on fake tensors: nothing is computed, no card is looked at, and no number can be
read from a tensor. `bench.predict.limit_vram` makes a marker of pytest of it.
"""

import warnings

from bench.card.budget import limit_on
from bench.card.releases import release_notes
from bench.card.targets import target_named
from bench.simulate.user_step.step_prediction import StepPrediction, predict_on
from bench.simulate.user_step.step_trace import MakeStep, Step
from distill.base.errors import UserError
from distill.base.units import bytes_text
from distill.spec.candidate import Allocator
from distill.spec.profile import Target

__all__ = ["MakeStep", "Step", "StepPrediction", "limit_on", "over_the_limit", "predict_step"]


def predict_step(
    make_step: MakeStep, target: str | Target = "rtx4050", *, allocator: Allocator = "native"
) -> StepPrediction:
    """The peaks of building a step and of all its updates, in bytes, for a card.

    `make_step(device)` builds module, loss, optimizer and batch on a `torch.device("cuda")` that
    is fake, and gives a function without arguments that runs one update: its own loop over
    micro-batches, autocast, gradient scaler, clipping, a running mean of the weights. That is
    called until an update is as the one before it (the first makes the optimizer's state), so the
    peaks are those of a run of any length. What happens every so many updates only is not seen.

    `target` is a name of `bench cards`, a TOML file with a card, or a card. `allocator` is "native"
    as PyTorch's is, or "expandable", with PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True.

    Warns where torch is not of the release whose rules these are.

    Raises `UserError` for an unknown card and for what can't be predicted, naming the op: a value
    that is read (`.item()`), a shape that depends on values, a kernel that is not PyTorch's, a
    recurrent net of cuDNN, any op whose memory on a card has no rule. An error of the step's own
    code is raised as it is.
    """
    if not callable(make_step):
        raise UserError(f"make_step is {type(make_step).__name__}, not a function of a device.")
    if not isinstance(target, str | Target):
        raise UserError(f"target is {target!r}: give a name of bench cards, or a TOML file.")
    for note in release_notes():
        warnings.warn(note, stacklevel=2)
    card = target if isinstance(target, Target) else target_named(target)
    return predict_on(make_step, card, allocator)


def over_the_limit(prediction: StepPrediction, limit_bytes: int) -> str | None:
    """Why a step is over a limit: its peak, whose the bytes are and the op. `None` if it is not."""
    needed = prediction.safe_bytes
    if needed <= limit_bytes:
        return None
    update = f"update {prediction.peak_update}" if prediction.peak_update else "building the step"
    module = f" in {prediction.peak_module}" if prediction.peak_module else ""
    owners = sorted(prediction.breakdown.items(), key=lambda one: -one[1])
    listed = ", ".join(
        f"{name.replace('_', ' ')} {bytes_text(size)}" for name, size in owners if size
    )
    largest = "; ".join(
        f"{bytes_text(one.size_bytes)} of {one.owner.replace('_', ' ')}, {one.op}"
        + (f" in {one.module}" if one.module else "")
        for one in prediction.largest
    )
    return (
        f"The step is predicted to need {bytes_text(needed)} on {prediction.target.title}, "
        f"{bytes_text(needed - limit_bytes)} more than its limit of {bytes_text(limit_bytes)}.\n"
        f"Peak: {prediction.peak_phase} of {update}, {prediction.peak_op}{module}, "
        f"for {prediction.peak_owner.replace('_', ' ')}.\n"
        f"Of {bytes_text(prediction.reserved)} reserved then: {listed}.\n"
        f"Largest: {largest}."
    )
