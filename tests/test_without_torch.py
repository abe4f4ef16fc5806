"""What answers does so without torch and the other packages that only training needs; the rest says what to install."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import pati.app
from pati import included
from pati.errors import PatiError
from pati.inference.load import load
from pati.inference.onnx_classifier import OnnxClassifier
from pati.system import extras
from tests.support.browser import CHROMIUM, QUIET, free_port, needs_chromium, wait_for
from tests.support.photos import write_shapes

ROOT = Path(__file__).parents[1]
SAMPLES = Path(pati.app.__file__).parent / "samples"
TRAIN = ("torch", "safetensors", "scipy", "sklearn", "skimage", "matplotlib", "jinja2", "onnx", "onnxscript")
OTHERS = ("pandas", "pyarrow", "streamlit", "optuna", "sqlalchemy", "timm", "kagglehub")
# As if the packages were not there: imported when Python starts.
HIDDEN = """
import importlib.machinery

find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None if name.partition(".")[0] in {missing} else find(name, path, target)
)
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(folder: Path, *missing: str) -> dict[str, str]:
    """The variables of a process in which these packages are missing; `folder`: where to write what hides them."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDDEN.format(missing=missing))
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python, by default `python -m pati`, where only the base packages are installed."""
    variables = environment(tmp_path_factory.mktemp("base") / "hidden", *TRAIN, *OTHERS)

    def run(*words: object, cwd: Path | None = None, module: str | None = "pati") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *(["-m", module] if module else []), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, timeout=120)

    return run


