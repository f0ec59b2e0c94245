"""The share of each process is the same images, once each, however many processes there are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distill.data.batches import images_learnt_from, micro_batch_sizes, training_batches
from distill.data.dataset import Split
from distill.data.share import WHOLE, Share
from distill.spec.candidate import InputSpec

IMAGES, RANKS, FEWEST = st.integers(1, 300), st.integers(1, 9), st.integers(1, 3)


@given(IMAGES, RANKS, FEWEST)
def test_parts_follow_each_other_and_are_as_even_as_may_be(
    images: int, ranks: int, fewest: int
) -> None:
    parts = Share(0, ranks).parts(images, fewest)
    if images // fewest < ranks:
        assert parts == [range(images)] * ranks
        return
    assert [place for part in parts for place in part] == list(range(images))
    sizes = [len(part) for part in parts]
    assert min(sizes) >= fewest
    assert max(sizes) - min(sizes) <= fewest + images % fewest


@given(IMAGES, RANKS, FEWEST)
def test_outcomes_are_told_once_for_each_image(images: int, ranks: int, fewest: int) -> None:
    shares = [Share(rank, ranks) for rank in range(ranks)]
    told = [
        place
        for share in shares
        if share.counts(images, fewest)
        for place in share.part(images, fewest)
    ]
    assert told == list(range(images))


@given(IMAGES, st.integers(1, 64), FEWEST)
def test_alone_a_process_takes_what_it_always_took(images: int, micro: int, fewest: int) -> None:
    assert WHOLE.part(images, fewest) == range(images)
    expected = sum(micro_batch_sizes(images, micro, fewest))
    assert images_learnt_from(images, micro, fewest) == expected


@given(st.integers(2, 60), st.integers(1, 4), st.integers(1, 8), st.integers(1, 24))
def test_an_epoch_has_the_same_images_in_each_update_whatever_the_number_of_processes(
    images: int, ranks: int, micro_batch: int, effective_batch: int
) -> None:
    data = Split(np.zeros((images, 1, 4, 4), dtype=np.uint8), np.arange(images))

    def updates(share: Share) -> list[list[int]]:
        spec = InputSpec(source_size=4, crop_padding=0, flip=False)
        cut = training_batches(
            data,
            spec,
            seed=3,
            epoch=1,
            micro_batch=micro_batch,
            effective_batch=effective_batch,
            share=share,
        )
        return [[int(label) for batch in update for label in batch.labels] for update in cut]

    alone = updates(WHOLE)
    together = [updates(Share(rank, ranks)) for rank in range(ranks)]
    for place, whole in enumerate(alone):
        parts = [one[place] for one in together]
        shared = len(whole) >= ranks
        assert [label for part in parts for label in part] == whole * (1 if shared else ranks)
