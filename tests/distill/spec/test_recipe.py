"""Recipes: what they say, and one clear sentence for each that can't be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from distill.base.errors import UserError
from distill.spec.recipe import Recipe, load_recipe, recipe_names
from distill.spec.training import Training
from tests.nodes import odd_things, within


@pytest.fixture
def edited(recipe_file: Path):
    """Load the small recipe with one piece of its text replaced."""

    def load(old: str, new: str) -> Recipe:
        text = recipe_file.read_text()
        assert old in text
        recipe_file.write_text(text.replace(old, new, 1))
        return load_recipe(str(recipe_file))

    return load


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_that_come_along_load(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert [stage.name for stage in recipe.stage] == ["teacher", "assistant", "student"]
    assert [stage.taught_by for stage in recipe.stage] == [None, "teacher", "assistant"]
    assert all(recipe.candidate(stage.name).micro_batch for stage in recipe.stage)


@pytest.mark.parametrize("name", ["cifar10", "cifar10_scratch"])
def test_the_write_ups_recipes_weigh_as_it_says(name: str) -> None:
    distillation = load_recipe(name).distillation
    assert (distillation.temperature, distillation.alpha) == (4.0, 0.7)


@pytest.mark.parametrize(
    "dataset", ["pathmnist_64", "chestmnist", "organamnist_224", "tissuemnist"]
)
def test_a_recipe_by_name_takes_other_data_by_name(dataset: str) -> None:
    recipe = load_recipe(f"medmnist:{dataset}")
    info = recipe.dataset_info()
    candidate = recipe.candidate("student")
    assert (recipe.name, recipe.dataset) == (f"medmnist:{dataset}", dataset)
    assert (recipe.file_name, load_recipe("demo").file_name) == (f"medmnist-{dataset}", "demo")
    assert (candidate.input.source_size, candidate.student.classes) == (
        info.source_size,
        info.classes,
    )
    assert load_recipe(recipe.name) == recipe


def test_own_images_in_a_recipes_name_are_known_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("cifar10:folder:photos")
    assert recipe.name == f"cifar10:folder:{tmp_path / 'photos'}"
    assert recipe.file_name == "cifar10-photos"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing:pathmnist", "Unknown recipe 'nothing:pathmnist'"),
        ("medmnist:pathmnist_65", "pathmnist does not come in 65 px"),
        ("medmnist:", "Unknown data set ''"),
    ],
)
def test_data_that_are_not_there_are_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_recipe(name).candidate("student")


def test_a_stage_lays_its_own_training_over_the_recipes(recipe_file: Path) -> None:
    recipe = load_recipe("demo")
    assert recipe.training_of("student").epochs == 45
    assert recipe.training_of("teacher").epochs == recipe.training.epochs == 30


def test_the_candidate_keeps_the_images_per_update(recipe_file: Path) -> None:
    candidate = load_recipe("cifar10").candidate("assistant", micro_batch=32)
    assert (candidate.micro_batch, candidate.accumulation) == (32, 4)
    assert candidate.teacher is not None and candidate.teacher.name == "vit_base_patch16_224"
    assert candidate.input.source_size == 32
    assert candidate.student.image_size == 224


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('taught_by = "teacher"', 'taught_by = "student"', "taught by student, which does not"),
        ('name = "assistant"', 'name = "teacher"', "has stage teacher twice"),
        ('name = "vit_tiny_patch16_224"', f'name = "{"x" * 10_000}"', "200 characters"),
        ("epochs = 2", "epochs = 0", r"training.epochs = 0 is not possible"),
        ("learning_rate = 2e-3", "learning_rate = nan", "learning_rate = nan, which is no number"),
        ("learning_rate = 2e-3", "learning_rate = 1e308", "learning_rate = 1e.308 is not possible"),
        ("clip_norm = 1.0", "weight_decay = nan", "weight_decay = nan, which is no number"),
        ("clip_norm = 1.0", "weight_decay = inf", "weight_decay = inf, which is no number"),
        ("clip_norm = 1.0", "warmup_epochs = 1e308", r"warmup_epochs = 1e\+308 is not possible"),
        ("epochs = 2", "epochs = 1000000000", "epochs = 1000000000 is not possible"),
        ("image_size = 8", "image_size = 1000000", "image_size = 1000000 is not possible"),
        ("crop_padding = 1", "crop_padding = 100000", "crop_padding = 100000 is not possible"),
        ("effective_batch = 64", "effective_batch = 10000000", "effective_batch = 10000000 is not"),
        ("width = 32", "width = 1000000", "width = 1000000 is not possible"),
        ("depth = 2", "depth = 100000", "depth = 100000 is not possible"),
        ('taught_by = "teacher"', 'taught_by = "teacher"\ntraining = { learning_rate = 1e9 }',
         "stage assistant: training.learning_rate = 1000000000.0 is not possible"),
        ("learning_rate = 2e-3", "", "training.learning_rate is missing"),
        ("seed = 0", "sede = 0", "sede is not a known key"),
        ('name = "small"', "name = small", "is not TOML"),
        ("effective_batch = 64", "effective_batch = -1", "effective_batch = -1"),
        ("effective_batch = 64", 'effective_batch = "64"', "effective_batch = '64' is not"),
        ("epochs = 2", "epochs = 2.5", "training.epochs = 2.5 is not possible"),
        ("pretrained = false", "pretrained = 0", "pretrained = 0 is not possible"),
        ("seed = 0", "seed = -1", "seed = -1 is not possible"),
        ("seed = 0", "seed = 9223372036854775808", "seed = 9223372036854775808, a"),
        ("[augmentation]", "[distillation]\ntemperature = 1e-3\n[augmentation]",
         "distillation.temperature = 0.001 is not possible"),
        ('taught_by = "teacher"', 'taught_by = "teacher"\ntraining = { epoch = 3 }',
         "stage assistant: training.epoch is not a known key"),
        ('taught_by = "teacher"', 'taught_by = "teacher"\ntraining = { epochs = "3" }',
         "stage assistant: training.epochs = '3' is not possible"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_one_sentence(edited, old: str, new: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        edited(old, new)


def numbers_in(schema: object, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number of a JSON schema, and where it stands."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield where, schema
        for key, value in schema.items():
            yield from numbers_in(value, f"{where}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from numbers_in(value, where)


@pytest.mark.parametrize("model", [Recipe, Training])
def test_every_number_of_a_recipe_has_two_bounds(model: type[BaseModel]) -> None:
    found = dict(numbers_in(model.model_json_schema()))
    assert found
    unbounded = [
        where
        for where, number in found.items()
        if not {"maximum", "exclusiveMaximum"} & set(number)
        or not {"minimum", "exclusiveMinimum"} & set(number)
    ]
    assert not unbounded


def test_a_file_that_windows_wrote_is_read(recipe_file: Path) -> None:
    plain = load_recipe(str(recipe_file))
    recipe_file.write_bytes(b"\xef\xbb\xbf" + recipe_file.read_bytes().replace(b"\n", b"\r\n"))
    assert load_recipe(str(recipe_file)) == plain


def test_an_unknown_name_lists_what_there_is() -> None:
    meant = r"Did you mean cifar10, cifar100 or cifar10_short\? There are: cifar10"
    with pytest.raises(UserError, match=rf"Unknown recipe 'cifar'. {meant}"):
        load_recipe("cifar")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("pathmist", "pathmnist"),
        ("blodmnist_64", "bloodmnist_64"),
        ("CIFAR10", "cifar10"),
        ("photos", "folder:photos"),
        ("fotos", "folder:photos"),
        ("list.csv", "csv:list.csv"),
    ],
)
def test_unknown_data_are_told_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "list.csv").touch()
    with pytest.raises(UserError, match=f"Unknown data set {name!r}. Did you mean {meant}"):
        load_recipe(f"demo:{name}").dataset_info()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./foto", "is no data set, and nothing is there. Did you mean folder:"),
        ("./list.cvs", "is no data set, and nothing is there."),
        ("./liste.csv", "nothing is there. Did you mean csv:list.csv?"),
        ("./photos", "./photos is no data set. Did you mean folder:./photos?"),
    ],
)
def test_a_path_is_not_told_as_an_unknown_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "list.csv").touch()
    with pytest.raises(UserError) as raised:
        load_recipe(f"demo:{name}").dataset_info()
    assert words in str(raised.value) and "Unknown" not in str(raised.value)


def test_all_that_is_wrong_with_a_recipe_is_told_at_once(recipe_file: Path) -> None:
    text = recipe_file.read_text()
    for old, new in (
        ('dataset = "digits"', 'dataset = "digit"'),
        ("seed = 0", "sede = 0"),
        ("epochs = 2", 'epochs = "2"\noptimizer = "adamv"'),
        ("learning_rate", "lerning_rate"),
        ("depth = 2, width = 32", "deep = 2, width = 32"),
        ('taught_by = "teacher"', 'taught_by = "teacher"\ntraining = { epoch = 3, patience = 0 }'),
        ('taught_by = "assistant"', 'taught_by = "student"'),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    recipe_file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(str(recipe_file))
    first, *problems = str(caught.value).splitlines()
    assert first == f"Recipe {recipe_file} has 10 problems:"
    for words in (
        "training.epochs = '2' is not possible",
        "training.optimizer = 'adamv' is not possible: Input should be 'adamw', 'adam' or 'sgd'. "
        "Did you mean adam or adamw?",
        "training.learning_rate is missing.",
        "training.lerning_rate is not a known key. Did you mean learning_rate?",
        "stage.0.model.deep is not a known key. Did you mean depth?",
        "sede is not a known key. Did you mean seed?",
        "stage assistant: training.epoch is not a known key. Did you mean epochs",
        "stage assistant: training.patience = 0 is not possible",
        "stage student is taught by student, which does not come before it (before it: teacher, "
        "assistant).",
        "dataset: Unknown data set 'digit'. Did you mean digits?",
    ):
        assert any(problem.strip().startswith(words) for problem in problems), words


def test_a_stage_that_there_never_is_is_told_once(edited) -> None:
    with pytest.raises(UserError, match=r"taught_by = 'assistent' is not possible") as caught:
        edited('taught_by = "assistant"', 'taught_by = "assistent"')
    assert "\n" not in str(caught.value)


def test_a_recipe_with_a_great_many_problems_is_told_in_part(recipe_file: Path) -> None:
    keys = "".join(f"key{number} = 1\n" for number in range(40))
    recipe_file.write_text(keys + recipe_file.read_text())
    with pytest.raises(UserError, match=r"has 40 problems:(\n.*){12}\n  and 28 more\.$"):
        load_recipe(str(recipe_file))


def test_an_unknown_data_set_lists_what_there_is(edited) -> None:
    with pytest.raises(
        UserError, match=r"Unknown data set 'letters'. There are: cifar10, cifar100"
    ):
        edited('"digits"', '"letters"').dataset_info()


def test_equal_recipes_have_equal_digests_and_others_do_not(edited) -> None:
    before = load_recipe("demo").digest()
    assert load_recipe("demo").digest() == before
    assert edited("epochs = 2", "epochs = 3").digest() != before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (f"a = {'[' * 1000}{']' * 1000}", "is nested more than 32 deep"),
        (f"{'.'.join('a' * 100)} = 1", "is nested more than 32 deep"),
        (f"seed = {'9' * 5000}", "is not TOML: Exceeds the limit"),
        ("x" * 70_000, "larger than 64 KiB"),
        ("a = 2024-02-29", "is missing"),
    ],
)
def test_what_no_person_writes_is_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "recipe.toml").write_text(content)
    with pytest.raises(UserError, match=sentence):
        load_recipe(str(tmp_path / "recipe.toml"))


def test_what_is_no_plain_file_is_no_recipe(tmp_path: Path) -> None:
    for words, path in odd_things(tmp_path):
        link = tmp_path / f"{len(words)}-{path.name[:10]}.toml"
        link.symlink_to(path)
        with within(5), pytest.raises(UserError, match=f"Cannot read recipe .*{words}"):
            load_recipe(str(link))
