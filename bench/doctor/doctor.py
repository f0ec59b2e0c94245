"""The doctor: facts of the machine gathered, problems found in them, both as text."""

from bench.doctor.facts import quick_facts, whole_facts, written_folders
from bench.doctor.problems import doctor_text, gpu_problem, problems


def note() -> str | None:
    """One line when no GPU can be used; asks only what takes no time."""
    problem = gpu_problem(quick_facts())
    return None if problem is None else f"Note: {problem}"


def report(*, as_json: bool) -> tuple[str, bool]:
    """Facts and problems as text, and whether there is no problem."""
    facts = whole_facts(written_folders())
    return doctor_text(facts, as_json=as_json), not problems(facts)
