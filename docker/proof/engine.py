"""An engine and a base image without a container registry, gone again afterwards.

The engine is Debian's; it gets a data folder of its own and no bridge, so that it leaves neither
interfaces nor firewall rules behind. The base is made by debootstrap under the official base's
name: it proves the Dockerfile's steps, not what the official base holds.
"""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from shell import Done, Failed, expect, run
from tools import Tools

BASE = "python:3.11-slim-bookworm"
SUITE = "bookworm"
NEEDED_BYTES = 15 * 2**30
"""Room for the image, its build and the base; the check prints what it really took."""

PACKAGES = ("docker.io", "debootstrap")
PROGRAMS = ("/usr/sbin/dockerd", "/usr/bin/docker", "/usr/sbin/debootstrap")
CERTIFICATES = Path("/usr/local/share/ca-certificates")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
POLICY = Path("/usr/sbin/policy-rc.d")


class Disk(threading.Thread):
    """Watches how much of the disk is taken, as other programs may free or take some too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.before = shutil.disk_usage(folder).used
        self.peak_bytes = 0

    def run(self) -> None:
        while self.folder.exists():
            taken = shutil.disk_usage(self.folder).used - self.before
            self.peak_bytes = max(self.peak_bytes, taken)
            time.sleep(2)


@dataclass(frozen=True, kw_only=True)
class Docker:
    """An engine that answers, and how to speak to it."""

    client: str
    compose_binary: Path
    environment: dict[str, str] = field(default_factory=dict)
    own: bool
    disk: Disk

    def __call__(self, *words: str | Path, timeout: float = 600) -> Done:
        """Run the engine's own client."""
        return run([self.client, *words], environment=self.environment, timeout=timeout)


def lacking() -> str | None:
    """Why an engine of our own cannot be had here, or `None`."""
    free = shutil.disk_usage("/var/tmp").free
    if free < NEEDED_BYTES:
        return f"the disk of /var/tmp lacks {NEEDED_BYTES - free} bytes of {NEEDED_BYTES}"
    if os.geteuid() != 0:
        return "an engine of its own needs root (or: docker/check --here)"
    if shutil.which("apt-get") is None:
        return "the engine comes from Debian's packages, and there is no apt-get"
    if not _overlay_works():
        return "the kernel does not mount overlayfs under /var/tmp"
    return None


@contextmanager
def running_engine(work: Path, tools: Tools, *, here: bool) -> Iterator[Docker]:
    """An engine with the base image in it; stopped and unmounted on the way out."""
    disk = Disk(work)
    disk.start()
    if here:
        docker = Docker(client="docker", compose_binary=tools.compose, own=False, disk=disk)
        expect(docker("info"))
        yield docker
        return
    _install_packages()
    docker = Docker(
        client="/usr/bin/docker",
        compose_binary=tools.compose,
        environment={
            "DOCKER_HOST": f"unix://{work}/docker.sock",
            "DOCKER_CONFIG": str(work / "client"),
            "DOCKER_BUILDKIT": "1",
        },
        own=True,
        disk=disk,
    )
    with _daemon(work, docker):
        _import_base(work, docker)
        yield docker


@contextmanager
def _daemon(work: Path, docker: Docker) -> Iterator[None]:
    command = [
        "/usr/sbin/dockerd", f"--data-root={work}/data", f"--exec-root={work}/exec",
        f"--pidfile={work}/pid", f"--host={docker.environment['DOCKER_HOST']}",
        "--storage-driver=overlay2", "--bridge=none", "--iptables=false", "--ip6tables=false",
        "--ip-forward=false", f"--containerd-namespace={work.name}",
        f"--containerd-plugins-namespace={work.name}-plugins",
    ]  # fmt: skip
    log = work / "dockerd.log"
    with log.open("wb") as stream:
        daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        _wait_until_up(daemon, docker, log)
        yield
    finally:
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _unmount_below(work)


def _wait_until_up(daemon: "subprocess.Popen[bytes]", docker: Docker, log: Path) -> None:
    for _ in range(60):
        if daemon.poll() is not None:
            break
        if docker("version").returncode == 0:
            return
        time.sleep(0.5)
    raise Failed("dockerd did not start:\n" + "\n".join(log.read_text().splitlines()[-10:]))


def _unmount_below(work: Path) -> None:
    """Unmount whatever the engine left mounted, the deepest first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in sorted((m for m in mounts if m.startswith(f"{work}/")), reverse=True):
        expect(run(["umount", place]))


def _install_packages() -> None:
    """Install what is missing, without letting the engine's own service start."""
    if all(Path(program).exists() for program in PROGRAMS):
        return
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        expect(run(["apt-get", "update", "-q"], environment=quiet))
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES]
        expect(run(install, environment=quiet))
    finally:
        if ours:
            POLICY.unlink()


def _import_base(work: Path, docker: Docker) -> None:
    """A plain Debian with Python under the base's name, and this machine's certificates."""
    root = work / "rootfs"
    include = "--include=ca-certificates,python3,python3-venv,python3-pip"
    expect(run(["/usr/sbin/debootstrap", "--variant=minbase", include, SUITE, root]))
    for certificate in CERTIFICATES.glob("*.crt"):
        shutil.copy(certificate, root / "usr/local/share/ca-certificates")
    expect(run(["chroot", root, "update-ca-certificates"]))
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    variables = " ".join(f"{n}={BUNDLE}" for n in ("SSL_CERT_FILE", "PIP_CERT"))
    archive = work / "base.tar"
    expect(run(["tar", "-C", root, "-cf", archive, "."]))
    change = ["--change", 'CMD ["python3"]', "--change", f"ENV {variables}"]
    expect(docker("import", *change, archive, BASE))
    archive.unlink()
    shutil.rmtree(root)


def _overlay_works() -> bool:
    """Whether an overlay can be mounted on the disk that the engine would use."""
    work = Path("/var/tmp") / f"overlay-{os.getpid()}"
    folders = [work / name for name in ("lower", "upper", "work", "merged")]
    for folder in folders:
        folder.mkdir(parents=True)
    lower, upper, inner, merged = folders
    options = f"lowerdir={lower},upperdir={upper},workdir={inner}"
    try:
        mounted = run(["mount", "-t", "overlay", "overlay", "-o", options, merged])
        if mounted.returncode == 0:
            expect(run(["umount", merged]))
        return mounted.returncode == 0
    finally:
        with suppress(OSError):
            shutil.rmtree(work)
