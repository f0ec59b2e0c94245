"""What the built image does, service by service, in a copy of the tree that another user owns."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import BASE, Docker
from shell import Done, Failed, expect, require, run

CALLER = 4321
"""The uid and gid of an imagined caller, where the check runs as root."""

IMAGE = "six-gig-distill-check"
PROJECT = "six-gig-distill-check"
SERVICES = ("bench", "distill", "bench-cpu", "distill-cpu")
ROOM_BYTES = 1_100_000_000
"""What everything but torch, torchvision, triton and NVIDIA's wheels may take in the image."""

CELL = ("--stage", "teacher", "--batch-size", "8", "--accumulation", "16", "--precision", "fp32",
        "--checkpointing", "0", "--target", "rtx4050", "--allocator", "expandable")  # fmt: skip
BASELINE_CELL = "teacher/fp32/8x16"
"""The cell of results/baseline/memory.json that `CELL` asks for again."""

INSTALLED = """
import json
from importlib.metadata import distributions
sizes = {}
for one in distributions():
    name = one.metadata["Name"].lower()
    if name in ("torch", "torchvision", "triton") or name.startswith("nvidia-"):
        places = {file.locate() for file in one.files or []}
        sizes[name] = sum(place.stat().st_size for place in places if place.exists())
print(json.dumps(sizes))
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One tree, one engine, one caller."""

    root: Path
    tree: Path
    docker: Docker
    caller: int

    @classmethod
    def prepared(cls, work: Path, tree: Path, docker: Docker) -> "Trial":
        """Copy what git knows of `tree`, so that the check never writes into it."""
        caller = os.geteuid() or CALLER
        copy = work / "tree"
        _copy_tree(tree, copy)
        (copy / ".env").write_text(f"HOST_UID={caller}\nHOST_GID={caller}\n")
        alone: dict[str, Any] = {"image": IMAGE, "build": {"network": "host"}}
        alone["network_mode"] = "none"
        services = dict.fromkeys(SERVICES, alone)
        (work / "compose.check.json").write_text(json.dumps({"services": services}))
        trial = cls(root=work, tree=copy, docker=docker, caller=caller)
        trial.give_to_caller()
        return trial

    def give_to_caller(self) -> None:
        """Let the caller own the tree, as after a clone."""
        if os.geteuid() == 0:
            expect(run(["chown", "-R", f"{self.caller}:{self.caller}", self.tree]))

    def compose(self, *words: str, timeout: float = 600) -> Done:
        """Compose's own binary on the tree's compose.yaml, with no network for what it runs."""
        place: list[str | Path] = ["--project-directory", self.tree, "-p", PROJECT]
        place += ["-f", self.tree / "compose.yaml", "-f", self.root / "compose.check.json"]
        return run(
            [self.docker.compose_binary, *place, *words],
            cwd=self.tree,
            environment=self.docker.environment,
            timeout=timeout,
        )

    def service(self, *words: str, timeout: float = 600) -> Done:
        """`docker compose run --rm SERVICE …`"""
        return self.compose("run", "--rm", "-T", *words, timeout=timeout)

    def shell(self, script: str, *options: str) -> Done:
        """A shell in place of the entry point, with all else as compose.yaml has it."""
        return self.service("--entrypoint", "sh", *options, "bench-cpu", "-c", script)

    def require_owned(self, place: str) -> None:
        """The file is there on the host's side and belongs to the caller."""
        path = self.tree / place
        require(path.exists(), f"{place} is not on the host's side")
        owner = path.stat().st_uid
        require(owner == self.caller, f"{place} belongs to {owner}, not to {self.caller}")

    def remove(self) -> None:
        """Containers, volumes and the image."""
        self.compose("--profile", "cpu", "down", "--volumes", "--remove-orphans")
        self.docker("image", "rm", "--force", IMAGE)


def build(trial: Trial) -> str:
    """The image builds; its layers come to light later."""
    expect(trial.compose("build", "bench", timeout=1800))
    return f"on {BASE}" + (" (stand-in)" if trial.docker.own else "")


def first_help(trial: Trial) -> str:
    """Help comes without a check and without a word on the error stream."""
    for service, command in (("bench-cpu", "bench"), ("distill-cpu", "distill")):
        done = expect(trial.service(service, "--help"))
        require("Usage:" in done.stdout, f"{command} --help says {done.stdout[:200]!r}")
    return "both commands"


