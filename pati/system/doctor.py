"""What `pati doctor` examines: versions, the machine, the places that pati writes to, and the terminal.

Packages are imported in processes of their own: one that is broken, or was compiled for another processor, may end the
process that imports it. Nothing is left behind, and no network is used.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from pati.errors import PatiError, os_reason
from pati.locale import catalogues
from pati.locale.messages import N_, NP_, Message, as_is
from pati.system import cgroups, command, extras, files, locks, machine
from pati.system.version import VERSION

if sys.platform != "win32":
    import resource

PYTHON = (3, 11)
LITTLE_MEMORY = 2e9  # bytes; below, training on 20,000 photos may not fit
LITTLE_SPACE, NO_SPACE = 2e9, 1e8  # bytes of a disk
FEW_FILES = 128  # that a process may open
PATIENCE = 120.0  # seconds for an import, on a slow disk
# The packages of the base, by the names under which they are imported.
BASE = {
    "numpy": "numpy",
    "PIL": "pillow",
    "simplejpeg": "simplejpeg",
    "pi_heif": "pi-heif",
    "onnxruntime": "onnxruntime",
    "cyclopts": "cyclopts",
    "rich": "rich",
    "filelock": "filelock",
    "threadpoolctl": "threadpoolctl",
}
_DISTRIBUTIONS = BASE | {"sklearn": "scikit-learn", "skimage": "scikit-image"}


class Verdict(StrEnum):
    """Whether something is as it should be; a `PROBLEM` keeps commands from working, what is `ABSENT` is optional."""

    OK = "ok"
    ABSENT = "absent"
    WARNING = "warning"
    PROBLEM = "problem"


class Group(StrEnum):
    """What a check is about."""

    VERSIONS = "versions"
    EXTRAS = "extras"
    MACHINE = "machine"
    PLACES = "places"
    TERMINAL = "terminal"


@dataclass(frozen=True)
class Check:
    """One thing examined: `name` for programs, `title` for people, what was `found`, what is `wrong`, what to do."""

    group: Group
    name: str
    title: Message
    found: Message
    verdict: Verdict = Verdict.OK
    wrong: Message | None = None
    hint: Message | None = None


@dataclass(frozen=True)
class Imported:
    """A package: what it printed while it was imported, or, in `error`, why it could not be."""

    output: str = ""
    error: Message | None = None


@dataclass(frozen=True)
class TorchFacts:
    """What torch says of itself and of the machine; `memory`: bytes of the GPU; `cuda`: of its build, "" for none."""

    version: str = ""
    device: str = "cpu"
    gpu: str = ""
    memory: int = 0
    cuda: str = ""
    precision: str = "float32"


@dataclass(frozen=True)
class Diagnosis:
    """All checks, in the order of their groups."""

    checks: list[Check]

    def count(self, verdict: Verdict) -> int:
        """How many checks have this verdict."""
        return sum(check.verdict is verdict for check in self.checks)

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return next((verdict for verdict in (Verdict.PROBLEM, Verdict.WARNING) if self.count(verdict)), Verdict.OK)


def diagnose() -> Diagnosis:
    """Examine everything; takes a few seconds where torch is installed."""
    packages = [*BASE, *(["torch"] if extras.installed("torch") else [])]
    imported = _imported(packages)
    torch = _torch_facts(imported["torch"]) if "torch" in imported else None
    return Diagnosis([*_versions(imported), *_extras(), *_machine(torch), *_places(), *_terminal()])


# Versions -----------------------------------------------------------------------------


def _versions(imported: dict[str, Imported]) -> Iterator[Check]:
    where = Path(__file__).parents[1]
    yield Check(Group.VERSIONS, "pati", as_is("pati"), N_("{version} in {folder}", version=VERSION, folder=where))
    yield _command()
    yield _python()
    least = _least()
    for package, one in imported.items():
        name = _DISTRIBUTIONS.get(package, package)
        version = _version(name)
        found = as_is(version) if version else N_("not installed")
        title = as_is(name)
        problem: tuple[Message, Message] | None = None
        if version is None and one.error is not None:
            problem = N_("pati needs it"), N_("install pati again")
        elif one.error is not None:
            problem = (
                N_("it cannot be imported: {reason}", reason=one.error),
                N_("install it again: pip install --force-reinstall --no-deps {name}", name=name),
            )
        elif version is not None and _numbers(version) < _numbers(least.get(name, "0")):
            problem = (
                N_("pati needs {version} or newer", version=least[name]),
                N_('update it: pip install "{name}>={version}"', name=name, version=least[name]),
            )
        if problem is not None:
            yield Check(Group.VERSIONS, name, title, found, Verdict.PROBLEM, *problem)
        else:
            yield Check(Group.VERSIONS, name, title, found)


def _command() -> Check:
    title, other = N_("command"), shutil.which("pati")
    if other is None or command.own() is None or command.on_path():
        return Check(Group.VERSIONS, "command", title, as_is(command.shown()))
    return Check(
        Group.VERSIONS,
        "command",
        title,
        as_is(command.shown()),
        Verdict.WARNING,
        N_("by the name pati, the shell finds another one: {path}", path=other),
        N_("activate the environment of the one that you mean"),
    )


def _python() -> Check:
    bits = 64 if sys.maxsize > 2**32 else 32
    found = N_("{version}, {bits} bits, {path}", version=platform.python_version(), bits=bits, path=sys.executable)
    if sys.version_info < PYTHON or bits == 32:
        wanted = N_("pati needs Python {version} or newer, with 64 bits", version=".".join(map(str, PYTHON)))
        return Check(Group.VERSIONS, "python", as_is("Python"), found, Verdict.PROBLEM, wanted)
    return Check(Group.VERSIONS, "python", as_is("Python"), found)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _least() -> dict[str, str]:
    """The lowest version that pati requires, by package; empty where pati runs without being installed."""
    try:
        required = importlib.metadata.requires("pati") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w.-]+)(?:\[[^]]*\])?[^;]*?>=\s*([\d.]+)", line) for line in required)
    return {match[1].lower(): match[2] for match in found if match}


def _numbers(version: str) -> tuple[int, ...]:
    """The version as numbers, to compare: 2.13.0+cpu is (2, 13, 0)."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def _imported(packages: list[str]) -> dict[str, Imported]:
    """Import each package in a process of its own, all at the same time."""
    started = {name: _started(name) for name in packages}
    return {name: _ended(process) for name, process in started.items()}


