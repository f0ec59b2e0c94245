"""The child that finds a machine's constants from updates that were timed on it. Sees no GPU."""

from dataclasses import asdict
from pathlib import Path

from bench.probe.calibrate import Fit, FitJob
from bench.simulate.predictor import Predictor
from bench.simulate.program.constants_fit import ObservedUpdate, fitted
from distill.base.files import write_json
from distill.device.visible_devices import hide_devices
from distill.spec.validated import read_as


def work(job_path: Path, result_path: Path) -> None:
    """Write the constants and the times by them."""
    hide_devices()
    write_json(result_path, asdict(fit(read_as(FitJob, job_path))))


def fit(job: FitJob) -> Fit:
    """Trace what was timed, if it has to be, and find the constants."""
    predictor = Predictor(job.target, job.allocator)
    observed = [
        ObservedUpdate(
            program=predictor.program(one.candidate),
            target=job.target,
            candidate=one.candidate,
            seconds=one.seconds,
        )
        for one in job.timed
    ]
    calibration = fitted(observed, job.machine)
    return Fit(
        calibration=calibration, timings=tuple(one.predicted(calibration) for one in observed)
    )
