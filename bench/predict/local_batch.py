"""The images of an update that each process of a distributed run takes. Loads torch."""

from bench.predict.question import Question, candidate_for
from distill.base.errors import UserError
from distill.data.share import Share
from distill.spec.image_files import count_of
from distill.spec.recipe import Recipe
from distill.step.meta_forward import fewest_images


def local_batch(recipe: Recipe, question: Question, processes: int) -> int:
    """The most images of the recipe's update that one of so many processes takes.

    Raises `UserError` where `--batch-size` asks one of several for more.
    """
    whole = recipe.training_of(recipe.stage_named(question.stage).name).effective_batch
    if processes == 1:
        return whole
    fewest = fewest_images(candidate_for(recipe, question))
    most = max(map(len, Share(ranks=processes).parts(whole, fewest)))
    if question.batch_size > most:
        raise UserError(
            f"--batch-size {question.batch_size} is more than each of {processes:,} processes "
            f"takes of an update of {count_of(whole, 'image')}, which is {most}. Give at most that."
        )
    return most