def _started(package: str) -> subprocess.Popen[str]:
    code = f"import {package}"
    if package == "torch":
        code += "; from pati.system import doctor; doctor.tell_torch_facts()"
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding="utf-8", errors="replace",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUTF8": "1"},
    )  # fmt: skip


def _ended(process: subprocess.Popen[str]) -> Imported:
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Imported(error=N_("no answer within {seconds:duration}", seconds=PATIENCE))
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        if name == "SIGILL":
            return Imported(error=N_("this processor lacks instructions that the package was compiled for"))
        return Imported(error=N_("the process was ended by {signal}", signal=name))
    if process.returncode:
        lines = errors.strip().splitlines()
        return Imported(error=as_is(lines[-1]) if lines else N_("exit code {code}", code=process.returncode))
    return Imported(output)


def tell_torch_facts() -> None:
    """Print what torch says, for the process that has started this one."""
    import torch

    device = machine.device()
    gpu, memory = "", 0
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        gpu, memory = properties.name, properties.total_memory
    facts = TorchFacts(
        torch.__version__, device.type, gpu, memory, torch.version.cuda or "", machine.faster_precision(device.type)
    )
    print(json.dumps(asdict(facts)))


def _torch_facts(imported: Imported) -> TorchFacts | None:
    if imported.error is not None:
        return None
    return TorchFacts(**json.loads(imported.output.splitlines()[-1]))


# Extras -------------------------------------------------------------------------------


def _extras() -> Iterator[Check]:
    for name, extra in extras.EXTRAS.items():
        title = as_is(f"[{name}]")
        there = [package for package in extra.packages if extras.installed(package)]
        lacking = [package for package in extra.packages if package not in there]
        if extra.packages[0] in lacking:
            found = N_("not installed; for: {purpose}", purpose=extra.purpose)
            yield Check(Group.EXTRAS, name, title, found, Verdict.ABSENT, hint=extras.how_to(name))
        elif lacking:
            found = N_("incomplete; for: {purpose}", purpose=extra.purpose)
            wrong = NP_("{names} is missing", "{names} are missing", n=len(lacking), names=lacking)
            yield Check(Group.EXTRAS, name, title, found, Verdict.WARNING, wrong, extras.how_to(name))
        else:
            versions = [f"{package} {_version(_DISTRIBUTIONS.get(package, package)) or '?'}" for package in there]
            found = N_("{versions}; for: {purpose}", versions=versions, purpose=extra.purpose)
            yield Check(Group.EXTRAS, name, title, found)


# Machine ------------------------------------------------------------------------------


