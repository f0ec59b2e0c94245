"""Traces on disk: trusted only where they are exactly what was written, and of one program."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.card.targets import target_named
from bench.simulate.cache import HASH_BYTES, TraceCache, _hash
from bench.simulate.predictor import Predictor
from bench.simulate.program.packed import packed
from bench.simulate.program.program import Program
from distill.spec.candidate import Candidate
from tests.nodes import odd_things, pipe, small_disk, within

Change = Callable[[dict[str, np.ndarray]], object]


@pytest.fixture(scope="module")
def traced() -> list[Program]:
    """Kept for the module: the program is only read."""
    return []


@pytest.fixture
def program(traced: list[Program], small_candidate: Candidate) -> Program:
    if not traced:
        predictor = Predictor(target_named("rtx4050"), "expandable", TraceCache(None))
        traced.append(predictor.program(small_candidate))
    return traced[0]


@pytest.fixture
def cache(tmp_path: Path) -> TraceCache:
    return TraceCache(tmp_path / "traces")


@pytest.fixture
def kept(cache: TraceCache, program: Program) -> Path:
    assert cache.folder is not None
    path = cache.folder / f"{'0' * 32}.npz"
    cache.save(path, program)
    return path


def sealed(path: Path, content: bytes) -> None:
    """A file whose hash is right, whatever it holds."""
    path.write_bytes(_hash(path, content) + content)


def resaved(path: Path, arrays: dict[str, np.ndarray], **options: Any) -> None:
    stream = io.BytesIO()
    np.savez(stream, **arrays, **options)
    sealed(path, stream.getvalue())


def test_a_kept_program_reads_back_without_a_word(
    cache: TraceCache, kept: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    found = cache.load(kept)
    assert found is not None and found.spans == program.spans
    assert found.formulas == program.formulas and np.array_equal(found.base, program.base)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.8, 0.99, 0.9999])
def test_a_single_turned_bit_is_noticed_with_one_line(
    cache: TraceCache, kept: Path, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(kept.read_bytes())
    content[int(share * len(content))] ^= 1
    kept.write_bytes(content)
    assert cache.load(kept) is None
    told = capsys.readouterr().err
    assert told.endswith(
        "can't be trusted (its content is not what its checksum says); traced anew\n"
    )
    assert told.count("\n") == 1


def test_another_programs_file_is_not_this_ones(cache: TraceCache, kept: Path) -> None:
    other = kept.with_name(f"{'1' * 32}.npz")
    other.write_bytes(kept.read_bytes())
    assert cache.load(other) is None


def details(**values: Any) -> Change:
    def change(arrays: dict[str, np.ndarray]) -> None:
        document = json.loads(str(arrays["details"])) | values
        arrays["details"] = np.array(json.dumps(document))

    return change


def column(name: str, row: int, value: int) -> Change:
    return lambda arrays: arrays[name].__setitem__((row, 3), value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("ops"), "ops"),
        (column("births", 0, -1), "a size is negative"),
        (column("births", 2, 10**9), "a death comes before its birth"),
        (column("births", 2, 1), "a death comes before its birth"),
        (column("births", 2, -7), "a death comes before its birth"),
        (column("births", 3, 10**9), "no order"),
        (column("births", 4, 99), "a number of what is not there"),
        (column("costs", 0, 10**9), "no order"),
        (lambda a: a["op_of"].__setitem__(0, -1), "a number of what is not there"),
        (lambda a: a["module_of"].__setitem__(0, 10**6), "a number of what is not there"),
        (lambda a: a.update(op_of=a["op_of"][:-1]), "its columns differ in length"),
        (lambda a: a.update(flags=a["flags"][:, :-1]), "its columns differ in length"),
        (lambda a: a.update(flags=a["flags"].astype(int)), "its columns differ in length"),
        (lambda a: a.update(births=a["births"].astype(float)), "no table of numbers"),
        (lambda a: a.update(births=a["births"][:4]), "no table of numbers"),
        (lambda a: a.update(births=a["births"].astype(str)), "no table of numbers"),
        (lambda a: a.update(ops=np.arange(9)), "no list of names"),
        (lambda a: a.update(details=np.array("{")), "is not JSON"),
        (lambda a: a.update(details=np.array("[" * 1000)), "nested more than 32 deep"),
        (lambda a: a.update(details=np.array(3)), "the document = 3 is not possible"),
        (details(spans=[]), "spans"),
        (details(spans=[["forward", "first", "train"]]), "a number of what is not there"),
        (details(spans=[["sleep", "first", "train"]]), "spans.0.0"),
        (details(formulas=[[-1, "row", [], []]]), "formulas.0.0"),
        (details(formulas=[[10**9, "row", [], []]]), "a formula"),
        (details(formulas=[[0, "row", [1], []]]), "a formula"),
        (details(formulas=[[0, "row", [10**400], [1]]]), "more than 64 bits"),
        (details(formulas=[[0, "no such row", [1], [1]]]), "a kernel that is not known"),
    ],
)
def test_arrays_that_are_no_program_are_told_and_traced_anew(
    cache: TraceCache, kept: Path, program: Program, change: Change, words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arrays = {name: np.array(array) for name, array in packed(program).items()}
    change(arrays)
    resaved(kept, arrays)
    assert cache.load(kept) is None
    told = capsys.readouterr().err
    assert "can't be trusted" in told and words in told


def objects(path: Path) -> None:
    resaved(path, {"details": np.array([None], dtype=object)}, allow_pickle=True)


def encrypted(path: Path) -> None:
    content = bytearray(path.read_bytes()[HASH_BYTES:])
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1
    sealed(path, bytes(content))


def claiming(path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, archive.open("births.npy", "w") as member:
        header = {"descr": "<i8", "fortran_order": False, "shape": (5, 10**12)}
        np.lib.format.write_array_header_1_0(member, header)
    sealed(path, stream.getvalue())


def torn(path: Path) -> None:
    sealed(path, path.read_bytes()[HASH_BYTES:-500])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (objects, "holds Python's objects"),
        (encrypted, "is encrypted"),
        (claiming, "claims 40,000,000,000,128 bytes"),
        (torn, "not a zip file"),
        (lambda path: sealed(path, b""), "not a zip file"),
        (lambda path: path.write_bytes(b""), "checksum"),
    ],
)
def test_an_archive_that_is_none_is_told_and_traced_anew(
    cache: TraceCache, kept: Path, spoil: Callable[[Path], None], words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    spoil(kept)
    with within(10):
        assert cache.load(kept) is None
    assert words in capsys.readouterr().err


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    cache = TraceCache(tmp_path)
    for words, path in odd_things(tmp_path):
        link = tmp_path / "link.npz"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        with within(5):
            assert cache.load(link) is None, words


def test_a_pipe_in_the_caches_place_stays_one(tmp_path: Path, program: Program) -> None:
    cache = TraceCache(tmp_path)
    cache.save(pipe(tmp_path / "trace.npz"), program)
    assert (tmp_path / "trace.npz").is_fifo() and cache.folder is None


def test_a_full_disk_under_the_cache_fails_no_prediction(tmp_path: Path, program: Program) -> None:
    disk = small_disk(tmp_path / "disk")
    (disk / "full").write_bytes(bytes(60_000))
    cache = TraceCache(disk)
    cache.save(disk / "trace.npz", program)
    assert cache.folder is None and [path.name for path in disk.iterdir()] == ["full"]


def test_the_hash_is_of_the_content() -> None:
    assert _hash(Path("a"), b"b") == hashlib.blake2b(b"b", digest_size=16, key=b"a").digest()
