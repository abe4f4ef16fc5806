"""Takes away, and does otherwise, what Windows and macOS lack and do otherwise. Python imports it by its name.

`FOREIGN`: words, separated by commas. `windows`: no modules, functions and signals of POSIX, no links, no names with
colons; a file that any process has open below `FOREIGN_ROOT` is neither replaced nor removed; a signal ends a process
at once. `apple`: names are stored in NFD and found in any case and form (`FOREIGN_ROOT`), and there is no /proc.
"""

import builtins
import contextlib
import ctypes
import io
import ntpath
import os
import signal
import subprocess
import sys
import unicodedata
import warnings

WORDS = os.environ.get("FOREIGN", "").split(",")
ROOT = os.path.realpath(os.environ.get("FOREIGN_ROOT", "/nowhere"))


def below(path):
    return isinstance(path, str) and (path == ROOT or path.startswith(ROOT + "/"))


def text(path):
    with contextlib.suppress(TypeError, ValueError):
        return os.path.abspath(os.fsdecode(path))
    return None


# Windows ------------------------------------------------------------------------------------------------------------

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"}
ALLOWED = ("asyncio", "multiprocessing", "concurrent")  # their versions for Windows are not here
OF_OS = """
    sched_getaffinity sched_setaffinity sysconf sysconf_names getuid geteuid getgid getegid getpgid getpgrp setpgid
    setsid getsid killpg nice sync posix_fallocate posix_fadvise mkfifo mknod statvfs fstatvfs getloadavg fchmod
    fchown chown lchown chroot fork forkpty pread pwrite lockf sendfile O_NONBLOCK O_NOFOLLOW O_DIRECTORY O_CLOEXEC
"""
OF_SIGNAL = "SIGHUP SIGKILL SIGALRM SIGUSR1 SIGUSR2 SIGSTOP SIGCONT SIGTSTP pthread_kill setitimer alarm pause"
PROC = [f"/proc/{name}" for name in ("stat", "self/statm", "self/cgroup", "self/mountinfo")]
libc = ctypes.CDLL(None, use_errno=True)
kill = os.kill


def taken(path):
    """Whether a process has the file, or one in the folder, open."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for handle in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{process}/fd/{handle}")
                    if target == path or target.startswith(path + "/"):
                        return True
            with open_(f"/proc/{process}/maps", encoding="utf-8", errors="replace") as maps:
                if any(path in line for line in maps):
                    return True
    return False


def refuse_taken(*paths):
    for path in map(text, paths):
        if below(path) and taken(path):
            error = PermissionError(13, "The process cannot access the file", path)
            error.winerror = 32
            raise error


def refuse_name(path):
    path = text(path)
    if below(path):
        for part in path.split("/"):
            if set(part) & set('<>:"\\|?*') or part.endswith((".", " ")) or ntpath.isreserved(part):
                raise OSError(22, "The filename, directory name, or volume label syntax is incorrect", path)


def guarded(function, check, *numbers):
    def call(*arguments, **options):
        check(*(arguments[number] for number in numbers))
        return function(*arguments, **options)

    return call


def no_link(*arguments, **options):
    error = OSError(22, "A required privilege is not held by the client")
    error.winerror = 1314
    raise error


def windows():
    warnings.filterwarnings("ignore", "only soft file lock")
    global open_
    open_ = io.open
    if not hasattr(ntpath, "isreserved"):  # Python 3.13
        ntpath.isreserved = lambda name: name.split(".")[0].rstrip(" ").upper() in {"CON", "PRN", "AUX", "NUL", "COM1"}
    imported = builtins.__import__

    def import_(name, globals=None, locals=None, fromlist=(), level=0):
        asking = (globals or {}).get("__name__", "")
        if name in MODULES and not asking.startswith(ALLOWED):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = imported(name, globals, locals, fromlist, level)
        if name == "filelock" and not hasattr(module, "foreign"):
            module.foreign, module.FileLock = True, exclusive(module.BaseFileLock)
        return module

    for module, names in ((os, OF_OS), (signal, OF_SIGNAL)):
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    builtins.__import__ = import_
    os.kill = lambda process, number: kill(process, 9)
    subprocess.Popen.kill = subprocess.Popen.terminate = lambda self: self.poll() is None and kill(self.pid, 9)
    os.symlink = no_link
    os.mkdir = guarded(os.mkdir, refuse_name, 0)
    os.unlink = os.remove = guarded(os.unlink, refuse_taken, 0)
    rename = guarded(guarded(os.replace, refuse_taken, 0, 1), lambda source, target: refuse_name(target), 0, 1)

    def rename_(source, target, **options):
        if os.path.lexists(target):
            raise FileExistsError(17, "Cannot create a file when that file already exists", str(target))
        rename(source, target, **options)

    os.replace, os.rename = rename, rename_
    opened = os.open

    def open_handle(path, flags, *arguments, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        if flags & os.O_CREAT:
            refuse_name(path)
        return opened(path, flags, *arguments, **options)

    os.open = open_handle

    def open_file(file, mode="r", *arguments, **options):
        if text(file) in PROC:
            raise FileNotFoundError(2, "No such file or directory", file)
        if set(mode) & set("wax"):
            refuse_name(file)
        return open_(file, mode, *arguments, **options)

    builtins.open = io.open = open_file


def exclusive(base):
    """A lock as msvcrt's: of one process, and gone with it."""

    class Exclusive(base):
        def _acquire(self):
            handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
            if libc.flock(handle, 2 | 4):
                os.close(handle)
            else:
                self._context.lock_file_fd = handle

        def _release(self):
            os.close(self._context.lock_file_fd)
            self._context.lock_file_fd = None

    return Exclusive


# macOS --------------------------------------------------------------------------------------------------------------


OF_ONE_PATH = "open stat lstat access mkdir unlink remove rmdir listdir scandir chmod utime readlink truncate"


def same(name):
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def apple():
    listed, lstat = os.listdir, os.lstat

    def stored(path):
        """The path under the names that are stored, and for what is not there in NFD."""
        whole = text(path)
        if not below(whole):
            return path
        place = ROOT
        for part in whole[len(ROOT) :].strip("/").split("/"):
            name = part
            if part and not seen(f"{place}/{part}"):
                there = listed(place) if seen(place) else []
                name = next((one for one in there if same(one) == same(part)), unicodedata.normalize("NFD", part))
            place = f"{place}/{name}" if name else place
        place = place if os.path.isabs(path) else os.path.relpath(place)
        return os.fsencode(place) if isinstance(path, bytes) else place

    def seen(path):
        with contextlib.suppress(OSError, ValueError):
            return lstat(path) is not None
        return False

    def through(function, count=1):
        def call(*arguments, **options):
            paths = [stored(one) if isinstance(one, str | bytes | os.PathLike) else one for one in arguments[:count]]
            return function(*paths, *arguments[count:], **options)

        return call

    for name in OF_ONE_PATH.split():
        setattr(os, name, through(getattr(os, name)))
    for name in ["rename", "replace", "link"]:
        setattr(os, name, through(getattr(os, name), 2))
    builtins.open = io.open = through(io.open)
    for name in ["posix_fallocate", "sched_getaffinity"]:
        delattr(os, name)


if "windows" in WORDS:
    windows()
if "apple" in WORDS:
    apple()
sys.foreign = WORDS