def _machine(torch: TorchFacts | None) -> Iterator[Check]:
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield Check(Group.MACHINE, "system", N_("system"), as_is(system))
    cores, every = machine.cores(), os.cpu_count() or 1
    yield Check(
        Group.MACHINE,
        "processor",
        N_("processor"),
        NP_("{name}, {n} core", "{name}, {n} cores", n=cores, name=_processor())
        if cores == every
        else N_("{name}, {cores} of {every} cores: this process may use no more", name=_processor(), cores=cores,
                every=every),
    )  # fmt: skip
    yield _bfloat16(torch)
    yield _gpu(torch)
    yield from _memory()
    yield from _limits()


def _processor() -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def _bfloat16(torch: TorchFacts | None) -> Check:
    if torch is None:
        found = N_("not looked for: without torch, float32 is used")
    elif torch.precision == "bfloat16":
        found = N_("yes: networks are computed in it")
    else:
        found = N_("not used: on this processor, float32 is faster")
    return Check(Group.MACHINE, "bfloat16", as_is("bfloat16"), found)


def _gpu(torch: TorchFacts | None) -> Check:
    title = as_is("GPU")
    if torch is not None and torch.device == "cuda":
        found = N_("{name}, {memory:.0f} GB", name=torch.gpu, memory=torch.memory / 1e9)
        return Check(Group.MACHINE, "gpu", title, found)
    if torch is not None and torch.device != "cpu":
        return Check(Group.MACHINE, "gpu", title, as_is(torch.device))
    card = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
    if card and torch is not None:
        return Check(
            Group.MACHINE,
            "gpu",
            title,
            N_("an NVIDIA card that torch {version} does not use", version=torch.version),
            Verdict.WARNING,
            N_("its driver does not fit this build of torch")
            if torch.cuda
            else N_("this build of torch is for the CPU only"),
            N_("install the build for your driver: see pytorch.org, or uv pip install --torch-backend=auto torch"),
        )
    return Check(Group.MACHINE, "gpu", title, N_("none is used: pati needs none"))


def _memory() -> Iterator[Check]:
    usable, container = machine.memory(), cgroups.limits().memory
    if usable >= 1 << 60:
        found = N_("unknown")
    elif math.isfinite(container) and container <= usable:
        found = N_("{size:.1f} GB, the limit of the container", size=usable / 1e9)
    else:
        found = N_("{size:.1f} GB", size=usable / 1e9)
    if usable < LITTLE_MEMORY:
        yield Check(
            Group.MACHINE,
            "memory",
            N_("memory"),
            found,
            Verdict.WARNING,
            N_("large training sets may not fit"),
            N_("choose smaller photos or models: --size 64, --set batch=32"),
        )
    else:
        yield Check(Group.MACHINE, "memory", N_("memory"), found)
    if Path("/dev/shm").is_dir():
        size = shutil.disk_usage("/dev/shm").total
        found = N_("{size:.1f} GB; pati needs none", size=size / 1e9)
        yield Check(Group.MACHINE, "shared_memory", N_("shared memory"), found)


def _limits() -> Iterator[Check]:
    if sys.platform == "win32":
        return
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY:
        small = space < 2 * LITTLE_MEMORY
        yield Check(
            Group.MACHINE,
            "address_space",
            N_("address space"),
            N_("{size:.1f} GB", size=space / 1e9),
            Verdict.WARNING if small else Verdict.OK,
            N_("torch reserves more addresses than it uses memory") if small else None,
            N_("raise the limit: ulimit -v unlimited") if small else None,
        )
    opened, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if opened != resource.RLIM_INFINITY and opened < FEW_FILES:
        yield Check(
            Group.MACHINE,
            "open_files",
            N_("open files"),
            N_("at most {n}", n=opened),
            Verdict.WARNING,
            N_("commands may need more"),
            N_("raise the limit: ulimit -n 1024"),
        )


# Places -------------------------------------------------------------------------------


