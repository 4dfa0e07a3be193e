"""A child that can only compute: no network, no files but libraries, no other process, limits on all it takes.

Linux only: an unprivileged user namespace with namespaces of its own for mounts, processes, network and messages; a root
of its own that holds the system's libraries and Python's, read-only, and an empty /tmp; no processes to see; no capabilities; a
filter of system calls (no new process, no program, no socket, no tracing, no mounts); limits on CPU time, memory, file
size. Whoever holds the first process of the namespace ends all of it at once.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.material import ROOT

CPU_SECONDS, WALL_SECONDS = 20, 90
MEMORY, FILE_SIZE, TMP_SIZE = 2 << 30, 16 << 20, "64m"
"""Memory beyond what the notebook itself holds; the largest file; all files together."""

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_DUMPABLE = 1, 38, 22, 4
DEVICES = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat"]
"""What of the machine itself is seen: libraries ask how much memory there is."""
FIX = """\
Answers of learners must not run on a machine that they can reach, and this one cannot shut them off: {why}.
What to do, one of:
  - on Linux, allow unprivileged user namespaces:
        sudo sysctl -w kernel.unprivileged_userns_clone=1                   (Debian)
        sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0       (Ubuntu 23.10 and newer)
        sudo sysctl -w user.max_user_namespaces=10000                       (where it is 0)
  - in a container: start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined
  - on macOS or Windows: use a Linux machine, a virtual one, or WSL 2
  - for notebooks that you wrote yourself: --trust. Never for a class."""

# name -> number on x86-64, on arm64; -1 where it does not exist
CALLS = {
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "socket": (41, 198), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "open_by_handle_at": (304, 265), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "mount_setattr": (442, 442), "kexec_load": (246, 104), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224),
    "acct": (163, 89), "quotactl": (179, 60), "personality": (135, 92), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "modify_ldt": (154, -1), "memfd_secret": (447, 447), "memfd_create": (319, 279),
}  # fmt: skip
CLONE, CLONE3, CLONE_THREAD, PRCTL = (56, 220), (435, 435), 0x10000, (157, 167)
ARCHES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
EPERM, ENOSYS, NOBODY = 1, 38, 65534


@dataclass(frozen=True)
class Limits:
    """What one answer may take."""

    cpu_s: float = CPU_SECONDS
    wall_s: float = WALL_SECONDS
    memory: int = MEMORY


class IsolationError(Exception):
    """Raised where a child could not be shut off."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _ok(result: int, what: str) -> None:
    if result != 0:
        raise IsolationError(f"{what}: {os.strerror(ctypes.get_errno())}")


def leave_the_machine(new_root: str) -> None:
    """Move this process into namespaces and a root of its own; its next child is the first process in there."""
    libc, uid, gid = _libc(), os.geteuid(), os.getegid()
    spaces = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
    if uid == 0 and _open_to_all() and libc.unshare(spaces) == 0:
        pass  # the child will be nobody, whom the limit on threads binds; root it would not
    elif libc.unshare(NEWUSER | spaces) == 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    else:
        raise IsolationError(f"no user namespace of its own: {os.strerror(ctypes.get_errno())}")
    _own_root(libc, new_root)


def _open_to_all() -> bool:
    return all(os.stat(place).st_mode & 5 == 5 for place in seen() if os.path.isdir(place))


