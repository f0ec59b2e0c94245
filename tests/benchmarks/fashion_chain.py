"""Does the assistant help? Fashion-MNIST, three seeds: the same student taught in three ways.

    python tests/benchmarks/fashion_chain.py DATA_DIR WORK_DIR [--images 10000] [--seeds 3]

DATA_DIR holds `FashionMNIST/raw/*-ubyte`. The first `--images` training images and all test
images are written to WORK_DIR in the publisher's format, and `distill run` is started for each
seed: the chain, the student taught by the teacher itself, the student alone. Prints a Markdown
table. The direct run takes over the chain's finished teacher, which it would only train again.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

STUDENTS = {"chain": "by the assistant", "direct": "by the teacher", "alone": "by nobody"}
RUN = Path("from_scratch") / "fashion_mnist"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = options.work_dir / "data"
    write_subset(options.data_dir, data, options.images)
    rows = [one_seed(seed, data, options.work_dir) for seed in range(options.seeds)]
    print_table(rows)


def write_subset(source: Path, target: Path, images: int) -> None:
    """The first images of the training set, in the publisher's IDX format."""
    raw, out = source / "FashionMNIST" / "raw", target / "FashionMNIST" / "raw"
    out.mkdir(parents=True, exist_ok=True)
    for name, header, item in (("train-images-idx3", 16, 784), ("train-labels-idx1", 8, 1)):
        whole = (raw / f"{name}-ubyte").read_bytes()
        count = images.to_bytes(4, "big")
        part = whole[:4] + count + whole[8:header] + whole[header : header + images * item]
        (out / f"{name}-ubyte").write_bytes(part)
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        shutil.copyfile(raw / name, out / name)


def one_seed(seed: int, data: Path, work: Path) -> dict[str, float]:
    """Test accuracy of every model trained with this seed."""
    folders = {kind: work / f"seed{seed}" / kind for kind in STUDENTS}
    for kind, folder in folders.items():
        if kind == "direct" and not (folder / RUN / "teacher").exists():
            shutil.copytree(folders["chain"] / RUN / "teacher", folder / RUN / "teacher")
        recipe = work / f"fashion_{kind}.toml"
        recipe.write_text(recipe_text(kind))
        command = [sys.executable, "-m", "distill", "run", "--recipe", str(recipe)]
        command += ["--seed", str(seed), "--device", "cpu", "--data-dir", str(data)]
        subprocess.run([*command, "--out", str(folder)], check=True)
    found = {kind: test_accuracy(folder, "student") for kind, folder in folders.items()}
    return found | {
        stage: test_accuracy(folders["chain"], stage) for stage in ("teacher", "assistant")
    }


def recipe_text(kind: str) -> str:
    """The project's Fashion-MNIST recipe with the stages that this comparison needs."""
    from importlib import resources

    text = (resources.files("distill") / "recipes" / "fashion.toml").read_text("utf-8")
    head, teacher, assistant, student = text.split("[[stage]]")
    if kind == "alone":
        return head + "[[stage]]" + student.replace('taught_by = "assistant"', "")
    if kind == "direct":
        student = student.replace('"assistant"', '"teacher"')
        return "[[stage]]".join([head, teacher, student])
    return "[[stage]]".join([head, teacher, assistant, student])


def test_accuracy(folder: Path, stage: str) -> float:
    return float(json.loads((folder / RUN / stage / "result.json").read_text())["test_accuracy"])


def print_table(rows: list[dict[str, float]]) -> None:
    titles = ["teacher", "assistant", *(f"student taught {how}" for how in STUDENTS.values())]
    print("| seed | " + " | ".join(titles) + " |\n|" + "---|" * (len(titles) + 1))
    for seed, row in enumerate(rows):
        cells = (f"{100 * row[kind]:.2f} %" for kind in ("teacher", "assistant", *STUDENTS))
        print(f"| {seed} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
