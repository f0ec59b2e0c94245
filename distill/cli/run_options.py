"""The options of `distill run`, in the groups that its help shows. No torch, no pydantic.

`run_options` decorates a command; what was given arrives as one `RunOptions`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import click

from distill.base.console import CountOr, GroupedOption, Number, OneOf, taking
from distill.spec.bounds import (
    MOST_BLOCKS,
    MOST_EPOCHS,
    MOST_IMAGES,
    MOST_LABEL_SMOOTHING,
    MOST_LEARNING_RATE,
    MOST_MIXING,
    MOST_PATCH_DROP_RATE,
    MOST_PIXELS,
    MOST_TEACHER_VIEWS,
    MOST_WEIGHT_DECAY,
    MOST_WORKERS,
)
from distill.spec.candidate import (
    PRECISIONS,
    STAGES,
    Balance,
    Checkpointing,
    Criterion,
    Optimizer,
    Precision,
    Schedule,
    SoftLoss,
    StageName,
    TeacherMode,
)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The command line of `distill run`; `None` asks for nothing."""

    profile_path: Path | None
    recipe_name: str | None
    stage: StageName | Literal["all"]
    out: Path
    fresh: bool
    device: str
    dataset: str | None
    model: tuple[str, ...]
    image_size: int | None
    data_dir: Path
    num_workers: int | None
    threads: int | None
    skip_unreadable: bool
    pretrained: bool | None
    weights: tuple[str, ...]
    teacher_weights: str | None
    teacher_model: str | None
    epochs: int | None
    seed: int | None
    optimizer: Optimizer | None
    lr: float | None
    weight_decay: float | None
    scheduler: Schedule | None
    step_epochs: int | None
    warmup_epochs: float | None
    criterion: Criterion | None
    patience: int | None
    balance: Balance | None
    label_smoothing: float | None
    layer_decay: float | None
    patch_drop_rate: float | None
    mixup: float | None
    cutmix: float | None
    kd_loss: SoftLoss | None
    teacher: TeacherMode | None
    teacher_views: int | None
    alpha: float | None
    temperature: float | None
    batch_size: int | None
    precision: Precision | None
    mixed_precision: bool | None
    checkpointing: Checkpointing | None
    gradient_checkpointing: bool | None
    compile: Literal["blocks"] | None
    deterministic: bool
    empty_cache_every: int | None
    reverify: bool
    force: bool
    json_log: Path | None
    memory_log: bool
    attention: bool


def _group(title: str) -> Callable[..., Any]:
    return partial(click.option, cls=GroupedOption, title=title)


_what, _where = _group("What to train"), _group("Where")
_data, _training = _group("Data, models and first weights"), _group("Training, over the recipe")
_loss, _memory = _group("Distillation, over the recipe"), _group("Memory, over the profile")
_watching = _group("Watching")