def _own_root(libc: ctypes.CDLL, new_root: str) -> None:
    def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> int:
        return libc.mount(
            source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), data and data.encode()
        )

    _ok(mount("none", "/", None, MS_REC | MS_PRIVATE), "mounts cannot be made private")
    _ok(mount("tmpfs", new_root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755"), "no root of its own")
    for source in seen():
        target = new_root + source
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "a").close()
        _ok(mount(source, target, None, MS_BIND | MS_REC), f"{source} cannot be shown")
        if source not in DEVICES:
            _read_only(libc, target)
    for name in os.listdir("/"):
        if os.path.islink(f"/{name}") and not os.path.lexists(f"{new_root}/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{new_root}/{name}")  # /lib -> usr/lib
    for hidden in hidden_folders():
        if os.path.isdir(new_root + hidden):
            _ok(
                mount("tmpfs", new_root + hidden, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "size=4k"), "hiding failed"
            )
    os.makedirs(f"{new_root}/tmp", exist_ok=True)
    room = f"size={TMP_SIZE},mode=1777,nr_inodes=4096"
    _ok(mount("tmpfs", f"{new_root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, room), "no /tmp of its own")
    os.chdir(new_root)
    number = {"x86_64": 155, "aarch64": 41}[platform.machine()]
    _ok(libc.syscall(number, b".", b"."), "the root cannot be changed")
    _ok(libc.umount2(b".", MNT_DETACH), "the old root cannot be left")
    _ok(
        mount("tmpfs", "/", None, MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_RDONLY, "size=1m,mode=755"),
        "the root stays writable",
    )
    os.chdir("/tmp")


def _read_only(libc: ctypes.CDLL, target: str) -> None:
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", 1 | 2, 0, 0, 0))  # RDONLY | NOSUID
    if libc.syscall(442, -100, target.encode(), 0x8000, attributes, ctypes.c_size_t(32)) == 0:  # AT_RECURSIVE
        return
    kept = os.statvfs(target).f_flag & 0xF  # what the machine's own mount forbids stays forbidden
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept
    _ok(libc.mount(None, target.encode(), None, ctypes.c_ulong(flags), None), f"{target} stays writable")


def seen() -> list[str]:
    """Return what of the machine's files an answer may read: libraries, the course's own one and its models."""
    places = ["/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", sys.prefix, sys.base_prefix]
    places += [p for p in sys.path if p and os.path.isdir(p) and not os.path.samefile(p, ".")]
    places += [sysconfig.get_path("stdlib"), str(ROOT / "course_lib"), str(ROOT / "organisms"), *DEVICES]
    root = str(ROOT)
    kept: list[str] = []
    for place in sorted({p if p in DEVICES else os.path.realpath(p) for p in places if os.path.exists(p)}):
        too_much = place == "/" or root == place or root.startswith(place + "/") or os.path.expanduser("~") == place
        if not too_much and not any(place.startswith(k + "/") for k in kept):
            kept.append(place)
    return kept


def hidden_folders() -> list[str]:
    """Return folders that lie in what is seen and hold answers: an installed `chapters`, examinations of other learners."""
    places = [ROOT / "organisms" / "work"]
    for base in {p for p in (*sys.path, sysconfig.get_path("purelib")) if p}:
        places += [Path(base) / name for name in ("chapters", "solutions", "lab", "tests")]
    return sorted({os.path.realpath(p) for p in places if os.path.isdir(p)})


def die_with_parent() -> None:
    """Let the kernel end this process when the one that forked it ends, however that happens."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)


def give_up_everything(limits: Limits, keep: int, uid: int = NOBODY) -> None:
    """In the child: close all but one file, set the limits, and refuse itself every dangerous system call for good.

    Where root marks, the child becomes user `uid`: children that run at once need one each, or share a limit on threads.
    """
    os.setsid()
    os.environ.update(HOME="/tmp", TMPDIR="/tmp")
    tempfile.tempdir = None
    null = os.open("/dev/null", os.O_RDWR)
    for n in (0, 1, 2):
        os.dup2(null, n)
    os.closerange(3, keep)
    os.closerange(keep + 1, 65536)
    set_limits(limits)
    libc = _libc()
    if os.geteuid() == 0 and sys.platform == "linux":
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    die_with_parent()
    if sys.platform == "linux":
        _ok(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "privileges could come back")
        header, nothing = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0] * 6)
        _ok(libc.capset(header, nothing), "capabilities could not be dropped")
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        _ok(_filter(libc), "system calls could not be filtered")


def set_limits(limits: Limits) -> None:
    """Set what one answer may take: CPU time, memory, files, threads."""
    size = size_now() + limits.memory
    cpu = max(1, round(limits.cpu_s))
    for what, value in (
        (resource.RLIMIT_AS, size), (resource.RLIMIT_CPU, cpu), (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 256), (resource.RLIMIT_NPROC, 128),
    ):  # fmt: skip
        soft = min(value, hard) if (hard := resource.getrlimit(what)[1]) != resource.RLIM_INFINITY else value
        resource.setrlimit(what, (soft, soft))


def size_now() -> int:
    """Return how many bytes of addresses this process has: what it inherits counts for its limit, too."""
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as stream:
        pages = int((stream.read().split() or ["0"])[0])
    return (pages or SIZE_BEFORE[0]) * resource.getpagesize()


SIZE_BEFORE = [0]
"""This process's size in pages, noted while /proc can still be read."""


def note_size() -> None:
    """Note how large this process is."""
    try:
        SIZE_BEFORE[0] = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        SIZE_BEFORE[0] = 1 << 20


def _filter(libc: ctypes.CDLL) -> int:
    column, arch = ARCHES[platform.machine()]
    load, jump, at_least, bits, back = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, deny, missing, kill = 0x7FFF0000, 0x00050000 | EPERM, 0x00050000 | ENOSYS, 0x80000000
    code = [(load, 0, 0, 4), (jump, 1, 0, arch), (back, 0, 0, kill), (load, 0, 0, 0)]
    if column == 0:
        code += [(at_least, 0, 1, 0x40000000), (back, 0, 0, deny)]  # the other numbering of x86-64
    code += [(jump, 0, 1, CLONE3[column]), (back, 0, 0, missing)]
    code += [
        (jump, 0, 4, CLONE[column]),
        (load, 0, 0, 16),
        (bits, 1, 0, CLONE_THREAD),
        (back, 0, 0, deny),
        (back, 0, 0, allow),
    ]
    code += [(jump, 0, 3, PRCTL[column]), (load, 0, 0, 16), (jump, 0, 1, PR_SET_PDEATHSIG), (back, 0, 0, deny)]
    code += [(load, 0, 0, 0)]
    for numbers in CALLS.values():
        if numbers[column] >= 0:
            code += [(jump, 0, 1, numbers[column]), (back, 0, 0, deny)]
    code.append((back, 0, 0, allow))
    rules = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(rules)))
    return libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0)


