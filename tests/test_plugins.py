"""Plugins: the documented one in every verb, broken ones, and that no file loads one by itself."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pati
from pati import plugins
from pati.app import parts
from pati.app.results_page import _row
from pati.cli import catalogue
from pati.cli.entry import plugins_first
from pati.data.preprocess import Preprocess
from pati.errors import Interrupted, PatiError
from pati.evaluation.metrics import metrics, summary
from pati.events import Event, StepDone
from pati.explain.cams import explainers
from pati.models import Options, build, models
from pati.models.counting import cost_of
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.system import command as called
from pati.terminal.console import console
from pati.terminal.tables import show_comparison, show_result
from pati.training.augment import Draws, augment, augmentations
from pati.workflows import augmentation_preview, explanation_tests
from pati.workflows.compare import compare, verdict
from pati.workflows.train import resume, train
from tests.support.commands import pati as run_command
from tests.support.kills import weights
from tests.support.model_files import edited
from tests.support.photos import draw
from tests.support.recipes import settled

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

ROOT = Path(__file__).parent.parent
(DOCUMENTED,) = re.findall(
    r'^```python\n("""my_nets.py.*?)^```', (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S
)
REGISTERED, BUILT = (
    1 + DOCUMENTED.splitlines().index(line) for line in ('@models.register("tiny")', "    stages = nn.Sequential(")
)
QUICK = Recipe(model="tiny", epochs=3, size=32, growth=(1.0,))
NOTHING = Recipe(flip=0, rotate=0, crop=1, brightness=0, size=32)
PHOTOS = [torch.tensor(np.asarray(draw(shape, 1, 32))) for shape in ("circle", "square")]


def command(*arguments: object, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command, after which this process knows as little of the plugin as a new one."""
    try:
        return run_command(*arguments, cwd=cwd, stdin=stdin)
    finally:
        remove_all()


def remove_all() -> None:
    for loaded in plugins._loaded.values():
        loaded.plugin.remove()
    plugins._loaded.clear()


@pytest.fixture(autouse=True)
def without_plugins() -> Iterator[None]:
    yield
    remove_all()


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "my_nets.py"
    path.write_text(DOCUMENTED)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A folder with the documented plugin, and a run made with it on the command line."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "my_nets.py").write_text(DOCUMENTED)
    done = command(
        "train", trained.parent / "shapes", "--plugin", "my_nets.py", "--model", "tiny", "--epochs", 1, "--size", 32,
        "--set", "growth=1", "split_seed=1", "--out", "run", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def verbs(trained: Path) -> dict[str, list[object]]:
    photo = trained.parent / "shapes" / "circle" / "1.jpg"
    return {
        "predict": ["predict", "run", photo],
        "explain": ["explain", "run", photo],
        "eval": ["eval", "run", "--split", "validation"],
        "resume": ["train", "--resume", "run"],
        "compare": ["compare", "run", trained],
    }


@pytest.mark.parametrize("verb", ["predict", "explain", "eval", "resume", "compare"])
def test_every_verb_takes_the_plugin_and_is_refused_without(home: Path, trained: Path, verb: str) -> None:
    words = verbs(trained)[verb]
    done = command(*words, "--plugin", "my_nets.py", cwd=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    done = command(*words, cwd=home)
    assert done.returncode == 1
    assert "the model 'tiny' comes from the plugin my_nets.py" in done.stderr
    assert "hint: use --plugin my_nets.py (only if you trust it: it is executed)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "__pycache__").exists()


def test_the_option_stands_anywhere_and_in_every_help(home: Path, trained: Path) -> None:
    photo = trained.parent / "shapes" / "circle" / "1.jpg"
    for words in (
        ["--plugin", "my_nets.py", "predict", "run", photo],
        ["predict", "run", "--plugin", "my_nets.py", "--plugin", "my_nets.py", "--", photo],
    ):
        done = command(*words, cwd=home)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
    piped = command("predict", "run", "-", "--plugin", "my_nets.py", cwd=home, stdin=f"{photo}\n{photo}\n")
    assert piped.stdout.count("\n") == 2
    assert "--plugin" in command("--help", cwd=home).stdout
    assert "--plugin" in command("predict", "--help", cwd=home).stdout
    listed = json.loads(command("list", "models", "--json", "--plugin", "my_nets.py", cwd=home).stdout)
    assert {"name": "tiny", "summary": "My net: two strided convolutions. (plugin my_nets.py)"} in listed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "x"], ["train", "x"]),
        (["predict", "m", "--plugin", "a.py", "x"], ["--plugin", "a.py", "predict", "m", "x"]),
        (["predict", "m", "--plugin=a.py", "-"], ["--plugin=a.py", "predict", "m", "-"]),
        (["predict", "m", "--", "--plugin", "a.py"], ["predict", "m", "--", "--plugin", "a.py"]),
        (["train", "--plugin"], ["train", "--plugin"]),
        ([], []),
    ],
)
def test_plugins_come_before_the_verb(words: list[str], expected: list[str]) -> None:
    assert plugins_first(words) == expected


def test_usage_mistakes_keep_their_exit_codes(home: Path) -> None:
    for words, code in (
        (["train", "--plugin"], 2),
        (["nonsense", "--plugin", "my_nets.py"], 2),
        (["list", "models", "--plugin", "gone.py"], 1),
    ):
        done = command(*words, cwd=home)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


def test_the_documented_plugin_is_short() -> None:
    assert len([line for line in DOCUMENTED.splitlines() if line.strip()]) <= 15


def test_loading_twice_is_harmless_and_an_edited_file_counts(plugin: Path) -> None:
    pati.load_plugin(plugin)
    factory = models["tiny"]
    pati.load_plugin(str(plugin))
    pati.load_plugin(plugin.parent / "." / plugin.name)
    assert models["tiny"] is factory
    plugin.write_text(DOCUMENTED.replace('"tiny"', '"small"'))
    pati.load_plugin(plugin)
    assert "tiny" not in models
    assert models.plugin("small") == "my_nets.py"


def test_other_kinds_are_remembered_too(tmp_path: Path) -> None:
    path = tmp_path / "more.py"
    path.write_text(
        "from pati.training.augment import augmentations\nfrom pati.evaluation.metrics import metrics\n"
        "from pati.explain.cams import explainers\n"
        "def nothing(*anything):\n    'Nothing.'\n"
        "for registry in (augmentations, metrics, explainers):\n    registry.register('nothing')(nothing)\n"
    )
    pati.load_plugin(path)
    for registry in (augmentations, metrics, explainers):
        assert registry.plugin("nothing") == "more.py"
        assert [name for name in registry if registry.plugin(name)] == ["nothing"]
    assert ("nothing", "Nothing. (plugin more.py)") in catalogue.rows("explainers")


def test_what_a_plugin_imports_of_pati_stays_patis_own(plugin: Path, trained: Path) -> None:
    """In a fresh process, where the plugin's imports are the first of their modules."""
    plugin.write_text(
        "from pati.training.augment import augmentations\nfrom pati.models.scratch import scratch\n" + DOCUMENTED
    )
    code = (
        f"import pati; pati.load_plugin({str(plugin)!r})\n"
        "from pati.training.augment import augmentations; from pati.models import models\n"
        "print([n for r in (augmentations, models) for n in r if r.plugin(n)], 'pati-deep' in models)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['tiny'] True\n", done.stderr
    plugin.write_text(DOCUMENTED.replace('"tiny"', '"scratch"'))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "the model 'scratch' already exists" in done.stderr


BROKEN: dict[str, tuple[str, str]] = {
    "syntax": ("x = 1\ndef f(:\n", "line 2: SyntaxError"),
    "an exception": ("x = 1\n\nx / 0\n", "line 3: ZeroDivisionError"),
    "an import": ("import no_such_package\n", "line 1: ModuleNotFoundError: No module named 'no_such_package'"),
    "a file beside it": ("import helper\n", "line 1: ModuleNotFoundError: No module named 'helper'"),
    "an exit": ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
    "no text": ("\0", "null bytes"),
    "a taken name": (
        DOCUMENTED.replace('"tiny"', '"pati"'),
        f"line {REGISTERED}: the model 'pati' already exists",
    ),
    "no docstring": (re.sub(r'    """My.*\n', "", DOCUMENTED), "the model 'tiny' has no docstring"),
    "an error at the end": (DOCUMENTED + "\nraise ValueError('late')\n", "ValueError: late"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_plugins_say_where_and_leave_nothing(tmp_path: Path, kind: str) -> None:
    source, told = BROKEN[kind]
    path = tmp_path / "broken.py"
    path.write_text(source)
    (tmp_path / "helper.py").write_text("")
    known, modules = list(models), set(sys.modules)
    with pytest.raises(PatiError) as caught:
        pati.load_plugin(path)
    assert "the plugin broken.py" in str(caught.value.message)
    assert told in str(caught.value.message)
    assert ("single file" in str(caught.value.hint)) == ("ModuleNotFound" in told)
    assert list(models) == known
    assert not [name for name in set(sys.modules) - modules if name.startswith("_pati_plugin")]
    path.write_text(DOCUMENTED)  # mended
    pati.load_plugin(path)
    assert "tiny" in models


def test_wrong_files_are_refused(tmp_path: Path, plugin: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "nets.txt").write_text(DOCUMENTED)
    for name, told in (("gone.py", "No such file"), ("folder.py", "Is a directory"), ("nets.txt", "is a Python file")):
        with pytest.raises(PatiError, match=told):
            pati.load_plugin(tmp_path / name)
    pati.load_plugin(plugin)
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "my_nets.py"
    twin.write_text(DOCUMENTED)
    with pytest.raises(PatiError, match=r"another plugin named my_nets.py"):
        pati.load_plugin(twin)
    rival = tmp_path / "rival.py"
    rival.write_text(DOCUMENTED)
    with pytest.raises(PatiError, match=r"'tiny' already exists: it comes from the plugin my_nets.py"):
        pati.load_plugin(rival)


WRONG_NETS: dict[str, tuple[str, str, str]] = {
    "shapes that don't fit": ("nn.Linear(32, ", "nn.Linear(99, ", "RuntimeError: mat1 and mat2 shapes"),
    "too few answers": ("nn.Linear(32, classes)", "nn.Linear(32, 1)", "returned (2, 1) for 2 photos"),
    "no map": (
        "Net(stages, ",
        "Net(nn.Sequential(stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()), ",
        "which is not a feature map: its predictions cannot be explained",
    ),
    "no Net": ("return Net(", "return nn.Identity(", "returned a Identity"),
    "double precision": ("    return Net(", "    stages.double()\n    return Net(", "torch.float64"),
    "lazy layers": ("nn.Linear(32, ", "nn.LazyLinear(", "uninitialized"),
    "an error in the factory": (
        "    stages = nn",
        "    options.depth\n    stages = nn",
        f"line {BUILT}: AttributeError",
    ),
    "larger than it says": ("average = (", "average = (nn.MaxPool2d(4), ", "RuntimeError"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("kind", WRONG_NETS)
def test_wrong_nets_are_found_before_training(plugin: Path, kind: str) -> None:
    before, after, told = WRONG_NETS[kind]
    assert before in DOCUMENTED
    plugin.write_text(DOCUMENTED.replace(before, after))
    pati.load_plugin(plugin)
    with pytest.raises(PatiError, match=r"the plugin my_nets.py") as caught:
        build("tiny", 3, Options(size=32))
    assert told in str(caught.value.message)


def test_trying_a_net_out_leaves_no_trace(plugin: Path) -> None:
    pati.load_plugin(plugin)
    net = build("tiny", 3, Options(size=32, dropout=0.5), seed=4)
    assert net.training
    assert all(float(value.sum()) == 0 for name, value in net.state_dict().items() if name.endswith("running_mean"))


def test_resume_is_exact_and_wants_the_same_plugin(plugin: Path, trained: Path, tmp_path: Path) -> None:
    pati.load_plugin(plugin)
    data = trained.parent / "shapes"
    whole = train(data, QUICK, out=tmp_path / "whole").run

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(data, QUICK, out=tmp_path / "stopped", listen=stop)
    stopped = Run.open(tmp_path / "stopped")

    remove_all()
    with pytest.raises(PatiError, match=r"the model 'tiny' comes from the plugin my_nets.py"):
        resume(stopped.folder)
    plugin.write_text(DOCUMENTED + "# edited\n")
    pati.load_plugin(plugin)
    with pytest.raises(PatiError, match=r"the plugin my_nets.py has changed since this run was started"):
        resume(stopped.folder)
    plugin.write_text(DOCUMENTED)
    pati.load_plugin(plugin)
    another = tmp_path / "another.py"
    another.write_text(DOCUMENTED.replace('"tiny"', '"another"'))
    pati.load_plugin(another)
    with pytest.raises(PatiError, match=r"was started without the plugin another.py"):
        resume(stopped.folder)
    remove_all()
    pati.load_plugin(plugin)
    resume(stopped.folder)
    assert weights(stopped.folder) == weights(whole.folder)
    assert pati.load(whole.folder).facts["model"]["plugin"] == "my_nets.py"


# A file is not able to load a plugin -------------------------------------------------


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("evil.py", "comes from the plugin evil.py"),
        ("{folder}/evil.py", "comes from a plugin"),
        ("../evil.py", "comes from a plugin"),
        ("evil.py; rm -rf ~ #.py", "comes from a plugin"),
        ("--out.py", "comes from a plugin"),
        ("a b.py", "--plugin 'a b.py'"),
        (["evil.py"], "comes from a plugin"),
        (7, "comes from a plugin"),
        (None, "comes from a plugin"),
    ],
)
@pytest.mark.parametrize("model", ["tiny", "evil", "pati"])
def test_a_model_file_names_a_plugin_and_never_runs_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: Any, told: str, model: str
) -> None:
    """Not even where the plugin lies where the file says, or the model's name is one that pati knows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\n")
    if isinstance(named, str):
        named = named.format(folder=tmp_path)
    change: Callable[..., None] = lambda document, tensors: document["model"].update(name=model, plugin=named)  # noqa: E731
    path = edited(trained / "model.safetensors", tmp_path / "m.safetensors", change)
    before = set(sys.modules)
    with pytest.raises(PatiError) as caught:
        pati.load(path)
    assert told in str(caught.value)
    assert ";" not in str(caught.value)
    assert "only if you trust it" in str(caught.value.hint)
    assert not (tmp_path / "ran").exists()
    assert not [name for name in set(sys.modules) - before if "evil" in name]


def test_a_run_never_loads_a_plugin(home: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(home / "run", tmp_path / "run"))
    evil = tmp_path / "evil.py"
    evil.write_text("open('ran', 'w').close()\n")
    run.update(stage="training", plugins={str(evil): {"sha256": "", "entries": [["model", "tiny"]]}})
    done = command("train", "--resume", "run", cwd=tmp_path)
    assert done.returncode == 1
    assert "comes from a plugin" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_only_the_command_line_and_python_users_load_plugins() -> None:
    callers, runners = set(), set()
    for path in (ROOT / "pati").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called.endswith("load_plugin"):
                    callers.add(str(path.relative_to(ROOT / "pati")))
                if called in ("exec", "eval", "compile", "__import__"):
                    runners.add(path.name)
    # The worker takes the files from its own command line, where `pati app --plugin` put them; never from a run.
    assert callers == {"cli/entry.py", "app/work.py"}
    assert runners == {"plugins.py"}


# What is wrong with other kinds -------------------------------------------------------


def test_a_factory_may_compute_with_what_it_makes(plugin: Path, shapes: Path, tmp_path: Path) -> None:
    rates = "    rates = [rate.item() for rate in torch.linspace(0, 0.1, 2)]\n"
    (line,) = (line for line in DOCUMENTED.splitlines() if line.startswith("    stages = nn.Sequential("))
    plugin.write_text("import torch\n" + DOCUMENTED.replace(line, rates + line))
    pati.load_plugin(plugin)
    made = pati.train(shapes, dataclasses.replace(QUICK, epochs=1), out=tmp_path / "run")
    again = pati.load(tmp_path / "run")
    photo = np.asarray(draw("circle", 1, 32))
    assert again.predict(photo) == made.predict(photo)


def loaded(path: Path, kind: str, body: str, *, head: str = "") -> None:
    """A plugin that registers one function `mine` of this kind."""
    registries = {"metrics": "evaluation.metrics", "augmentations": "training.augment", "explainers": "explain.cams"}
    registry = f"pati.{registries[kind]}"
    path.write_text(
        f"import torch\nfrom {registry} import {kind}\n{head}\n"
        f"@{kind}.register('mine')\ndef mine(*given):\n    'Mine.'\n    {body}\n"
    )
    pati.load_plugin(path)


def test_a_metric_that_fails_does_so_before_training(trained: Path, tmp_path: Path) -> None:
    loaded(tmp_path / "mine.py", "metrics", "return len(given) / 0")
    told: list[Event] = []
    with pytest.raises(PatiError, match=r"mine.py, line 7: ZeroDivisionError"):
        train(
            trained.parent / "shapes", Recipe(epochs=1, size=32, growth=(1.0,)), out=tmp_path / "run",
            listen=told.append,
        )  # fmt: skip
    assert not any(isinstance(event, StepDone) for event in told)


def test_a_metric_without_a_number_is_left_open(trained: Path, tmp_path: Path) -> None:
    loaded(tmp_path / "mine.py", "metrics", "return float('nan')")
    made = train(trained.parent / "shapes", Recipe(epochs=1, size=32, growth=(1.0,), width=0.25), out=tmp_path / "run")
    assert made.metrics["test"]["mine"] is None
    assert json.loads(made.run.metrics.read_text())["test"]["mine"] is None
    assert pati.load(made.run.folder).facts["metrics"]["mine"] is None


def test_a_metric_is_seen_wherever_scores_are(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "language", lambda: "en")
    loaded(tmp_path / "mine.py", "metrics", "return 0.43215")
    recipe = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25, split_seed=1)
    runs = [train(trained.parent / "shapes", recipe, out=tmp_path / name).run for name in ("one", "two")]
    show_result(runs[0], runs[0].read_metrics())
    assert "mine 0.4321" in capsys.readouterr().out
    both = compare([run.folder for run in runs])
    show_comparison(both, [verdict(pair) for pair in both["pairs"]], console(stderr=False))
    assert capsys.readouterr().out.count("0.4321") == 2
    value = '<small>mine</small><b><span lang="en">0.4321</span><span lang="tr">0,4321</span>'
    assert value in runs[0].report.read_text(encoding="utf-8")
    assert "| mine | 0.4321 |" in runs[0].card.read_text(encoding="utf-8")
    assert _row(runs[0])[1]["mine"] == 0.43215
    remove_all()  # what was measured is told without the plugin, too
    show_result(runs[0], runs[0].read_metrics())
    assert "mine 0.4321" in capsys.readouterr().out
    for mixed in ([runs[0].folder, trained], [trained, runs[0].folder]):  # of which one lacks it
        both = compare(mixed)
        show_comparison(both, [verdict(pair) for pair in both["pairs"]], console(stderr=False))
        (row,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("mine"))
        assert sorted(row) == sorted(["mine", "0.4321", "–"])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return torch.eye(3)", r"'mine' returned torch.float32 \(3, 3\)"),
        ("return torch.zeros(len(given[2]), 2, 3)", r"\(4, 2, 3\)"),
        ("return torch.eye(3).expand(len(given[2]), 3, 3).double()", r"torch.float64 \(4, 3, 3\)"),
        ("return 1.5", "'mine' returned float"),
        ("return torch.zeros(2, 4)", r"\(2, 4\)"),
    ],
)
def test_a_wrong_change_of_an_augmentation_is_told(tmp_path: Path, body: str, told: str) -> None:
    loaded(tmp_path / "mine.py", "augmentations", body)
    recipe = settled(Recipe(size=32))
    with pytest.raises(PatiError, match=told):
        augment(
            torch.zeros(4, 32, 32, 3, dtype=torch.uint8), Draws(0, 0, torch.arange(4)), recipe, Preprocess(size=32), 32
        )


def test_an_augmentation_has_a_row_of_its_own_in_the_picture(tmp_path: Path) -> None:
    plain = augmentation_preview.rows(*PHOTOS, settled(NOTHING), Preprocess(size=32))
    loaded(
        tmp_path / "darker.py", "augmentations",
        "draws, _, images = given\n    strength = draws.strength.float().expand(len(images))\n"
        "    return torch.eye(3, 4) * (1 - strength / 2)[:, None, None]",
    )  # fmt: skip
    rows = augmentation_preview.rows(*PHOTOS, settled(NOTHING), Preprocess(size=32))
    (own,) = [(setting, tiles) for name, setting, tiles in rows if name == "mine"]
    assert str(own[0]) == "plugin darker.py"
    means = [float(tile.mean()) for tile in own[1] if tile is not None]
    assert means == sorted(means, reverse=True)
    assert means[-1] == pytest.approx(means[0] / 2, rel=0.02)
    others = [row for row in rows if row[0] not in ("mine", "recipe")]
    for (name, _, before), (_, _, after) in zip(plain, others, strict=False):  # all but the recipe's, which darkens
        if name != "recipe":
            assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True)), name
    (_, _, drawn) = rows[-1]
    assert drawn[0] is not None
    assert float(drawn[0].mean()) == pytest.approx(means[-1], rel=0.02)


def test_a_plugin_registers_no_family(tmp_path: Path) -> None:
    path = tmp_path / "family.py"
    path.write_text(
        "from pati.models import models\n@models.register_family('hub')\ndef hub(name):\n    'Hub.'\n    return None\n"
    )
    with pytest.raises(PatiError, match="cannot register a family of model names"):
        pati.load_plugin(path)
    assert "hub/NAME" not in models.families()


def test_a_net_that_makes_tensors_of_its_own_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "import torch\nfrom torch import nn\nfrom pati.models import Net, models\n"
        "class Scaled(nn.Module):\n    def forward(self, x):\n        return x * torch.ones(2)[:, None, None].sum()\n"
        "@models.register('own')\ndef own(classes, options):\n    'Own.'\n"
        "    stages = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), Scaled())\n"
        "    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))\n"
        "    return Net(stages, head, minimum_size=1)\n"
    )
    pati.load_plugin(path)
    assert cost_of(build("own", 2, Options(size=8)), 8) == (3 * 4 * 9 + 4 * 2 + 2, 8 * 8 * 3 * 4 * 9 + 4 * 2)


def test_commands_that_are_proposed_name_the_plugins(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pati.load_plugin(plugin)
    assert plugins.options() == ["--plugin", str(plugin)]
    monkeypatch.chdir(tmp_path)
    assert plugins.options() == ["--plugin", "my_nets.py"]


def augmented(pixels: torch.Tensor, **fields: Any) -> torch.Tensor:
    recipe = dataclasses.replace(Recipe(flip=0, rotate=0, crop=1, brightness=0), **fields)
    return augment(pixels, Draws(0, 0, torch.arange(len(pixels))), recipe, Preprocess(size=32), 32)


def test_an_augmentation_may_filter_images(tmp_path: Path) -> None:
    """What no map can do: here noise, after the photo is turned, and before its colours are normalised."""
    pixels = torch.tensor(np.stack([np.asarray(draw("circle", number, 32)) for number in range(4)]))
    plain = augmented(pixels, rotate=30.0)
    body = "amount = given[0].uniform(0, 0.1)\n    return lambda images: images + amount[:, None, None, None]"
    loaded(tmp_path / "mine.py", "augmentations", body)
    change = augmented(pixels, rotate=30.0) - plain
    amounts = change[:, 0, 0, 0]
    torch.testing.assert_close(change, amounts[:, None, None, None].expand_as(change), atol=1e-5, rtol=1e-4)
    assert len(set(amounts.tolist())) == 4
    assert 0 < amounts.min() < amounts.max() < 0.1 / 0.25  # over the deviation


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "return lambda images: images[:1]",
            r"the filter of .* 'mine' returned torch.float32 \(1, 3, 32, 32\)",
        ),
        ("return lambda images: None", "returned NoneType"),
        ("return lambda images: images.no_such()", r"the plugin mine.py, line \d+: AttributeError"),
    ],
)
def test_a_filter_that_gives_no_images_is_told(tmp_path: Path, body: str, told: str) -> None:
    loaded(tmp_path / "mine.py", "augmentations", body)
    with pytest.raises(PatiError, match=told):
        augmented(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))


@pytest.mark.parametrize("body", ["", "return torch.ones(3)", "return 'much'"])
def test_a_metric_that_gives_no_number_is_told(tmp_path: Path, body: str) -> None:
    loaded(tmp_path / "mine.py", "metrics", body or "pass")
    with pytest.raises(PatiError, match=r"the metric 'mine' returned a \w+\nexpected a number"):
        summary(torch.eye(3), torch.arange(3), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("body", "told"),
    [("return None", "returned a NoneType"), ("return torch.ones(1, 3, 4, 4)", r"returned \(1, 3, 4, 4\)")],
)
def test_an_explainer_that_gives_no_map_is_told(trained: Path, tmp_path: Path, body: str, told: str) -> None:
    loaded(tmp_path / "mine.py", "explainers", body)
    with pytest.raises(PatiError, match=told):
        pati.load(trained).explain(np.asarray(draw("circle", 1, 32)), method="mine")


def test_a_users_explainer_is_tried_as_strictly_as_it_is_drawn(trained: Path, tmp_path: Path) -> None:
    loaded(tmp_path / "mine.py", "explainers", "return -given[1].mean(1).abs()")
    made, photos = pati.load(trained), sorted((trained.parent / "shapes").rglob("1*.jpg"))[:8]
    boxed = [explanation_tests.Boxed(photo, "", (0, 0, 9, 9)) for photo in photos]
    for ask in (
        lambda: explanation_tests.located(made, boxed, ["mine"]),
        lambda: explanation_tests.checked(made, photos, "mine"),
        lambda: made.explain(photos[0], method="mine"),
    ):
        with pytest.raises(PatiError, match="'mine' returned values that are not finite, or negative"):
            ask()


def test_an_explainers_map_may_have_a_gradient(trained: Path, tmp_path: Path) -> None:
    loaded(tmp_path / "mine.py", "explainers", "return torch.ones(1, 4, 4, requires_grad=True) * 2")
    made = pati.load(trained).explain(np.asarray(draw("circle", 1, 32)), method="mine")
    assert made.map.min() == 1


def test_only_the_plugins_own_lines_are_blamed(tmp_path: Path) -> None:
    path = tmp_path / "functional.py"  # as a file of torch is named
    path.write_text(
        "import torch.nn.functional as F, torch\nfrom pati.models import models\n\n"
        "F.cross_entropy(torch.ones(2), torch.ones(3, 3))\n"
    )
    with pytest.raises(PatiError, match=r"the plugin functional.py, line 4: "):
        pati.load_plugin(path)


def test_hints_of_a_run_name_the_plugin(
    plugin: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pati.load_plugin(plugin)
    monkeypatch.chdir(tmp_path)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        train(trained.parent / "shapes", QUICK, out=Path("run"), listen=stop)
    again = f"{called.shown()} train --plugin my_nets.py --resume run"
    assert str(caught.value.hint) == f"resume it with: {again}"
    for action in (lambda: pati.load("run"), lambda: pati.compare(["run", trained])):
        with pytest.raises(PatiError) as refused:
            action()
        assert again in str(refused.value.hint)
    finished = resume("run")
    show_result(finished.run, finished.metrics)
    assert "pati predict --plugin my_nets.py run PHOTO" in capsys.readouterr().out
