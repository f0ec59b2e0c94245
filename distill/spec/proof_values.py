"""What came of proving a profile on a card: values of its file."""

from distill.spec.candidate import StageName
from distill.spec.file_values import Bytes
from distill.spec.frozen import FrozenModel


class Proof(FrozenModel):
    """One run of a chosen configuration in a process of its own, and how it ended.

    `outside_bytes` is what was in use on the device beyond what PyTorch reserved.
    """

    cap_bytes: Bytes
    outcome: str
    words: str | None = None
    updates: int | None = None
    seconds: float | None = None
    reserved_bytes: Bytes | None = None
    allocated_bytes: Bytes | None = None
    alloc_retries: int | None = None
    outside_bytes: int | None = None
    passed: bool


class StageProof(FrozenModel):
    """Both directions: `trained` and `resumed` must go through, `control` must not.

    `resumed` starts from the checkpoint that `trained` saved, in a fresh process; `control`
    trains under a cap that is smaller than what was predicted.
    """

    stage: StageName
    predicted_reserved_bytes: Bytes
    trained: Proof
    resumed: Proof | None
    control: Proof | None

    @property
    def passed(self) -> bool:
        """True if all three ended as they should."""
        proofs = (self.trained, self.resumed, self.control)
        return all(proof is not None and proof.passed for proof in proofs)


class Verification(FrozenModel):
    """When, on what and under which cap the choices were proven, and what came of it."""

    time: str
    card: str
    driver: str | None
    torch: str
    cap: str
    stages: tuple[StageProof, ...]

    @property
    def passed(self) -> bool:
        """True if every stage passed."""
        return bool(self.stages) and all(stage.passed for stage in self.stages)