# --- does it hold here? ----------------------------------------------------------------------------------------------


def why_not() -> str:
    """Return "" if a child can really be shut off on this machine, tried by shutting one off; else what failed."""
    if sys.platform != "linux" or platform.machine() not in ARCHES:
        return f"it is {sys.platform} on {platform.machine()}, and this needs Linux on x86-64 or arm64"
    reads, writes = os.pipe()
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        if (child := os.fork()) == 0:
            said = ""
            try:
                said = _tried(folder, writes)
            except (IsolationError, OSError) as error:
                said = str(error) or type(error).__name__
            finally:
                os.write(writes, said.encode()[:1000])
                os._exit(0)
        os.close(writes)
        with os.fdopen(reads, "rb") as stream:
            said = stream.read().decode(errors="replace")
        os.waitpid(child, 0)
    return "" if said == "ok" else said or "the trial died"


SEEN: list[str] = []


def _tried(folder: str, writes: int) -> str:
    note_size()
    SEEN[:] = seen()
    leave_the_machine(folder)
    if (inner := os.fork()) == 0:
        try:
            give_up_everything(Limits(), writes)
            said = "; ".join(what for what, attempt in ATTEMPTS.items() if _works(attempt)) or "ok"
            (ROOT / "course_lib" / "__init__.py").read_bytes()
            said = said if said == "ok" else f"it still can {said}"
        except (IsolationError, OSError) as error:
            said = str(error)
        os.write(writes, said.encode())
        os._exit(0)
    os.waitpid(inner, 0)
    return ""


def _open_socket() -> None:
    import socket

    socket.socket()


def _write_where_it_is_read() -> None:
    Path(ROOT / "course_lib" / "written").write_text("")


def _list_home() -> None:
    home = os.path.realpath(os.path.expanduser("~"))
    ours = {place[len(home) + 1 :].split("/")[0] for place in SEEN if place.startswith(home + "/")}
    if not set(os.listdir(home)) - ours:
        raise FileNotFoundError


ATTEMPTS: dict[str, Callable[[], object]] = {
    "read the course": lambda: (ROOT / "README.md").read_text(),
    "read other processes": lambda: os.listdir("/proc/self"),
    "read the home": _list_home,
    "open a socket": _open_socket,
    "start a process": os.fork,
    "write to libraries": _write_where_it_is_read,
    "write to its root": lambda: Path("/written").write_text(""),
}


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True
