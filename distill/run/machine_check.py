"""The check of a machine before and during a run: the profile's machine, room, other programs.

Asks torch and NVML what is here and hands it to the decisions in `fingerprint` and `watch`.
Verifies nothing itself: `--reverify` runs `bench verify` as a child process.
"""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from distill.base.children import raise_if_asked_to_stop, run_command
from distill.base.errors import NoDeviceError, ProfileMismatch, RunFailed
from distill.device.crawl import crawling_told
from distill.device.fingerprint import Machine, check, machine_without_card
from distill.device.nvml import driver_version, process_bytes, read_holders, read_state
from distill.device.watch import Look, check_room, watching
from distill.spec.profile import Profile, read_profile
from distill.spec.recipe import Recipe


def machine_of(device: torch.device) -> Machine:
    """This machine, the device included if it is a GPU."""
    bare = machine_without_card()
    if device.type != "cuda":
        return bare
    properties = torch.cuda.get_device_properties(device)
    return replace(
        bare,
        card=properties.name,
        card_total_bytes=properties.total_memory,
        compute_capability=(properties.major, properties.minor),
        driver=driver_version(),
    )


def check_machine(profile: Profile, recipe: Recipe, device: torch.device, *, force: bool) -> None:
    """Refuse a profile of another machine, and a device without room for it.

    `recipe` is as its file says, before the command line changed it.
    """
    for difference in check(profile, machine_of(device), recipe, force=force):
        _say(f"  --force  {difference}")
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        holders = read_holders(_uuid(device))
        told = check_room(free_bytes, profile.needed_bytes, holders, force=force)
        if told is not None:
            _say(f"  --force  {told}")


def verified_again(path: Path) -> Profile:
    """The profile after `bench verify` passed it here.

    Raises what fits the exit code when it did not; the child has told why.
    """
    child = run_command("bench", "verify", str(path), stdout=sys.stderr)
    raise_if_asked_to_stop(child.returncode, "No stage was begun.")
    if child.returncode == 0:
        return read_profile(path)
    words = f"Profile {path} was not verified here (bench verify: exit {child.returncode})."
    kinds = {NoDeviceError.exit_code: NoDeviceError, ProfileMismatch.exit_code: ProfileMismatch}
    raise kinds.get(child.returncode, RunFailed)(words)


def crawling_watched(device: torch.device) -> AbstractContextManager[None]:
    """Tell why training crawls, on a CPU; nothing on a GPU, which the CPU may wait for."""
    if device.type != "cpu":
        return nullcontext()
    return crawling_told(lambda line: _say(f"  cpu  {line}"), threads=torch.get_num_threads())


def watched(device: torch.device) -> AbstractContextManager[None]:
    """Report another process that grows on the device while inside; nothing on a CPU."""
    if device.type != "cuda":
        return nullcontext()
    uuid = _uuid(device)

    def look() -> Look | None:
        used = read_state(uuid).used_bytes
        if used is None:
            return None
        own, _ = process_bytes(os.getpid(), uuid)
        outside = used - (torch.cuda.memory_reserved(device) if own is None else own)
        return Look(outside_bytes=outside, exact=own is not None, holders=read_holders(uuid))

    return watching(look, lambda line: _say(f"  GPU  {line}"))


def _uuid(device: torch.device) -> str:
    return str(torch.cuda.get_device_properties(device).uuid)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
