"""Images that would be alone in a micro-batch, where batch norm or mixing needs another."""

from distill.base.errors import UserError
from distill.data.batches import micro_batch_sizes
from distill.spec.image_files import count_of
from distill.spec.stage_plan import StagePlan
from distill.step.meta_forward import fewest_images


def checked_fewest(plan: StagePlan) -> int:
    """The fewest images that the stage's model learns from at a time.

    Raises `UserError` where the plan has fewer, or the model can't take images of that size.
    """
    candidate = plan.candidate
    fewest = fewest_images(candidate)
    if min(candidate.micro_batch, plan.training.effective_batch) < fewest:
        raise UserError(
            f"Stage {candidate.stage}: {_who(plan)} takes no image "
            f"alone. Choose --batch-size {fewest} or more, and an effective_batch of as many."
        )
    return fewest


def left_out_note(plan: StagePlan, images: int, fewest: int) -> str | None:
    """A sentence on the images of an epoch that no micro-batch has a place for, if any."""
    together, micro_batch = plan.training.effective_batch, plan.candidate.micro_batch
    full, rest = divmod(images, together)
    taken = full * sum(micro_batch_sizes(together, micro_batch, fewest))
    taken += sum(micro_batch_sizes(rest, micro_batch, fewest))
    if taken == images:
        return None
    return (
        f"{count_of(images - taken, 'image')} of {images:,} left out of each epoch, others each "
        f"time: {_who(plan)} takes no image alone"
    )


def _who(plan: StagePlan) -> str:
    """The part of the stage that needs two images."""
    candidate = plan.candidate
    return "mixing" if candidate.input.mixes else f"batch norm in {candidate.student.title}"
