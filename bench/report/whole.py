"""The whole report: what is there is found, gathered in order, and written."""

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from bench.report.command import ReportOptions
from bench.report.from_evidence import audit_part, machine_part, recordings_part
from bench.report.from_models import models_part
from bench.report.from_profile import (
    NO_PROFILE,
    GivenProfile,
    profile_parts,
    what_fits,
    what_was_chosen,
)
from bench.report.from_run import NO_RUN, how_good, run_parts, trained_in
from bench.report.page import check_places, write_page, write_tables
from bench.report.parts import ReportPart, VerdictAnswer, WholeReport
from distill.base.errors import UserError
from distill.base.files import check_apart
from distill.base.units import bytes_text, duration
from distill.device.visible_devices import hide_devices
from distill.report.found_run import DEFAULT_OUT, FoundRun, find_run, stage_config
from distill.spec.profile import Profile, read_profile
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.stage_time import chain_lines
from distill.train.run_folder import MANIFEST, read_result

PROFILES = Path("profiles")


def write_report(options: ReportOptions) -> list[str]:
    """Write the page and, if wanted, the tables; returns what is to be said of them.

    Raises `UserError` where there is neither a run nor a profile to report on.
    """
    check_places(options.out, options.tables)
    check_apart({"--out": options.out}, options.profile)
    run = _run(options.run)
    given = _profile(options.profile, run)
    if run is not None and given is not None and options.run is None:
        run = run if _is_for(given.profile, run) else None
    elif run is not None and given is not None:
        _check_same_work(given.profile, run)
    if run is None and given is None:
        raise UserError(
            f"There is no run below {DEFAULT_OUT}/ and no --profile is named: nothing to report "
            "on. Make a profile (bench probe) or train (distill run)."
        )
    hide_devices()  # nothing here is measured
    whole = gather(options, run, given)
    size_bytes = write_page(options.out, whole)
    said = [f"Wrote {options.out} ({bytes_text(size_bytes)})"]
    said += [f"  {part.title}: {part.missing}" for part in whole.parts if part.missing]
    if options.tables is not None:
        count = write_tables(options.tables, whole)
        said.append(f"Wrote {options.tables}/ (report.md, report.json, {count} CSV files)")
    return said


def gather(options: ReportOptions, run: FoundRun | None, given: GivenProfile | None) -> WholeReport:
    """The verdict and all parts, in the order in which they are read."""
    parts = run_parts(run) if run is not None else [ReportPart(title="Accuracy", missing=NO_RUN)]
    attention = [part for part in parts if part.title == "Attention"]
    memory = [ReportPart(title="Memory budget", missing=NO_PROFILE)]
    if given is not None:
        memory = profile_parts(given, quick=options.quick)
    return WholeReport(
        title=_title(run, given),
        about=f"Made by bench report, version {version('six-gig-distill')}.",
        verdict=[
            what_fits(given),
            what_was_chosen(given, run),
            _how_long(run, given),
            how_good(run),
        ],
        parts=[
            *(part for part in parts if part not in attention),
            *memory,
            models_part(run.recipe if run is not None else _recipe_of(given), given, run),
            recordings_part(options.evidence, wanted=options.recordings),
            *attention,
            audit_part(options.evidence, quick=options.quick),
            machine_part(run, given),
        ],
    )


def _title(run: FoundRun | None, given: GivenProfile | None) -> str:
    name = run.recipe.name if run is not None else given.profile.recipe.name if given else ""
    return name if given is None else f"{name}, for {given.profile.target.title}"


def _how_long(run: FoundRun | None, given: GivenProfile | None) -> VerdictAnswer:
    """The training's time where there is a run, and what the profile predicts."""
    sentences = [] if run is None else trained_in(run.results())
    recipe = run.recipe if run is not None else _recipe_of(given)
    if given is not None and recipe is not None:
        epochs = {stage.name: recipe.training_of(stage.name).epochs for stage in recipe.stage}
        if all(choice.stage in epochs for choice in given.profile.choices):
            sentences += [line.strip() for line in chain_lines(given.profile, epochs)]
    if run is not None:
        short = duration(sum(one.train_seconds for one in run.results()))
    elif sentences:
        short = sentences[0].partition(": ")[2]
    else:
        short, sentences = "not known", ["The profile holds no times: bench probe makes it again."]
    return VerdictAnswer(question="How long?", short=short, sentences=sentences)


def _recipe_of(given: GivenProfile | None) -> Recipe | None:
    """The recipe that a profile is for, where it can still be had by its name."""
    if given is None:
        return None
    mark = given.profile.recipe
    with suppress(UserError):
        recipe = load_recipe(mark.name)
        return recipe if recipe.digest() == mark.digest else None
    return None


def _run(folder: Path | None) -> FoundRun | None:
    """The run that is named, which has a finished stage; or the only one there is, if it has."""
    if folder is not None:
        run = find_run(folder)
        run.results()  # refuses a run of which nothing is finished
        return run
    if len(list(DEFAULT_OUT.glob(f"*/*/{MANIFEST}"))) != 1:
        return None
    run = find_run(None)
    return run if any(read_result(place) for place in run.stage_folders()) else None


def _profile(path: Path | None, run: FoundRun | None) -> GivenProfile | None:
    """The profile that is named, or the one that the run was trained under."""
    if path is not None:
        return GivenProfile(path=path, profile=read_profile(path))
    if run is None:
        return None
    found = [
        GivenProfile(path=place, profile=profile)
        for place, profile in _readable(sorted(PROFILES.glob("*.json")))
        if _trained_under(run, profile)
    ]
    return found[0] if found else None


def _check_same_work(profile: Profile, run: FoundRun) -> None:
    """Raise `UserError` for a profile of other models, data or batches than the run's."""
    for result in run.results():
        profile.choice_for(run.recipe, result.stage)


def _is_for(profile: Profile, run: FoundRun) -> bool:
    try:
        _check_same_work(profile, run)
    except UserError:
        return False
    return True


def _readable(paths: Sequence[Path]) -> list[tuple[Path, Profile]]:
    """The profiles among files; what is none is not what a run was trained under."""
    found = []
    for path in paths:
        with suppress(UserError):
            found.append((path, read_profile(path)))
    return found


def _trained_under(run: FoundRun, profile: Profile) -> bool:
    """True if a profile's choices are those that the run wrote down of its stages."""
    choices = {choice.stage: choice for choice in profile.choices}
    configs = {result.stage: stage_config(run, result.stage) for result in run.results()}
    return all(
        config.target == profile.target.title and config.choice == choices.get(stage)
        for stage, config in configs.items()
    )
