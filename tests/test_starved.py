"""Runs that are stopped, starved of disk, tampered with or started twice: nothing paid for is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pati.errors import PatiError, os_reason
from pati.events import Event, StepDone, TrainingBegan
from pati.locale.messages import N_, Message
from pati.recipe import Recipe
from pati.runs import checkpoint
from pati.runs.run import Note, Run
from pati.system import locks
from pati.training import loop
from pati.workflows.train import resume, train
from tests.support.forks import Fork
from tests.support.kills import OPTIONS, epochs_done, pati, start, weights
from tests.support.photos import write_shapes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

MAIN = "from pati.cli import main; main()"
LONG = ("--epochs", "60", *OPTIONS[2:])
SHORTER = ("--epochs", "15", *OPTIONS[2:])


def wait_until(reached: Callable[[], bool], process: Fork) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Stopped -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["audit", "epoch", "report"])
def test_stopped_in_any_phase_and_resumed(
    number: int, phase: str, undisturbed: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, expected = undisturbed
    run = tmp_path / "run"
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    process = start({"report": "final"}.get(phase, phase), "train", data, *OPTIONS, "--out", run)
    reached = {
        "audit": lambda: any((tmp_path / "cache").glob("packs/.*/new/pixels.npy")),
        "epoch": lambda: epochs_done(run) == 1,
        "report": lambda: (run / "metrics.json").exists(),
    }
    wait_until(reached[phase], process)
    process.send_signal(number)
    sent = time.monotonic()
    told = process.communicate(timeout=60)[1]
    assert time.monotonic() - sent < 10
    assert process.returncode == 130
    assert f"pati train --resume {run}" in " ".join(told.split())
    assert "Traceback" not in told
    done = pati("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert weights(run) == expected


def test_a_stop_in_training_keeps_a_checkpoint_and_a_second_one_ends_at_once(
    undisturbed: tuple[Path, bytes], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = Fork(MAIN, "train", undisturbed[0], *SHORTER, "--out", run)
    wait_until(lambda: epochs_done(run) >= 2, process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - sent < 5
    assert process.returncode == 130
    assert pati("train", "--resume", run, "--json").returncode in (0, 130)


def test_a_stop_while_validating_is_heard_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large validation split takes longer than the ten seconds in which a stop must work."""
    from tests.support.trainings import RECIPE, epochs, run, same

    whole, _ = run(tmp_path / "whole")
    asked = False
    before = loop.logits_of

    def slow(*arguments: object, **options: object) -> object:
        nonlocal asked
        asked = True
        return before(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(loop, "logits_of", slow)
        patched.setattr("tests.support.trainings.loop.train", _stopping(loop.train, lambda: asked))
        with pytest.raises(PatiError):
            run(tmp_path / "cut")
    _, facts, _ = checkpoint.newest(tmp_path / "cut", owner="test")
    assert facts is not None
    assert json.loads(facts)["state"]["position"] == len(range(0, 60 // 16))
    resumed, told = run(tmp_path / "cut", RECIPE)
    assert same(whole, resumed)
    assert [epoch.epoch for epoch in epochs(told)] == [1, 2, 3, 4]


def _stopping(train: object, stopped: object) -> object:
    def patched(*arguments: object, **options: object) -> object:
        return train(*arguments, **{**options, "stopped": stopped})  # type: ignore[operator]

    return patched


# Twice ---------------------------------------------------------------------------------------------------


def test_a_second_process_on_one_run_is_refused(undisturbed: tuple[Path, bytes], tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = Fork(MAIN, "train", undisturbed[0], *LONG, "--out", run)
    try:
        wait_until(lambda: epochs_done(run) >= 1, process)
        for arguments in (("--resume", run), (undisturbed[0], *OPTIONS, "--out", run)):
            second = pati("train", *arguments)
            assert second.returncode == 1
            assert "another process is using" in " ".join(second.stderr.split())
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    with locks.locked(run / ".lock", N_("still held")):  # a lock ends with its process, however it ends
        pass


def test_what_a_killed_process_was_writing_is_cleared_away(stopped_run: Path) -> None:
    torn = [
        stopped_run / "checkpoints" / ".step-000000009.safetensors.abc.pati-part",
        stopped_run / ".run.json.abc.pati-part",
    ]
    for path in torn:
        path.write_bytes(b"half")
    resume(stopped_run)
    assert not torn[0].exists()
    fresh = stopped_run.parent / "fresh"
    fresh.mkdir()
    (fresh / ".recipe.json.abc.pati-part").write_bytes(b"half")
    Run.claim(fresh, "x").begin(Recipe())
    assert sorted(path.name for path in fresh.iterdir()) == ["recipe.json", "run.json"]


# Starved -------------------------------------------------------------------------------------------------

# After its third checkpoint the disk is filled, save for some bytes.
FILLING = """
import os, sys
import pati.training.loop, pati.runs.checkpoint
pati.training.loop.CHECKPOINT_SECONDS, pati.training.loop.CHECKPOINT_SHARE = 0.0, float("inf")
left, ballast = int(sys.argv.pop(1)), sys.argv.pop(1)
save, count = pati.runs.checkpoint.save, 0

def filling(*arguments, **options):
    global count
    path = save(*arguments, **options)
    count += 1
    if count == 3:
        room = os.statvfs(ballast + "/..")
        with open(ballast + "/ballast", "wb") as file:
            try:
                file.write(bytes(max(0, room.f_bavail * room.f_frsize - left)))
            except OSError:
                pass
    return path

pati.training.loop.checkpoint.save = filling
from pati.cli import main
main()
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of a size such as 24m."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"a small disk can't be mounted here: {done.stderr.decode().strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", folder], capture_output=True)


@pytest.mark.parametrize("left", [0, 4096, 60_000, 100_000, 250_000])
def test_disk_full_while_training(
    left: int, undisturbed: tuple[Path, bytes], small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At five fill levels: one clear error, the earlier checkpoint good, and the same bytes once there is room."""
    data, expected = undisturbed
    disk = small_disk("24m")
    run, ballast = disk / "run", disk / "more"
    ballast.mkdir()
    monkeypatch.setenv("PATI_CACHE", str(disk / "cache"))
    starved = Fork(FILLING, left, ballast, "train", data, *OPTIONS, "--out", run)
    told = " ".join(starved.communicate()[1].split())
    assert starved.returncode == 1, told
    assert "no space left on the disk" in told
    assert told.count("error:") == 1
    assert f"pati train --resume {run}" in told
    assert "Traceback" not in told
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == [name for name in names if name.startswith("step-")]
    assert len(names) >= 2
    (ballast / "ballast").unlink()
    done = pati("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert "damaged" not in done.stderr
    assert weights(run) == expected
    assert epochs_done(run) == 3


@pytest.mark.parametrize("room", ["1m", "3m"])
def test_disk_full_while_packing(
    room: str, small_disk: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk(room)
    monkeypatch.setenv("PATI_CACHE", str(disk))
    data = write_shapes(tmp_path / "shapes", per_class=300)
    done = pati("train", data, "--epochs", "1", "--size", "64", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "can't write the cache in" in " ".join(done.stderr.split())
    assert "PATI_CACHE" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(disk.glob("packs/*"))
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    assert pati("train", "--resume", tmp_path / "run").returncode == 0


def test_a_torn_line_of_the_log_costs_that_line_only(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.append("note", Note("one"))
    with run.log.open("ab") as file:
        file.write(b'{"kind": "no')
    run.append("note", Note("two"))
    assert [row["text"] for row in run.rows("note")] == ["one", "two"]


# Tampered with -------------------------------------------------------------------------------------------


@pytest.fixture
def stopped_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes: Path) -> Path:
    """A run by epochs that was stopped with two checkpoints."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))
    steps = 0

    def listen(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == 4:
            os.kill(os.getpid(), signal.SIGINT)

    recipe = Recipe(epochs=2, size=32, width=0.25, batch=16, model="scratch")
    with pytest.raises(PatiError):
        train(shapes, recipe, out=tmp_path / "run", listen=listen)
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 2
    return tmp_path / "run"


def resumed(run: Path) -> tuple[int, list[Message]]:
    """The step from which the run goes on, and what it says of checkpoints."""
    told: list[TrainingBegan] = []
    resume(run, listen=lambda event: told.append(event) if isinstance(event, TrainingBegan) else None)
    return told[0].step, list(told[0].skipped)


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "text", "foreign", "newer", "unreadable"])
def test_a_checkpoint_that_does_not_fit_is_passed_over(harm: str, stopped_run: Path, tmp_path: Path) -> None:
    before, newest = sorted((stopped_run / "checkpoints").iterdir())
    data = newest.read_bytes()
    if harm == "flipped":
        newest.write_bytes(data[:1000] + bytes([data[1000] ^ 4]) + data[1001:])
    elif harm == "cut":
        newest.write_bytes(data[:-1])
    elif harm == "empty":
        newest.write_bytes(b"")
    elif harm == "text":
        newest.write_text("I am a checkpoint\n" * 100)
    elif harm == "unreadable":
        newest.unlink()
        newest.symlink_to("gone")
    else:
        import torch

        number = int(newest.stem.split("-")[1])
        owner = "another" if harm == "foreign" else "x"
        path = checkpoint.save(tmp_path / "other", number, {"net/x": torch.zeros(2)}, '{"state": {}}', owner=owner)
        data = path.read_bytes()[:-32]
        if harm == "newer":
            import hashlib

            written = f'"format":"{checkpoint.FORMAT}"'.encode()
            assert written in data
            data = data.replace(written, b'"format":"9"')
            path.write_bytes(data + hashlib.sha256(data).digest())
        path.replace(newest)
    words = {
        "foreign": N_("the checkpoint {name} belongs to another run", name=newest.name),
        "newer": N_("the checkpoint {name} was written by another version of pati", name=newest.name),
        "unreadable": N_(
            "can't read the checkpoint {name}: {reason}",
            name=newest.name,
            reason=os_reason(FileNotFoundError(errno.ENOENT, "")),
        ),
    }
    step, told = resumed(stopped_run)
    assert step == int(before.stem.split("-")[1])
    assert told == [words.get(harm, N_("the checkpoint {name} is damaged", name=newest.name))]


def test_with_no_sound_checkpoint_training_begins_anew_and_says_so(stopped_run: Path) -> None:
    for path in (stopped_run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-5])
    done = pati("train", "--resume", stopped_run)
    assert done.returncode == 0, done.stderr
    assert "training starts from the beginning" in " ".join(done.stderr.split())


@pytest.mark.parametrize("change", ["gone", "edited", "added"])
def test_photos_that_changed_between_start_and_resume(change: str, stopped_run: Path, shapes: Path) -> None:
    photo = shapes / "circle" / "3.jpg"
    data = photo.read_bytes()
    if change == "gone":
        photo.unlink()
    elif change == "edited":
        photo.write_bytes((shapes / "square" / "5.jpg").read_bytes())
    else:
        (shapes / "circle" / "new.jpg").write_bytes(data + b"x")
    with pytest.raises(PatiError, match="the data has changed since this run was started") as caught:
        resume(stopped_run)
    assert ("circle/new.jpg" if change == "added" else "circle/3.jpg") in str(caught.value.message)
    photo.write_bytes(data)
    (shapes / "circle" / "new.jpg").unlink(missing_ok=True)
    assert resumed(stopped_run)[0] > 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that stops a process")
def test_a_stopped_process_keeps_its_budget(tmp_path: Path) -> None:
    """The time in which it was stopped does not count, wherever it is stopped."""
    phases = ["reading", "epoch 1", "scoring"]
    command = [sys.executable, "-u", "-m", "pati", "train", "digits", "--budget", "40s", "--out", str(tmp_path / "run")]
    started = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if phases and line.startswith(phases[0]):
                phases.pop(0)
                process.send_signal(signal.SIGSTOP)
                time.sleep(4)
                process.send_signal(signal.SIGCONT)
    assert process.returncode == 0, told
    assert not phases
    assert time.monotonic() - started - 12 == pytest.approx(40, abs=5)  # other tests run beside it
    assert "was suspended for 12 s; this time does not count" in " ".join("".join(told).split())