_OPTIONS = (
    _what("--profile", "profile_path", type=click.Path(path_type=Path), metavar="FILE",
          help="The profile to obey: batch, precision, checkpointing, pins, memory cap."),
    _what("--recipe", "recipe_name", metavar="NAME[:DATASET]|FILE",
          help="What to train, on other data if you like: medmnist:pathmnist_64. Default: the "
               "profile's recipe, else cifar10."),
    _what("--stage", type=OneOf([*STAGES, "all"]), default="all", show_default=True,
          help="Which stage to train."),
    _where("--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
           metavar="DIR", help="Where runs are kept."),
    _where("--fresh", is_flag=True,
           help="Delete the run that is there and start over; with --stage only that stage and "
                "those that it teaches."),
    _where("--device", type=OneOf(["auto", "cuda", "cpu"]), default="auto",
           show_default=True, help="Where to train."),
    _where("--threads", type=click.IntRange(1, 1024), metavar="N",
           help="Threads that compute on a CPU. Default: as many as there are cores, and work for "
                "them; a run goes on with those it began with."),
    _data("--dataset", metavar="NAME",
          help="Another data set: digits, cifar10, cifar100, fashion_mnist, one of MedMNIST "
               "(pathmnist, pathmnist_64, …), folder:DIR, csv:FILE."),
    _data("--model", multiple=True, metavar="[STAGE=]NAME",
          help="Another model in a stage, by timm name; may come once a stage. STAGE may be left "
               "out with --stage."),
    _data("--image-size", type=click.IntRange(1, MOST_PIXELS), metavar="PX",
          help="Pixels to which images are brought. Default: the recipe's."),
    _data("--data-dir", type=click.Path(path_type=Path), default=Path("data"), show_default=True,
          metavar="DIR", help="Where downloaded data sets are kept."),
    _data("--num-workers", type=click.IntRange(0, MOST_WORKERS), metavar="N",
          help="Threads that read images ahead. Default: 2 where images lie in a file, 0 in "
               "memory."),
    _data("--skip-unreadable", is_flag=True,
          help="Leave images out that can't be read, and list them in the run's folder."),
    _data("--pretrained/--no-pretrained", default=None, help="Start from ImageNet weights."),
    _data("--weights", multiple=True, metavar="[STAGE=]FILE",
          help="Start a stage from a safetensors file instead of downloading; may come once a "
               "stage. STAGE may be left out with --stage."),
    _data("--teacher-weights", metavar="[STAGE=]FILE",
          help="Your own trained teacher: safetensors, a timm export, a run's stage. Without STAGE "
               "it teaches --stage, else it is the first of the chain."),
    _data("--teacher-model", metavar="NAME",
          help="Which model that is, by timm name, where the file does not say it."),
    _training("--epochs", type=click.IntRange(1, MOST_EPOCHS), metavar="N",
              help="Epochs of every stage. Where the recipe has none: 100 pretrained, 200 from "
                   "scratch."),
    _training("--optimizer", type=OneOf(get_args(Optimizer)),
              help="How weights are updated."),
    _training("--lr", type=Number(above=0, at_most=MOST_LEARNING_RATE),
              help="Peak learning rate of every stage."),
    _training("--weight-decay", type=Number(at_least=0, at_most=MOST_WEIGHT_DECAY),
              help="Decay of matrices; vectors are not decayed."),
    _training("--scheduler", type=OneOf(get_args(Schedule)),
              help="How the learning rate falls."),
    _training("--step-epochs", type=click.IntRange(1, MOST_EPOCHS), metavar="N",
              help="With step: to a tenth every N epochs. Default: a third of them."),
    _training("--warmup-epochs", type=Number(at_least=0, at_most=MOST_EPOCHS), metavar="N",
              help="Epochs of linear warm-up."),
    _training("--criterion", type=OneOf(get_args(Criterion)),
              help="What says which epoch is best. Default: accuracy; AUC with several labels."),
    _training("--patience", type=click.IntRange(1, MOST_EPOCHS), metavar="N",
              help="Stop after N epochs without a better one."),
    _training("--balance", type=OneOf(get_args(Balance)),
              help="Let rare classes count as much as others: in the loss, or drawn more often."),
    _training("--label-smoothing", type=Number(at_least=0, at_most=MOST_LABEL_SMOOTHING),
              help="Share of a label's weight that all classes get in equal parts."),
    _training("--layer-decay", type=Number(above=0, at_most=1),
              help="Each layer learns slower than the one above it by this factor."),
    _training("--patch-drop-rate", type=Number(at_least=0, at_most=MOST_PATCH_DROP_RATE),
              help="Share of an image's patches that a student does not see in training."),
    _training("--mixup", type=Number(at_least=0, at_most=MOST_MIXING), metavar="ALPHA",
              help="Mix each image and label with another's, by shares of Beta(ALPHA, ALPHA); 0 is "
                   "off."),
    _training("--cutmix", type=Number(at_least=0, at_most=MOST_MIXING), metavar="ALPHA",
              help="Paste a part of another image in, by the same shares; with --mixup either."),
    _training("--seed", type=click.IntRange(0, 2**63 - 1), metavar="N",
              help="Seed of weights, order and views."),
    _training("--deterministic/--no-deterministic", default=False, show_default=True,
              help="Only kernels that give the same bits each time."),
    _loss("--teacher", type=OneOf(get_args(TeacherMode)),
          help="online: the teacher answers in every step. cached: it answers once, before the "
               "stage; the step and the memory are then free of it."),
    _loss("--teacher-views", type=click.IntRange(1, MOST_TEACHER_VIEWS), metavar="N",
          help="With cached: views of each image that the epochs take in turn. Default: 8; as many "
               "as epochs learn what online learns."),
    _loss("--alpha", type=Number(at_least=0, at_most=1), help="Weight of the teacher in the loss."),
    _loss("--temperature", type=Number(at_least=0.01, at_most=1000),
          help="Temperature of the softened probabilities."),
    _loss("--kd-loss", type=OneOf(get_args(SoftLoss)),
          help="Held against the teacher: probabilities (kl), or those of standard scores of the "
               "logits (logit_std)."),
    _memory("--batch-size", type=click.IntRange(1, MOST_IMAGES), metavar="N",
            help="Images at a time; the recipe's images per update stay."),
    _memory("--precision", type=OneOf(PRECISIONS), help="Numbers of forward and backward."),
    _memory("--mixed-precision/--no-mixed-precision", default=None,
            help="The same as --precision fp16 or fp32."),
    _memory("--checkpointing", type=CountOr("cheap", at_least=0, at_most=MOST_BLOCKS),
            metavar="K|cheap",
            help="Run every K-th block again in backward; 0 is off. cheap: all of every block but "
                 "matrix products, convolutions and attention."),
    _memory("--gradient-checkpointing/--no-gradient-checkpointing", default=None,
            help="The same as --checkpointing 1 or 0."),
    _memory("--compile", type=OneOf(["blocks"]),
            help="Compile each block (torch.compile): off unless asked for. Memory is at most that "
                 "of the same step uncompiled, which is what is predicted."),
    _memory("--empty-cache-every", type=click.IntRange(1, MOST_EPOCHS), metavar="N",
            help="Give unused memory back every N epochs."),
    _memory("--reverify", is_flag=True, help="Verify the profile here first (bench verify)."),
    _memory("--force", is_flag=True,
            help="Train with a profile of another machine all the same."),
    _watching("--json-log", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Append what happens as JSON lines."),
    _watching("--memory-log", is_flag=True,
              help="Log allocated, reserved and device-used memory after each update."),
    _watching("--attention/--no-attention", default=True, show_default=True,
              help="Draw attention maps at the end of each stage."),
)  # fmt: skip


def run_options(command: Callable[[RunOptions], None]) -> Callable[..., None]:
    """Give `command` the options of `distill run`, gathered into one value."""

    decorated = taking(RunOptions)(command)
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
