"""How many images a core prepares a second: this project's input against the usual PIL path.

    python tests/benchmarks/input_pipeline.py [--images 4000] [--rounds 5]

Both get the same 32-px colour images and give batches of 64 for a model at 224 px. The usual path
is torchvision's, image by image: Resize 256, RandomCrop 224, RandomHorizontalFlip, ToTensor,
Normalize. Here the core only draws and gathers uint8 (host part); crop, flip, resize and normalise
run in batch on the device. On a machine with a GPU the host part is all that a core does. The last
row runs the device part on the same core too. One thread; the rounds alternate; medians of
processor time.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from distill.candidate import InputSpec
from distill.data.batches import training_batches
from distill.data.dataset import Split
from distill.data.prepare import Prepare
from distill.models import Normalisation

BATCH, SIZE = 64, 224


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = photographs(options.images)
    paths: dict[str, tuple[Callable[[Split], int], int]] = {
        "usual PIL path": (per_image, 400),
        "host part: draw and gather": (host, options.images),
        "host and device part on one core": (host_and_device, 400),
    }
    rates: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(options.rounds):
        for name, (path, images) in paths.items():
            part = data.take(np.arange(min(images, options.images)))
            began = time.process_time()
            count = path(part)
            rates[name].append(count / (time.process_time() - began))
    usual = statistics.median(rates["usual PIL path"])
    print("| path | images/s a core | against the usual |\n|---|---|---|")
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"| {name} | {median:,.0f} | {median / usual:,.1f} × |")


def photographs(count: int) -> Split:
    """32-px pieces of the two photographs that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photos = load_sample_images().images
    images = np.empty((count, 3, 32, 32), dtype=np.uint8)
    for row in range(count):
        photo = photos[row % 2]
        y, x = (generator.integers(0, side - 32) for side in photo.shape[:2])
        images[row] = photo[y : y + 32, x : x + 32].transpose(2, 0, 1)
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
    updates = training_batches(
        data, SPEC, seed=0, epoch=0, micro_batch=BATCH, effective_batch=BATCH
    )
    return (batch for update in updates for batch in update)


if __name__ == "__main__":
    main()
