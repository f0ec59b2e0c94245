"""What can be shown without an engine: linters, the schema, and where the GPU is reserved."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shell import expect, require, run
from tools import Tools

GPU_SERVICES = ("bench", "distill")
CPU_SERVICES = ("bench-cpu", "distill-cpu")
RESERVATION = [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
HARDENED = {
    "read_only": True,
    "init": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "shm_size": "1073741824",
    "working_dir": "/work",
}
PLACES = {
    "/work/profiles": "bind",
    "/work/results": "bind",
    "/work/data": "volume",
    "/cache": "volume",
}


def lint(tree: Path, tools: Tools) -> str:
    """hadolint on the Dockerfile, the shell's own parser on the scripts."""
    expect(run([tools.hadolint, tree / "Dockerfile"]))
    for script in ("entrypoint", "split-lock"):
        expect(run(["sh", "-n", tree / "docker" / script]))
    return "hadolint, sh -n"


def builds_without_registry(tree: Path, tools: Tools) -> str:
    """No frontend to fetch, and a base that an argument can replace."""
    text = (tree / "Dockerfile").read_text()
    require("syntax=" not in text, "Dockerfile asks for a frontend image")
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    loose = [base for base in bases if base != "${BASE_IMAGE}" and base not in stages]
    require(not loose, f"FROM {loose} cannot be replaced by BASE_IMAGE")
    return f"{len(bases)} stages on one base"


def schema(tree: Path, tools: Tools) -> str:
    """`config -q` on every file."""
    expect(run([*_compose(tree, tools), "config", "-q"]))
    both = [*_compose(tree, tools), "-f", tree / "docker/compose.nvml.yaml"]
    expect(run([*both, "config", "-q"]))
    merged = json.loads(expect(run([*both, "config", "--format", "json"])).stdout)
    for name in GPU_SERVICES:
        require(merged["services"][name].get("pid") == "host", f"{name} lacks pid: host")
    return "compose.yaml, docker/compose.nvml.yaml"


def reservation(tree: Path, tools: Tools) -> str:
    """One NVIDIA GPU for two services, and for no other."""
    services = _services(tree, tools)
    everything = {*GPU_SERVICES, *CPU_SERVICES}
    require(set(services) == everything, f"services are {sorted(services)}")
    for name, service in services.items():
        resources = service.get("deploy", {}).get("resources", {})
        devices = resources.get("reservations", {}).get("devices", [])
        wanted = RESERVATION if name in GPU_SERVICES else []
        require(devices == wanted, f"{name} reserves {devices}, not {wanted}")
        hidden = service["environment"].get("NVIDIA_VISIBLE_DEVICES") == "void"
        require(hidden == (name in CPU_SERVICES), f"{name} sees the wrong devices")
        require(("cpu" in service.get("profiles", [])) == hidden, f"{name} has the wrong profile")
    return "bench and distill, only there"


def hardening(tree: Path, tools: Tools) -> str:
    """User, read-only root, no capabilities, and the places that can be written."""
    for name, service in _services(tree, tools, HOST_UID="4321", HOST_GID="8765").items():
        require(service.get("user") == "4321:8765", f"{name} runs as {service.get('user')}")
        for key, wanted in HARDENED.items():
            require(service.get(key) == wanted, f"{name}: {key} is {service.get(key)}")
        places = {mount["target"]: mount["type"] for mount in service.get("volumes", [])}
        require(places == PLACES, f"{name} mounts {places}")
        command = name.removesuffix("-cpu")
        require(service["entrypoint"] == ["entrypoint", command], f"{name} starts something else")
    images = {service["image"] for service in _services(tree, tools).values()}
    require(len(images) == 1, f"more than one image: {images}")
    return "user, read-only root, capabilities, mounts, one image"


def lock(tree: Path, tools: Tools) -> str:
    """Every package has hashes, no index is named, and the Dockerfile insists on the hashes."""
    packages = 0
    for path in (tree / "requirements.lock", tree / "docker/uv.lock", tree / "docker/tools.lock"):
        text = path.read_text()
        require("://" not in text, f"{path.name} names an index")
        for entry in re.split(r"\n(?=\S)", text.strip()):
            packages += 1
            require("==" in entry and "--hash=sha256:" in entry, f"no hash: {entry[:60]}")
    text = (tree / "Dockerfile").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if re.search(r"pip .*-r ", line) and not line.lstrip().startswith("#"):
            loose = re.findall(r"install(?! [^;&|]*--(?:require-hashes|torch-backend))", line)
            require(not loose, f"installed without hashes: {line.strip()[:80]}")
    return f"{packages} packages with hashes"


def entry(tree: Path, tools: Tools) -> str:
    """The entry point refuses what is neither command, and hands the rest on."""
    script = tree / "docker" / "entrypoint"
    refused = expect(run([script, "sh"]), 2)
    require(len(refused.stderr.splitlines()) == 1, "refused with more than a sentence")
    copied = re.search(r"^COPY.* docker/entrypoint ", (tree / "Dockerfile").read_text(), re.M)
    require(copied is not None, "the Dockerfile does not copy the entry point")
    return "refuses what is neither bench nor distill"


PROOFS: dict[str, Callable[[Path, Tools], str]] = {
    "linters": lint,
    "builds without a registry": builds_without_registry,
    "compose schema": schema,
    "GPU reservation": reservation,
    "hardening": hardening,
    "lock": lock,
    "entry point": entry,
}


def _compose(tree: Path, tools: Tools) -> list[str | Path]:
    return [tools.compose, "--project-directory", tree, "-f", tree / "compose.yaml"]


def _services(tree: Path, tools: Tools, **environment: str) -> dict[str, Any]:
    command = [*_compose(tree, tools), "--profile", "cpu", "config", "--format", "json"]
    done = expect(run(command, environment=environment))
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services
