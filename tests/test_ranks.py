"""Training in several processes: the same as in one, and none is left behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pati
from pati.errors import PatiError
from pati.recipe import Recipe
from pati.system.ranks import ALONE
from tests.support.browser import free_port
from tests.support.kills import epochs_done
from tests.support.photos import write_shapes
from tests.support.ranks import COUNTS, Tensors, results

ROOT = Path(__file__).parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensors]:
    threads = torch.get_num_threads()
    try:
        return results(ALONE, tmp_path_factory.mktemp("alone"))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[2, 3])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensors]:
    folder = tmp_path_factory.mktemp("together")
    words = [
        "--nproc-per-node",
        str(request.param),
        "-m",
        "tests.support.ranks",
        str(folder / "found.safetensors"),
        str(folder),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*TORCHRUN, *words], check=True, cwd=ROOT, env=environment, capture_output=True, timeout=120)
    found: dict[str, Tensors] = {}
    for name, value in load_file(folder / "found.safetensors").items():
        task, _, rest = name.partition("/")
        found.setdefault(task, {})[rest] = value
    assert found["ranks"]["size"] == request.param
    return found


def largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max())


def test_gradients_of_a_step_are_those_of_one_process(alone: dict[str, Tensors], together: dict[str, Tensors]) -> None:
    assert alone["gradients"].keys() == together["gradients"].keys()
    assert any(value.abs().max() > 0.01 for value in alone["gradients"].values())
    for name, value in alone["gradients"].items():
        assert largest(value, together["gradients"][name]) <= 1e-9, name


def test_twenty_steps_of_sgd_have_the_same_losses(alone: dict[str, Tensors], together: dict[str, Tensors]) -> None:
    assert len(alone["sgd"]["losses"]) == 20
    assert largest(alone["sgd"]["losses"], together["sgd"]["losses"]) <= 1e-5


def test_muon_differs_by_rounding(alone: dict[str, Tensors], together: dict[str, Tensors]) -> None:
    assert (
        largest(alone["muon"]["losses"], together["muon"]["losses"]) <= 0.01
    )  # Newton-Schulz amplifies the rounding of kernels with small singular values


@pytest.mark.parametrize("count", COUNTS)
def test_every_photo_is_scored_once(count: int, alone: dict[str, Tensors], together: dict[str, Tensors]) -> None:
    found = together["scored"]
    assert found[f"numbers {count}"].tolist() == list(range(count))
    for name in ("logits", "moments", "only moments"):
        torch.testing.assert_close(found[f"{name} {count}"], alone["scored"][f"{name} {count}"])


SHAPES = ["--epochs", "8", "--folds", "0", "--size", "16", "--set", "batch=8", "--near-duplicates", "off"]


def start(*words: str | Path, processes: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "pati", "train", *map(str, words), "--processes", str(processes)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def ranks_of(parent: int) -> list[int]:
    """The processes that train, in order of rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                facts = (folder / "stat").read_text().rpartition(")")[2].split()
                values = dict(line.partition("=")[::2] for line in (folder / "environ").read_text().split("\0"))
                if int(facts[1]) == parent and "RANK" in values:
                    found[int(values["RANK"])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def training(process: subprocess.Popen[str], run: Path) -> list[int]:
    """The ranks, once they have finished an epoch."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if epochs_done(run):
            return ranks_of(process.pid)
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no epoch in time")


def ended(processes: list[int], seconds: float = 15) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, processes))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """Shapes, and the model that two processes train on them without an interruption."""
    shapes = write_shapes(tmp_path_factory.mktemp("ranks") / "shapes", per_class=20)
    process = start(shapes, "--out", shapes.parent / "whole", *SHAPES)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("accuracy") == 1
    return shapes, load_file(shapes.parent / "whole" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("victim", ["first", "second", "launcher"])
def test_no_rank_outlives_another(victim: str, weights: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    shapes, whole = weights
    process = start(shapes, "--out", tmp_path / "run", *SHAPES)
    first, second = training(process, tmp_path / "run")
    os.kill({"first": first, "second": second, "launcher": process.pid}[victim], signal.SIGKILL)
    assert ended([first, second, process.pid])
    _, err = process.communicate(timeout=5)
    if victim != "launcher":
        assert process.returncode == 1
        assert "Traceback" not in err
        assert err.count("error:") <= 2
    if victim == "second":  # whoever it was, the run is the same
        return
    process = start("--resume", tmp_path / "run")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    again = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_as_for_one_process(
    number: signal.Signals, weights: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    shapes, _ = weights
    process = start(shapes, "--out", tmp_path / "run", *SHAPES)
    both = training(process, tmp_path / "run")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert ended(both)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "resume it with: " in " ".join(err.split())
    # In one process, the rest is the same up to rounding, which is told.
    command = [sys.executable, "-P", "-m", "pati", "train", "--resume", str(tmp_path / "run")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120
    )
    assert "the run was started with 2 processes and is resumed with 1" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_finished_run_and_a_mistake_end_as_for_one_process(
    weights: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    shapes, _ = weights
    for words, code, told in (
        (["--resume", shapes.parent / "whole"], 0, "this run is already finished"),
        (
            [shapes, "--out", tmp_path / "run", "--epochs", "1", "--set", "batch=2"],
            1,
            "cannot be shared by 3 processes",
        ),
    ):
        process = start(*words, processes=3)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert " ".join(err.split()).count(told) == 1, err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_two_machines_train_as_one(weights: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    shapes, whole = weights
    place = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    place += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "two"]
    command = [sys.executable, "-P", "-m", "torch.distributed.run", *place, "-m", "pati", "train", str(shapes), *SHAPES]
    launchers = []
    # Each has a core and a cache of its own; the folder of the run is written by one of them.
    for core, machine in zip(itertools.cycle(sorted(os.sched_getaffinity(0))), ("one", "two"), strict=False):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PATI_CACHE": str(tmp_path / machine / "cache")}
        (tmp_path / machine).mkdir()
        launchers.append(
            subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command, "--out", "run"],
                cwd=tmp_path / machine, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    told = [launcher.communicate(timeout=120) for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], told
    (run,) = tmp_path.glob("*/run")  # of rank 0, on either of them
    trained = load_file(run / "model.safetensors")
    assert all(torch.equal(value, trained[name]) for name, value in whole.items())
    assert all(list((tmp_path / machine / "cache").iterdir()) for machine in ("one", "two"))
    assert sorted(out.count("accuracy") for out, _ in told) == [0, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the launcher leaves its logs open
def test_from_python(
    weights: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shapes, _ = weights
    recipe = Recipe(epochs=1, size=16, folds=0, near_duplicates="off")
    classifier = pati.train(shapes, recipe, out=tmp_path / "run", processes=2)
    assert classifier.classes == ("circle", "square", "triangle")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    assert "cores, 2 processes" in (tmp_path / "run" / "report.html").read_text()
    assert capfd.readouterr().out == ""
    with pytest.raises(PatiError, match="no file, folder or built-in dataset"):
        pati.train(tmp_path / "nowhere", recipe, processes=2)
