"""How many images a core prepares a second: this project's input against the usual PIL path.

    python tests/benchmarks/input_pipeline.py [--images 4000] [--rounds 5]

Both get the same 32-px colour images and give batches of 64 for a model at 224 px. The usual path
is torchvision's, image by image: Resize 256, RandomCrop 224, RandomHorizontalFlip, ToTensor,
Normalize. Here the core only draws and gathers uint8 (host part); crop, flip, resize and normalise
run in batch on the device. On a machine with a GPU the host part is all that a core does. The third
row runs the device part on the same core too. The last two are for images that have 224 px
themselves, as the large MedMNIST sets: on the usual path from memory, here from a memory-mapped
file that the system's page cache holds. One thread; the rounds alternate; medians of processor
time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from distill.data.batches import training_batches
from distill.data.dataset import Split
from distill.spec.candidate import InputSpec
from distill.step.models import Normalisation
from distill.step.prepare import Prepare

BATCH, SIZE = 64, 224


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    small = photographs(options.images, 32)
    large = photographs(options.images, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, tuple[Callable[[Split], int], Split, int]] = {
            "32 px: usual PIL path": (per_image, small, 400),
            "32 px: host part, from memory": (host, small, options.images),
            "32 px: host and device part on one core": (host_and_device, small, 400),
            "224 px: usual PIL path": (per_image, large, 400),
            "224 px: host part, from a mapped file": (host, mapped(large, Path(folder)), 2000),
        }
        rates = timed(paths, options.rounds)
    print("| path | images/s a core | against the usual |\n|---|---|---|")
    for name, rate in rates.items():
        usual = rates[f"{name.split(':')[0]}: usual PIL path"]
        print(f"| {name} | {rate:,.0f} | {rate / usual:,.1f} × |")


def timed(
    paths: dict[str, tuple[Callable[[Split], int], Split, int]], rounds: int
) -> dict[str, float]:
    """Images per second of processor time, the median of rounds that alternate."""
    rates: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, (path, data, images) in paths.items():
            part = data.take(np.arange(min(images, len(data))))
            began = time.process_time()
            count = path(part)
            rates[name].append(count / (time.process_time() - began))
    return {name: statistics.median(values) for name, values in rates.items()}


def mapped(data: Split, folder: Path) -> Split:
    """The same images as MedMNIST's files hold them: (N, S, S, 3), mapped."""
    path = folder / "images.npy"
    np.save(path, data.images.transpose(0, 2, 3, 1))
    return Split(np.load(path, mmap_mode="r").transpose(0, 3, 1, 2), data.labels)


def photographs(count: int, size: int) -> Split:
    """Pieces of the two photographs that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photos = load_sample_images().images
    images = np.empty((count, 3, size, size), dtype=np.uint8)
    for row in range(count):
        photo = photos[row % 2]
        y, x = (generator.integers(0, side - size) for side in photo.shape[:2])
        images[row] = photo[y : y + size, x : x + size].transpose(2, 0, 1)
    return Split(images, np.zeros(count, dtype=np.int64))


def per_image(data: Split) -> int:
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.RandomCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    pictures = data.images.transpose(0, 2, 3, 1)
    for start in range(0, len(data), BATCH):
        rows = range(start, min(start + BATCH, len(data)))
        torch.stack([transform(Image.fromarray(pictures[row])) for row in rows])
    return len(data)


def host(data: Split) -> int:
    return sum(len(batch) for batch in batches(data))


def host_and_device(data: Split) -> int:
    prepare = Prepare(SPEC, SIZE, Normalisation((0.5,) * 3, (0.5,) * 3), torch.device("cpu"))
    return sum(len(prepare(batch)) for batch in batches(data))


SPEC = InputSpec(source_size=32, crop_padding=4, flip=True)


def batches(data: Split):
    spec = replace(SPEC, source_size=data.images.shape[-1])
    updates = training_batches(
        data, spec, seed=0, epoch=0, micro_batch=BATCH, effective_batch=BATCH
    )
    return (batch for update in updates for batch in update)


if __name__ == "__main__":
    main()