def reservation_arrives(trial: Trial) -> str:
    """Where there is no NVIDIA toolkit the engine refuses the GPU services by name."""
    done = trial.service("bench", "--help")
    if not trial.docker.own and done.returncode == 0:
        return "the engine gave a device or ignored the wish; nothing is concluded"
    wanted = 'could not select device driver "nvidia" with capabilities: [[gpu]]'
    require(wanted in done.stderr, f"the engine said {done.stderr.strip()[-300:]!r}")
    return "asked of the engine, which has no such driver and says so"


def ownership(trial: Trial) -> str:
    """Both mounts are the host's, and what is written there is the caller's."""
    expect(trial.shell("touch /work/profiles/touched /work/results/touched /work/data/x /cache/x"))
    for folder in ("profiles", "results"):
        trial.require_owned(f"{folder}/touched")
        (trial.tree / folder / "touched").unlink()
    return f"uid {trial.caller}"


def read_only(trial: Trial) -> str:
    """Not even root writes outside the volumes, the mounts and /tmp."""
    done = trial.shell("touch /opt/x", "--user", "0:0")
    require("Read-only file system" in done.stderr, f"/opt: {done.stderr.strip()[-200:]!r}")
    expect(trial.shell("touch /tmp/x"))
    return "root cannot write to /opt"


def unwritable_mount(trial: Trial) -> str:
    """A mount of another user is one sentence with the cure, before any work."""
    if os.geteuid() != 0:
        return "not tried without root"
    folder = trial.tree / "results"
    os.chown(folder, 0, 0)
    try:
        done = expect(trial.service("bench-cpu", "probe", "--vram", "6"), 2)
    finally:
        trial.give_to_caller()
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ./results")]
    require(len(lines) == 1 and "make .env" in lines[0], f"said {done.stderr.strip()[-300:]!r}")
    return "exit 2, one sentence"


def same_bytes(trial: Trial) -> str:
    """`predict` gives the bytes that were predicted outside any container."""
    done = expect(trial.service("bench-cpu", "predict", *CELL, "--json"))
    found = json.loads(done.stdout)
    baseline = json.loads((trial.tree / "results/baseline/memory.json").read_text())
    (cell,) = [cell for cell in baseline["cells"] if cell["name"] == BASELINE_CELL]
    pairs = {
        "requested": (found["peak_requested_bytes"], cell["requested_bytes"]),
        "allocated": (found["peak_allocated_bytes"], cell["allocated_bytes"]),
        "reserved": (found["peak_reserved_bytes"], cell["reserved_bytes"]),
        "breakdown": (found["breakdown"], cell["breakdown"]),
    }
    for name, (inside, outside) in pairs.items():
        require(inside == outside, f"{name}: {inside} inside, {outside} in the baseline")
    return f"{found['peak_reserved_bytes']:,} reserved, as in results/baseline"


def probe(trial: Trial) -> str:
    """The front door: the profile is written on the host's side."""
    return _probed(trial, "profiles/rtx4050.json", "cifar10")


def probe_demo(trial: Trial) -> str:
    """The demo's profile likewise."""
    return _probed(trial, "profiles/demo-6gb.json", "demo")


def train_demo(trial: Trial) -> str:
    """The chain obeys the profile that was written a moment ago."""
    words = ("--profile", "profiles/demo-6gb.json", "--epochs", "1", "--out", "results/short")
    expect(trial.service("distill-cpu", "run", "--recipe", "demo", *words))
    for stage in ("teacher", "assistant", "student"):
        trial.require_owned(f"results/short/from_scratch/digits/{stage}/result.json")
    return "three stages"