def _places() -> Iterator[Check]:
    other_cache = N_("set PATI_CACHE to a folder on a disk with space that you may write to")
    yield _place("cache", N_("cache"), files.cache_folder(), other_cache)
    here = _here()
    if here is None:
        yield Check(
            Group.PLACES, "current_folder", N_("current folder"), N_("none"), Verdict.PROBLEM,
            N_("it has been deleted"), N_("go to another folder: cd"),
        )  # fmt: skip
    else:
        elsewhere = N_("start pati in another folder, or name one with --out")
        yield _place("current_folder", N_("current folder"), here, elsewhere)
        if (here / "runs").exists():
            yield _place("runs", N_("runs"), here / "runs", elsewhere)
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError as error:
        yield Check(
            Group.PLACES, "temporary_folder", N_("temporary folder"), N_("none"), Verdict.PROBLEM,
            as_is(str(error)), N_("set TMPDIR to a folder that you may write to"),
        )  # fmt: skip
    else:
        wanted = N_("set TMPDIR to a folder on a disk with space that you may write to")
        yield _place("temporary_folder", N_("temporary folder"), temporary, wanted)
    home = files.home()
    if (reason := _refusal(home)) is not None:
        yield Check(
            Group.PLACES, "home", N_("home"), as_is(str(home)), Verdict.WARNING,
            N_("it cannot be written to: {reason}", reason=reason), N_("pati itself needs the cache only"),
        )  # fmt: skip
    else:
        yield Check(Group.PLACES, "home", N_("home"), as_is(str(home)))
    yield from _mirror()


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None


def _place(name: str, title: Message, folder: Path, hint: Message) -> Check:
    """Whether the folder, which need not be there yet, can be written to, has space, and has locks that work."""
    reason = _refusal(folder)
    if reason is not None:
        wrong = N_("it cannot be written to: {reason}", reason=reason)
        return Check(Group.PLACES, name, title, as_is(str(folder)), Verdict.PROBLEM, wrong, hint)
    free = shutil.disk_usage(_existing(folder)).free
    found = N_("{folder}, {free:.1f} GB free", folder=folder, free=free / 1e9)
    if free < LITTLE_SPACE:
        verdict = Verdict.PROBLEM if free < NO_SPACE else Verdict.WARNING
        return Check(Group.PLACES, name, title, found, verdict, N_("there is little space left"), hint)
    unlocked = _lock_failure(_existing(folder))
    if unlocked is not None:
        return Check(Group.PLACES, name, title, found, Verdict.PROBLEM, unlocked.message, unlocked.hint)
    return Check(Group.PLACES, name, title, found)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next((path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path)), folder)


def _refusal(folder: Path) -> Message | None:
    """Why no file can be written to the folder, or made where it will be."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder), prefix=".pati-") as file:
            file.write(b"pati")
    except OSError as error:
        return os_reason(error)
    return None


def _lock_failure(folder: Path) -> PatiError | None:
    """What is wrong with locks in a folder that can be written to."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".pati-", ignore_cleanup_errors=True) as temporary:
        path = Path(temporary) / "lock"
        try:
            with locks.locked(path, N_("the file is locked")):
                held = locks.is_locked(path)
            free = not locks.is_locked(path)
        except (PatiError, OSError) as error:
            reason = error.message if isinstance(error, PatiError) else os_reason(error)
            return PatiError(reason, N_("use a folder on a local disk"))
    if held and free:
        return None
    return PatiError(N_("locks have no effect on this disk"), N_("use a folder on a local disk"))


def _mirror() -> Iterator[Check]:
    named = os.environ.get("PATI_MIRROR")
    if not named:
        return
    there = Path(named).expanduser().is_dir()
    yield Check(
        Group.PLACES,
        "mirror",
        as_is("PATI_MIRROR"),
        as_is(named),
        Verdict.OK if there else Verdict.WARNING,
        None if there else N_("it is not a folder"),
        None if there else N_("set it to a folder with copies of built-in datasets, or not at all"),
    )


# Terminal -----------------------------------------------------------------------------


def _terminal() -> Iterator[Check]:
    language = catalogues.current()
    known = ", ".join(catalogues.languages())
    found = N_("{language} (of {known})", language=language, known=known)
    yield Check(Group.TERMINAL, "language", N_("language"), found)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    yield _encoding("output", N_("output"), encoding, N_("letters that it lacks are written as codes, such as \\u011f"))
    names = N_("names of files with other letters may not be read")
    yield _encoding("file_names", N_("names of files"), sys.getfilesystemencoding(), names)


def _encoding(name: str, title: Message, encoding: str, wrong: Message) -> Check:
    try:
        "ğİş–…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        hint = (
            N_("in PowerShell: $env:PYTHONUTF8 = 1; in a console window also: chcp 65001")
            if os.name == "nt"
            else N_("set PYTHONUTF8=1, or a language with UTF-8: export LANG=C.UTF-8")
        )
        return Check(Group.TERMINAL, name, title, as_is(encoding), Verdict.WARNING, wrong, hint)
    return Check(Group.TERMINAL, name, title, as_is(encoding))
