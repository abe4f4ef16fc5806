"""A machine with neighbours and walls: hang-ups, limits of containers, other processes, and folders beyond measure."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from pati.cli.inputs import expand
from pati.data import pack
from pati.data.audit import pool
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.data.sources.source import Source
from pati.errors import PatiError
from pati.events import Event, StepDone, Warned
from pati.recipe import Recipe
from pati.report import figures
from pati.runs import checkpoint
from pati.runs.attempts import MOST_KILLS, Attempts
from pati.runs.run import Run, RunStage
from pati.system import cgroups, files, machine, threads, trees
from pati.training import loop
from pati.workflows import measure
from pati.workflows.report import report_again
from pati.workflows.train import resume, train
from tests.support import trainings
from tests.support.kills import OPTIONS
from tests.support.photos import draw, jpeg, write_shapes

RECIPE = Recipe(epochs=2, size=32, width=0.25, batch=16, model="scratch")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Stopped ------------------------------------------------------------------------------------------------------------

LONG = ("--epochs", "2000", *OPTIONS[2:])


def wait_for(path: Path, pattern: str) -> None:
    ends = time.monotonic() + 120
    while not any(path.glob(pattern)):
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_a_closed_terminal_ends_training_with_a_checkpoint(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pty = pytest.importorskip("pty")
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-m", "pati", "train", str(shapes), *LONG, "--out", str(run)])
    ends = time.monotonic() + 120
    while not any(run.glob("checkpoints/step-*")):
        os.read(terminal, 65536)  # or else it fills up, and the process waits
        assert time.monotonic() < ends
    before = sorted(run.glob("checkpoints/step-*"))
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert sorted(run.glob("checkpoints/step-*")) != before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
@pytest.mark.parametrize("ignored", [False, True])
def test_sighup_ends_training_as_sigterm_does_unless_ignored(ignored: bool, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN) if ignored else None  # as nohup does; it is inherited
    process = subprocess.Popen(
        [sys.executable, "-m", "pati", "train", shapes, *LONG, "--out", run], stderr=subprocess.PIPE, text=True
    )
    if ignored:
        signal.signal(signal.SIGHUP, before)
    wait_for(run, "checkpoints/step-*")
    process.send_signal(signal.SIGHUP)
    if ignored:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        assert process.poll() is None
        process.terminate()
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert f"pati train --resume {run}" in " ".join(told.split())
    assert "Traceback" not in told


def test_the_first_checkpoint_is_written_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def tick() -> float:
        nonlocal now
        now += 0.5
        return now

    saved: list[float] = []
    monkeypatch.setattr(loop.clock, "now", tick)
    monkeypatch.setattr(checkpoint, "save", lambda *arguments, **options: saved.append(now))
    trainings.run(tmp_path)
    assert saved[0] < 2 * loop.FIRST_CHECKPOINT_SECONDS < loop.CHECKPOINT_SECONDS


# Limits of containers -------------------------------------------------------------------------------------------------

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = (
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:31 {root} /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
)
V1_GROUPS = "4:memory:{0}\n3:cpuset:{0}\n2:cpu,cpuacct:{0}\n1:name=systemd:/\n0::/"
UNLIMITED = 9223372036854771712  # what version 1 says for no limit


@pytest.mark.parametrize(
    ("groups", "mounts", "settings", "cores", "gigabytes"),
    [
        ("0::/", V2, {}, 8, 64),
        ("0::/", V2, {"cpu.max": "150000 100000", "memory.max": "2000000000"}, 2, 2),
        ("0::/", V2, {"cpu.max": "max 100000", "memory.max": "max"}, 8, 64),
        # The group's own limits, or those of the groups above it.
        ("0::/job/step", V2, {"job/step/cpu.max": "400000 100000", "job/cpu.max": "200000 100000"}, 2, 64),
        ("0::/job/step", V2, {"job/step/memory.max": "max", "job/memory.max": "3000000000"}, 8, 3),
        ("0::/job/step", V2, {"job/memory.high": "1000000000", "job/memory.max": "3000000000"}, 8, 1),
        ("0::/job", V2, {"job/cpuset.cpus.effective": "0-1,5"}, 3, 64),
        ("0::/other", V2, {"job/cpu.max": "100000 100000"}, 8, 64),
        # In a container with its own view: the mount is the container's group, seen as / or by its name outside.
        ("0::/docker/a", V2.replace("{root}", "/docker/a"), {"cpu.max": "50000 100000"}, 1, 64),
        ("0::/../b", V2, {"cpu.max": "100000 100000"}, 1, 64),
        (V1_GROUPS.format("/"), V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1"}, 8, 64),
        (
            V1_GROUPS.format("/docker/a"),
            V1,
            {
                "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000",
                "memory/docker/a/memory.limit_in_bytes": UNLIMITED,
                "memory/docker/memory.limit_in_bytes": 1_000_000_000,
            },
            3,
            1,
        ),
        (V1_GROUPS.format("/a"), V1, {"cpuset/a/cpuset.cpus": "2,4"}, 2, 64),
        ("", "", {}, 8, 64),
        ("torn", "torn", {}, 8, 64),
    ],
)
def test_cores_and_memory_are_those_of_the_container(
    groups: str, mounts: str, settings: dict[str, object], cores: int, gigabytes: int,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    (tmp_path / "proc/self/mountinfo").write_text(mounts.replace("{root}", "/") + "\n")
    for name, value in settings.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    here = cgroups.limits(tmp_path)
    monkeypatch.setattr(machine, "_limits", lambda: here)
    monkeypatch.setattr(machine, "_processors", lambda: 8)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 64, "SC_PAGE_SIZE": 10**9}.__getitem__)
    assert machine.cores() == cores
    assert machine.memory() == gigabytes * 10**9


def test_torch_and_the_audit_keep_to_the_container(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(machine, "_processors", lambda: 64)
    monkeypatch.setattr(machine, "_limits", lambda: cgroups.Limits(cores=2.0, memory=1.2e9))
    machine.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with threads.restored():
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    started: list[object] = []
    process = pool._Process
    monkeypatch.setattr(pool, "_Process", lambda *arguments: started.append(1) or process(*arguments))
    pool.read_all(find_source(shapes))
    assert len(started) == 2, "of two chunks"
    monkeypatch.setattr(machine, "_limits", lambda: cgroups.Limits(memory=0.6e9))
    pool.read_all(find_source(shapes))
    assert len(started) == 3, "one decoder may need half of this memory"


@pytest.mark.usefixtures("undrawn")
def test_another_number_of_threads_is_told_at_resume(shapes: Path, tmp_path: Path) -> None:
    told: list[Event] = []

    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(PatiError):
        train(shapes, RECIPE, out=tmp_path / "run", listen=stop)
    number = torch.get_num_threads()
    Run.open(tmp_path / "run").update(threads=number + 1)
    resume(tmp_path / "run", listen=told.append)
    warned = [str(event.text) for event in told if isinstance(event, Warned)]
    assert any(f"started with {number + 1} threads and is resumed with {number}" in text for text in warned)


# Two at once ----------------------------------------------------------------------------------------------------------


def source_of(folder: Path, first: int) -> Source:
    """Every other photo of a folder, as by one of two tables."""
    source = find_source(folder)
    return replace(source, items=source.items[first::2])


def sound(packed: pack.Pack, source: Source, preprocess: Preprocess) -> None:
    for item in source.items:
        digest = hashlib.sha256((source.root / item.path).read_bytes()).hexdigest()
        np.testing.assert_array_equal(packed.pixels[packed.rows[digest]], preprocess(source.root / item.path))


def test_packs_of_two_tables_of_one_folder_do_not_disturb_each_other(shapes: Path) -> None:
    preprocess, sources = Preprocess(size=24), [source_of(shapes, first) for first in (0, 1)]
    packs = [pack.open_or_build(source, preprocess)[1] for source in sources]
    for packed, source in zip(packs, sources, strict=True):
        sound(packed, source, preprocess)
        assert pack.open_or_build(source, preprocess)[2], "both are kept"


def test_a_pack_of_other_photos_under_the_same_names_is_another(shapes: Path) -> None:
    preprocess = Preprocess(size=24)
    _, first, _ = pack.open_or_build(find_source(shapes), preprocess)
    elsewhere = shapes.rename(shapes.with_name("elsewhere"))
    write_shapes(shapes, first=500)
    for number in range(30):
        for shape in shapes.iterdir():
            (shape / f"{500 + number}.jpg").rename(shape / f"{number}.jpg")
    _, second, reused = pack.open_or_build(find_source(shapes), preprocess)
    assert not reused
    sound(second, find_source(shapes), preprocess)
    sound(first, find_source(elsewhere), preprocess)


def test_packs_beyond_the_last_ones_are_removed_unless_in_use(shapes: Path) -> None:
    slots = files.cache_folder() / "packs"
    source, preprocess = find_source(shapes), Preprocess(size=16)
    _, used, _ = pack.open_or_build(source, preprocess)
    for first in range(4):
        some = replace(source, items=source.items[first:60])
        _, latest, _ = pack.open_or_build(some, preprocess)
    assert len(list(slots.iterdir())) == pack.KEEP + 1
    sound(used, source, preprocess)
    sound(latest, some, preprocess)
    assert pack.open_or_build(source, preprocess)[2]


def test_a_pack_that_another_process_put_there_first_is_used(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, preprocess = find_source(shapes), Preprocess(size=16)
    read = pack.read

    def read_twice(*arguments: Any, **options: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(pack, "read", read)
            pack.open_or_build(source, preprocess)  # as another process would meanwhile
        return read(*arguments, **options)

    monkeypatch.setattr(pack, "read", read_twice)
    _, packed, _ = pack.open_or_build(source, preprocess)
    sound(packed, source, preprocess)
    assert len(list((files.cache_folder() / "packs").iterdir())) == 1


@pytest.mark.parametrize("name", ["pack.json", "thumbs.bin", "pixels.npy"])
def test_an_incomplete_pack_is_built_anew(name: str, shapes: Path) -> None:
    source, preprocess = find_source(shapes), Preprocess(size=16)
    pack.open_or_build(source, preprocess)
    (slot,) = (files.cache_folder() / "packs").iterdir()
    (slot / name).unlink()
    _, packed, reused = pack.open_or_build(source, preprocess)
    assert not reused
    sound(packed, source, preprocess)
    assert pack.open_or_build(source, preprocess)[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to make namespaces of processes")
def test_a_folder_in_use_is_kept_by_processes_that_cannot_see_its_user(tmp_path: Path) -> None:
    with files.scratch_folder(tmp_path / "target") as mine:
        other = "from pati.system.files import scratch_folder; from pathlib import Path; import sys\n"
        other += "with scratch_folder(Path(sys.argv[1])): pass"
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", other, tmp_path / "target"]
        done = subprocess.run(command, capture_output=True, text=True)
        if "Operation not permitted" in done.stderr:
            pytest.skip("may not make namespaces of processes")
        assert done.returncode == 0, done.stderr
        assert mine.exists()


# Other files than photos ----------------------------------------------------------------------------------------------


def test_a_pack_is_as_large_as_the_photos_and_not_the_files(shapes: Path) -> None:
    for number in range(300):
        (shapes / "circle" / f"a{number}.txt").write_text("notes")
        (shapes / "square" / f"{number}.jpg.txt").write_text("notes")
    source, preprocess = find_source(shapes), Preprocess(size=24)
    findings, packed, _ = pack.open_or_build(source, preprocess)
    assert len(findings) == 690
    assert packed.pixels.shape == (90, 24, 24, 3)
    (pixels,) = files.cache_folder().glob("packs/*/pixels.npy")
    assert pixels.stat().st_size < 90 * 24 * 24 * 3 + 1000
    for item, finding in zip(source.items, findings, strict=True):
        if not finding.reason:
            np.testing.assert_array_equal(packed.pixels[packed.rows[finding.sha256]], preprocess(shapes / item.path))
    assert pack.open_or_build(source, preprocess)[2]


@pytest.fixture
def deep() -> Iterator[Path]:
    """Photos in class folders, and one in folders in folders, deeper than Python's stack.

    Outside pytest's folder: what a stopped test leaves there, later sessions of pytest couldn't remove.
    """
    folder = Path(tempfile.mkdtemp())
    try:
        shapes = write_shapes(folder / "shapes")
        (shapes / "circle" / "deep").mkdir()
        with contextlib.chdir(shapes / "circle" / "deep"):
            for _ in range(1000):
                os.mkdir("d")
                os.chdir("d")
            Path("deep.jpg").write_bytes(jpeg(draw("circle", 0)))
        yield shapes
    finally:
        trees.remove(folder)
        assert not folder.exists()


def test_folders_of_any_depth_are_told(deep: Path, tmp_path: Path) -> None:
    shapes = deep
    source = find_source(shapes)
    assert len(source.items) == 90
    assert any("levels deep" in str(note) for note in source.notes)
    found = [str(path) for path in expand([str(shapes)], [])]
    assert len(found) == 91
    assert found[-1].endswith("9.jpg")
    assert any(path.endswith("d/deep.jpg") for path in found)
    with pytest.raises(PatiError, match="nested too deeply"):
        list(expand([f"{shapes}/**/*.jpg"], []))
    with tarfile.open(tmp_path / "deep.tar", "w") as archive:
        for shape in ("circle", "square"):
            archive.add(shapes / shape / "1.jpg", f"{shape}/1.jpg")
        archive.add(shapes / "circle/1.jpg", "circle/" + "d/" * 1500 + "deep.jpg")
    source = find_source(tmp_path / "deep.tar")
    assert [item.path for item in source.items] == ["circle/1.jpg", "square/1.jpg"]
    assert any("too deep" in str(note) for note in source.notes)


# Many classes ---------------------------------------------------------------------------------------------------------


def test_the_confusion_matrix_of_many_classes_shows_those_with_the_most_confusions() -> None:
    rng = np.random.default_rng(0)
    matrix = np.diag(np.full(2000, 3))
    matrix[rng.integers(0, 2000, 300), rng.integers(0, 2000, 300)] += 1
    matrix[5, 1990] = 9
    names = [f"class {number}" for number in range(2000)]
    smaller, shown, others = figures.condensed(matrix.tolist(), names)
    assert smaller.shape == (figures.CONDENSED + 1, figures.CONDENSED + 1)
    assert others == 2000 - figures.CONDENSED
    assert smaller.sum() == matrix.sum()
    assert smaller[shown.index("class 5"), shown.index("class 1990")] == 9
    assert list(smaller.sum(1)[:-1]) == [matrix.sum(1)[names.index(str(name))] for name in shown[:-1]]
    drawn = figures.confusion(matrix.tolist(), names, "en")
    assert len(drawn) < 1_000_000
    assert ">1960 others<" in drawn or ">1,960 others<" in drawn
    few, all_of_them, none = figures.condensed([[1, 2], [0, 3]], ["a", "b"])
    assert (few.tolist(), all_of_them, none) == ([[1, 2], [0, 3]], ["a", "b"], 0)


# What is not needed ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("step", ["confusion", "sheet", "robustness"])
def test_a_run_is_finished_without_a_step_that_fails_and_the_step_is_made_again(
    step: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Event] = []
    run = Run(tmp_path / "run")
    module, name = {"robustness": (measure, "probed")}.get(step, (figures, step))
    with monkeypatch.context() as patched:
        patched.setattr(module, name, mock.Mock(side_effect=MemoryError("23 GB")))
        result = train(shapes, RECIPE, out=run.folder, listen=told.append)
    assert run.stage is RunStage.DONE
    assert result.metrics == run.read_metrics()
    warned = [" ".join(str(event.text).split()) for event in told if isinstance(event, Warned)]
    assert any("23 GB" in text and f"pati report {run.folder}" in text for text in warned)
    assert ("This figure could not be drawn" in run.report.read_text()) == (step == "confusion")
    report_again(run.folder)
    assert "This figure could not be drawn" not in run.report.read_text()
    assert (run.figures / "confusion.svg").exists()
    assert (run.figures / "explanations.png").exists()


def test_a_step_that_ended_the_process_again_and_again_is_given_up(tmp_path: Path) -> None:
    run, told = Run(tmp_path), list[Event]()

    def killed() -> int:
        raise KeyboardInterrupt

    for _ in range(MOST_KILLS):
        with monkeypatched_end(), pytest.raises(KeyboardInterrupt):
            Attempts(run, told.append)("figure", killed, 0)
    assert Attempts(run, told.append)("figure", killed, 0) == 0
    assert "pati report" in str(told[0].text) if isinstance(told[0], Warned) else False
    assert Attempts(run, told.append)("other", lambda: 1, 0) == 1
    assert Attempts(run, told.append, again=True)("figure", lambda: 2, 0) == 2


def monkeypatched_end() -> contextlib.AbstractContextManager[object]:
    """As of a killed process: the end of the step is not written."""
    append = Run.append
    return mock.patch.object(
        Run, "append", lambda run, kind, row: None if kind == "step-end" else append(run, kind, row)
    )


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), PatiError("fix this")])
def test_what_the_user_can_fix_is_no_step_to_leave_out(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        Attempts(Run(tmp_path), lambda event: None)("figure", mock.Mock(side_effect=error), 0)