def resume(trial: Trial) -> str:
    """SIGTERM saves and leaves with 143; the same command goes on from there."""
    name = f"{PROJECT}-stopped"
    words = ("distill-cpu", "run", "--profile", "profiles/demo-6gb.json", "--recipe", "demo",
             "--stage", "teacher", "--epochs", "8", "--out", "results/stopped")  # fmt: skip
    expect(trial.compose("run", "--detach", "--name", name, *words))
    try:
        saved = trial.tree / "results/stopped/from_scratch/digits/teacher/checkpoints/latest.pth"
        _wait_for(saved, lambda: _running(trial, name))
        expect(trial.docker("kill", "--signal", "TERM", name))
        code = int(expect(trial.docker("wait", name)).stdout)
        said = trial.docker("logs", name).stderr
    finally:
        trial.docker("rm", "--force", name)
    require(code == 143, f"SIGTERM ended it with {code}: {said[-300:]}")
    require("saved" in said, f"SIGTERM: {said[-300:]!r}")
    before = _epochs_logged(trial)
    expect(trial.service(*words))
    after = _epochs_logged(trial)
    require(0 < len(before) < 8 == len(after), f"{len(before)} epochs, then {len(after)}")
    require(after[: len(before)] == before, "the run began anew instead of going on")
    return f"stopped after epoch {len(before)}, then went on to 8"


def size(trial: Trial) -> str:
    """The image is no larger than torch's wheels and a fixed room."""
    script = ("--entrypoint", "python", "bench-cpu", "-c", INSTALLED)
    wheels = sum(json.loads(expect(trial.service(*script)).stdout).values())
    inspected = expect(trial.docker("image", "inspect", "--format", "{{.Size}}", IMAGE)).stdout
    history = ("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", IMAGE)
    for line in expect(trial.docker(*history)).stdout.splitlines():
        if not line.startswith("0B"):
            taken, made_by = line.split("\t", 1)
            print(f"    {taken:>8}  {' '.join(made_by.split())[:110]}")
    total, budget = int(inspected), wheels + ROOM_BYTES
    require(total <= budget, f"{total:,} bytes, budget {budget:,} (wheels {wheels:,})")
    return f"{total / 1e6:,.0f} MB of {budget / 1e6:,.0f} MB (torch's wheels {wheels / 1e6:,.0f})"


PROOFS: dict[str, Callable[[Trial], str]] = {
    "image builds": build,
    "size": size,
    "--help": first_help,
    "reservation reaches the engine": reservation_arrives,
    "files belong to the caller": ownership,
    "read-only root": read_only,
    "unwritable mount": unwritable_mount,
    "same bytes inside and outside": same_bytes,
    "probe --vram 6": probe,
    "probe of the demo": probe_demo,
    "demo trains by its profile": train_demo,
    "SIGTERM saves, the next run resumes": resume,
}


def not_proven(docker: Docker) -> list[str]:
    """What nobody should read out of a pass."""
    names = ["a GPU passed through", "another CUDA build (TORCH_BACKEND)"]
    if docker.own:
        names.append(f"the official base image {BASE} (a Debian stand-in was used)")
    return names


def _probed(trial: Trial, profile: str, recipe: str) -> str:
    path = trial.tree / profile
    path.unlink(missing_ok=True)
    expect(trial.service("bench-cpu", "probe", "--vram", "6", "--recipe", recipe, timeout=1200))
    trial.require_owned(profile)
    document = json.loads(path.read_text())
    require(document["status"] == "predicted", f"{profile} is {document['status']}")
    return f"{profile}, {len(document['choices'])} choices"


def _copy_tree(tree: Path, copy: Path) -> None:
    listed = run(["git", "-c", f"safe.directory={tree}", "-C", tree, "ls-files",
                  "--cached", "--others", "--exclude-standard", "-z"])  # fmt: skip
    if listed.returncode != 0:
        raise Failed(f"{tree} is not a git clone: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (tree / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, copy / name)


def _wait_for(path: Path, alive: Callable[[], bool]) -> None:
    for _ in range(3000):
        if path.exists():
            return
        require(alive(), f"the container ended before {path.name} was there")
        time.sleep(0.2)
    raise Failed(f"{path.name} did not come within ten minutes")


def _running(trial: Trial, name: str) -> bool:
    state = trial.docker("inspect", "--format", "{{.State.Running}}", name)
    return state.stdout.strip() == "true"


def _epochs_logged(trial: Trial) -> list[str]:
    """The lines of the epoch log; their times tell one run from another."""
    folder = trial.tree / "results/stopped/from_scratch/digits/teacher/logs"
    (log,) = folder.glob("*_log.csv")
    return log.read_text().splitlines()[1:]