def told(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The error and the hint of a command that failed with one line each, below its notes."""
    assert done.returncode == 1, done
    lines = done.stderr.splitlines()
    assert lines[-2].startswith("error: "), done.stderr
    assert lines[-1].startswith("hint: "), done.stderr
    assert "Traceback" not in done.stderr
    return lines[-2].removeprefix("error: "), lines[-1].removeprefix("hint: ")


# What answers -------------------------------------------------------------------------


def test_photos_are_answered(base: Run, tmp_path: Path) -> None:
    done = base("predict", SAMPLES, "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    model = OnnxClassifier.load(included.exported())
    assert [Path(row["path"]).name for row in rows] == ["cat.jpg", "coffee.jpg", "rocket.jpg"]
    for row in rows:
        answer = model.predict(row["path"])
        assert row["prediction"] == answer.label
        assert float(row["confidence"]) == pytest.approx(answer.confidence, abs=1e-5)
    named = base("predict", included.exported(), SAMPLES / "cat.jpg", "--format", "json")
    assert json.loads(named.stdout)[0]["prediction"] == "Cat"
    beside = base("predict", included.model(), SAMPLES / "cat.jpg")  # answers with the exported model beside it
    assert beside.stdout.startswith("Cat "), beside.stderr


def test_a_photo_is_explained(base: Run, tmp_path: Path) -> None:
    done = base("explain", SAMPLES / "cat.jpg", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "cat.explained.png") as page:
        assert page.width > 1000


def test_data_is_checked(base: Run, tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", per_class=20)
    for path in (data / "circle").iterdir():  # a shortcut
        with Image.open(path) as image:
            image.save(path.with_suffix(".png"))
        path.unlink()
    done = base("check", data, "--out", tmp_path / "manifest.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["kept"] == 60
    assert document["shortcuts"][0]["property"] == "format"
    assert document["balance"] == {"ratio": document["balance"]["ratio"], "advised": "none"}
    assert base("check", data, "--out", tmp_path / "manifest.jsonl").returncode == 0


@pytest.mark.parametrize("what", ["datasets", "metrics", "presets", "fields"])
def test_catalogues_are_listed(base: Run, what: str) -> None:
    done = base("list", what)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2


def test_every_command_has_its_help(base: Run) -> None:
    code = """
import contextlib
from pati.cli import program
for name in program:
    if not name.startswith("-"):
        with contextlib.suppress(SystemExit):
            program([name, "--help"])
print("END")
"""
    done = base("-c", code, module=None)
    assert done.stdout.endswith("END\n"), done.stderr
    assert "pati train" in done.stdout
    assert base("--version").stdout.strip() == pati.__version__


def test_python_answers(base: Run) -> None:
    code = f"""
import sys, pati
answer = pati.load().predict({str(SAMPLES / "cat.jpg")!r})
assert answer.label == "Cat" and pati.load().explain({str(SAMPLES / "cat.jpg")!r}).label == "Cat"
heavy = [name for name in ("rich", "cyclopts", "pati.report.pictures") if name in sys.modules]
assert not heavy, heavy
"""
    done = base("-c", code, module=None)
    assert done.returncode == 0, done.stderr


# What doesn't -------------------------------------------------------------------------

VERBS = {
    "pati train": ["train", "photos"],
    "pati eval": ["eval", "run"],
    "pati clean": ["clean", "photos", "run"],
    "pati compare": ["compare", "one", "two"],
    "pati tune": ["tune", "photos"],
    "pati report": ["report", "run"],
    "pati export": ["export", "run"],
    "pati lr-find": ["lr-find", "photos"],
    "pati show-augment": ["show-augment", "photos"],
    "pati explain --check": ["explain", "photos", "--check"],
    "pati explain --boxes": ["explain", "--boxes", "boxes.csv"],
    "pati list models": ["list", "models"],
    "pati list explainers": ["list", "explainers"],
    "pati list formats": ["list", "formats"],
    "pati list augmentations": ["--lang", "en", "list", "augmentations"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_that_requires_torch_says_what_to_install(base: Run, verb: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    error, hint = told(base(*VERBS[verb], cwd=tmp_path))
    assert error.startswith(f"{verb} requires ")
    assert error.endswith("which is not installed")
    assert 'pip install "pati[train]"' in hint
    assert "--torch-backend=auto" in hint
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}, "nothing was begun"


def test_other_extras_are_named(base: Run) -> None:
    error, hint = told(base("app", "--no-browser"))
    assert (error, hint) == (
        "pati app requires streamlit, which is not installed",
        'install it: pip install "pati[app]"',
    )


def test_explanations_that_require_torch_are_refused(base: Run, tmp_path: Path) -> None:
    cat = SAMPLES / "cat.jpg"
    error, hint = told(base("explain", cat, "--method", "occlusion", cwd=tmp_path))
    assert error == "an exported model has Grad-CAM of the last stage only"
    error, hint = told(base("explain", cat, "--class", "Dog", cwd=tmp_path))
    assert error == "an exported model explains the predicted class only, here Cat"
    assert "torch" in hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("model.safetensors", "needs torch"),
        ("none.safetensors", "does not exist"),
        ("gone.safetensors", "does not exist"),
        ("none.onnx", "can't read the model"),
        ("bad.onnx", "is not a model that pati exported"),
        ("best.pt", "is not a pati model"),
        ("photo.safetensors", "is not a pati model"),
        ("run", "contains no model"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_not_taken_for_a_photo(
    base: Run, model: str, expected: str, tmp_path: Path
) -> None:
    for name in ("bad.onnx", "best.pt"):
        (tmp_path / name).write_bytes(b"nothing")
    (tmp_path / "photo.safetensors").write_bytes((SAMPLES / "cat.jpg").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(included.model().read_bytes())
    for name in ("best.onnx", "gone.onnx"):  # which were not named
        (tmp_path / name).write_bytes(included.exported().read_bytes())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}")
    done = base("predict", model, SAMPLES / "cat.jpg", cwd=tmp_path)
    assert done.returncode == 1
    assert f"error: {model} {expected}" in done.stderr or f"error: {expected} {model}" in done.stderr
    assert done.stdout == ""


def test_python_says_what_to_install(base: Run) -> None:
    code = """
import pati
for use in (lambda: pati.train("x"), lambda: pati.compare(["x"]), lambda: pati.Classifier):
    try:
        use()
    except pati.PatiError as error:
        print(error.message)
        assert 'pip install "pati[train]"' in str(error.hint)
"""
    done = base("-c", code, module=None)
    assert done.stdout.splitlines() == [
        f"pati.{name} requires torch, which is not installed" for name in ("train", "compare", "Classifier")
    ], done.stderr


# A package that is there, and can't be imported ---------------------------------------


def test_a_damaged_package_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site" / "torch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('libtorch.so: cannot open shared object file\\nand more')")
    variables = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(ROOT)))}
    done = subprocess.run(
        [sys.executable, "-m", "pati", "train", "photos"], capture_output=True, text=True, env=variables, timeout=60
    )
    error, hint = told(done)
    assert error.endswith("cannot import a package that it requires: libtorch.so: cannot open shared object file")
    assert "install it again" in hint


def test_a_folder_that_has_the_name_of_a_package_is_not_one(base: Run, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    done = base("predict", SAMPLES / "cat.jpg", cwd=tmp_path)
    assert done.stdout.startswith("Cat "), done.stderr


def test_faults_of_pati_are_not_told_as_a_package_of_others() -> None:
    assert extras.explained(ImportError("cannot import name 'x'", name="pati.recipe"), "pati train") is None
    inner = extras.explained(ModuleNotFoundError("No module named 'numpy._core'", name="numpy._core"), "pati train")
    assert inner is not None
    assert "No module named 'numpy._core'" in str(inner.message)
    with pytest.raises(PatiError, match="pati train requires scikit-learn, which is not installed"):
        raise extras.missing("sklearn.datasets", "pati train") or AssertionError


# A run of which an exported model was kept --------------------------------------------


def test_a_folder_with_an_exported_model_alone_answers(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "model.onnx").write_bytes(included.exported().read_bytes())
    assert isinstance(load(tmp_path / "kept"), OnnxClassifier)


def test_an_exported_model_is_not_exported_again(base: Run, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(included.exported().read_bytes())
    for model in (tmp_path / "model.onnx", tmp_path):
        error, hint = told(base("export", model))
        assert error == f"{model} is an exported model already"
        assert "install" not in hint


def test_an_export_of_another_model_does_not_answer_for_a_run(base: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "model.onnx").write_bytes(included.exported().read_bytes())
    (tmp_path / "model.safetensors").write_bytes(included.model().read_bytes())
    assert base("predict", tmp_path, SAMPLES / "cat.jpg").stdout.startswith("Cat ")
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.write(b"trained anew")
    error, _ = told(base("predict", tmp_path, SAMPLES / "cat.jpg"))
    assert "needs torch" in error


# The page -----------------------------------------------------------------------------


@pytest.fixture(params=["without torch", "with torch"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a page: where torch is missing, or with an exported model where it isn't."""
    (tmp_path / "pets.onnx").write_bytes(included.exported().read_bytes())
    without = request.param == "without torch"
    variables = environment(tmp_path / "hidden", *TRAIN) if without else os.environ | {"PYTHONPATH": str(ROOT)}
    port = free_port()
    command = [sys.executable, "-m", "pati", "app", "--port", str(port), "--no-browser"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *([] if without else ["pets.onnx"])], cwd=tmp_path, env=variables, stdout=log, stderr=log
        )
    wait_for(port)
    yield f"http://localhost:{port}"
    process.terminate()
    process.wait(20)
    assert "Traceback" not in (tmp_path / "log").read_text()


@needs_chromium
@pytest.mark.slow
def test_the_page_answers_with_an_exported_model(page: str, request: pytest.FixtureRequest) -> None:
    from playwright.sync_api import sync_playwright

    without = "without torch" in request.node.name
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        visit = browser.new_context(locale="en-US").new_page()
        visit.goto(page)
        visit.set_input_files('[data-testid="stFileUploaderDropzoneInput"]', [SAMPLES / "cat.jpg"])
        visit.get_by_text("Prediction: Cat").wait_for()
        visit.get_by_role("img", name="The photo under the explanation map for Cat").wait_for()
        visit.get_by_text("Explanation options").click()
        visit.get_by_text("explains the predicted class only").wait_for()
        assert visit.get_by_role("combobox", name="Method").count() == 0
        assert visit.get_by_role("combobox", name="Stage of the network").count() == 0
        visit.goto(f"{page}/results")
        expected = "The tab Results requires torch, which is not installed" if without else "No finished runs in"
        visit.get_by_text(expected).wait_for()
        browser.close()
