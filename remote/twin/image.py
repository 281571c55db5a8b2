"""The emulated machine's disk and its first file system: packages in, kernel, initramfs and an ext4 image out."""

import gzip
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from twin.packages import ForeignApt, TwinError, call, unpack

# What any Debian board has: a shell, an sshd, Python, and the C++ library that the wheels of numpy and onnxruntime expect.
PACKAGES = ["base-files", "base-passwd", "bash", "busybox-static", "coreutils", "grep", "gzip", "libc-bin", "libstdc++6"]
PACKAGES += ["openssh-server", "procps", "python3", "sed", "tar"]
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "ext4", "crc32c_generic")
USER = "board"
DISK_BYTES = 2 << 30  # sparse

# The disk's first process. A power cut is survived by ext4's journal; there is no service manager to wait for.
INIT = """#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /dev/pts /dev/shm /run/sshd
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs tmpfs /dev/shm
busybox mount -t tmpfs -o mode=755 tmpfs /run
busybox mkdir -p /run/sshd
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
for word in $(busybox cat /proc/cmdline); do
    case $word in twin.epoch=*) busybox date -s "@${word#twin.epoch=}" ;; esac
done
busybox hostname twin
busybox ip link set lo up
busybox ip link set eth0 up
busybox ip addr add 10.0.2.15/24 dev eth0
busybox ip route add default via 10.0.2.2
# Packages compile their Python files when they are installed. Without that every process compiles for itself and weighs up to 6 MiB more.
[ -e /var/lib/twin-compiled ] || { python3 -m compileall -q -x '/(test|idlelib|lib2to3)/' /usr/lib/python3*; touch /var/lib/twin-compiled; sync; }
/usr/sbin/sshd -D -e &
echo "twin: sshd started"
while true; do busybox sleep 3600 & wait; done
"""
SSHD = f"""ListenAddress 0.0.0.0
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
HostKey /etc/ssh/host_key
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin prohibit-password
AllowUsers {USER} root
Subsystem sftp internal-sftp
"""


def module_order(wanted: tuple[str, ...], kernel_tree: Path) -> list[Path]:
    """The kernel modules in the order in which they can be loaded; those that are part of the kernel itself are left out.

    A module names what it needs in its own `depends=` text, so neither depmod nor root is needed.
    """
    files = {path.name.removesuffix(".ko").replace("-", "_"): path for path in kernel_tree.rglob("*.ko")}
    order: list[Path] = []

    def add(name: str) -> None:
        path = files.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        depends = path.read_bytes().split(b"\0depends=", 1)
        if len(depends) > 1:
            for needed in filter(None, depends[1].split(b"\0", 1)[0].decode().split(",")):
                add(needed)
        order.append(path)

    for name in wanted:
        add(name)
    return order


def cpio(files: dict[str, bytes | None]) -> bytes:
    """A `newc` archive (linux/Documentation/driver-api/early-userspace/buffer-format.rst): name -> content, None for a folder; all executable."""
    out = bytearray()
    for number, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")], start=1):
        mode = 0o040755 if content is None else 0o100755
        data = content or b""
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4)
    return bytes(out)


def write_initramfs(path: Path, tree: Path, kernel_tree: Path) -> None:
    order = module_order(MODULES, kernel_tree)
    lines = [
        "#!/bin/busybox sh",
        "/bin/busybox mount -t devtmpfs dev /dev",
        *[f"/bin/busybox insmod /modules/{module.name}" for module in order],
        "n=0; while [ ! -b /dev/vda ] && [ $n -lt 200 ]; do /bin/busybox sleep 0.1; n=$((n+1)); done",
        "/bin/busybox mount -t ext4 /dev/vda /root || { echo 'twin: no disk'; /bin/busybox poweroff -f; }",
        "/bin/busybox umount /dev",
        "exec /bin/busybox switch_root /root /sbin/twin-init",
    ]
    files: dict[str, bytes | None] = {"bin": None, "dev": None, "root": None, "modules": None}
    files["bin/busybox"] = (tree / "bin/busybox").read_bytes()
    files["init"] = ("\n".join(lines) + "\n").encode()
    files.update({f"modules/{module.name}": module.read_bytes() for module in order})
    path.write_bytes(gzip.compress(cpio(files), mtime=0))


def make_keys(folder: Path) -> None:
    """The machine's host key and the user's key, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host_key", "user_key"):
        if not (folder / name).exists():
            call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "twin", "-f", str(folder / name)])


def furnish(tree: Path, keys: Path) -> None:
    """What the packages' installation scripts would have made, as far as an sshd and a Python need it."""
    etc = tree / "etc"
    passwd = (tree / "usr/share/base-passwd/passwd.master").read_text()
    passwd += f"sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n{USER}:x:1000:1000::/home/{USER}:/bin/bash\n"
    (etc / "passwd").write_text(passwd)
    (etc / "group").write_text((tree / "usr/share/base-passwd/group.master").read_text() + f"{USER}:x:1000:\n")
    # '*': no password fits, and yet sshd does not take the account for a locked one, as it would with '!'.
    (etc / "shadow").write_text("".join(f"{line.split(':')[0]}:*:19000:0:99999:7:::\n" for line in passwd.splitlines()))
    (etc / "hostname").write_text("twin\n")
    (etc / "hosts").write_text("127.0.0.1 localhost twin\n")
    (etc / "ssh").mkdir(exist_ok=True)
    (etc / "ssh/sshd_config").write_text(SSHD)
    shutil.copy(keys / "host_key", etc / "ssh/host_key")
    (etc / "ssh/host_key").chmod(0o600)
    for home in (tree / "root", tree / "home" / USER):
        (home / ".ssh").mkdir(parents=True, exist_ok=True)
        shutil.copy(keys / "user_key.pub", home / ".ssh/authorized_keys")
        (home / ".ssh").chmod(0o700)
    init = tree / "sbin/twin-init"
    init.write_text(INIT)
    init.chmod(0o755)
    for name in ("proc", "sys", "dev", "run", "tmp"):
        (tree / name).mkdir(exist_ok=True)


def build(folder: Path, release: str, mirror_url: str) -> None:
    """`folder`/{kernel, initramfs, disk.base.ext4, keys/}; what earlier builds left is taken as it is. raises: TwinError

    A change of this file makes another image, and a disk that was made from the old one goes with it.
    """
    base, recipe = folder / "disk.base.ext4", folder / "recipe"
    wanted = hashlib.sha256(Path(__file__).read_bytes() + release.encode()).hexdigest()
    if base.exists() and recipe.exists() and recipe.read_text() == wanted:
        return
    (folder / "disk.ext4").unlink(missing_ok=True)
    apt = ForeignApt(folder / "apt", release, mirror_url)
    kernel_package = apt.download_alone(apt.newest_kernel())
    archives = apt.download(PACKAGES)
    tree, kernel_tree = folder / "tree", folder / "kernel-tree"
    for old in (tree, kernel_tree):
        shutil.rmtree(old, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in ("bin", "sbin", "lib"):  # every release since bookworm expects them merged
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    unpack(archives, tree)
    unpack([kernel_package], kernel_tree)
    make_keys(folder / "keys")
    furnish(tree, folder / "keys")
    write_initramfs(folder / "initramfs", tree, kernel_tree)
    shutil.copy(next((kernel_tree / "boot").glob("vmlinuz-*")), folder / "kernel")
    make_disk(tree, base)
    shutil.rmtree(tree)
    shutil.rmtree(kernel_tree)
    recipe.write_text(wanted)


def make_disk(tree: Path, path: Path) -> None:
    """An ext4 image of the tree, all of it root's but the user's home; neither a mount nor root is needed."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    command = ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", str(tree), str(part), str(DISK_BYTES >> 10)]
    if os.geteuid():
        command = ["unshare", "--map-root-user", *command]  # mke2fs keeps owners: in there this user's number is root's
    call(command)
    home = f"/home/{USER}"
    requests = [f"set_inode_field {name} {field} 1000" for name in (home, f"{home}/.ssh", f"{home}/.ssh/authorized_keys") for field in ("uid", "gid")]
    requests.append("set_inode_field /tmp mode 041777")
    done = subprocess.run(["debugfs", "-w", "-f", "-", str(part)], input="\n".join(requests), capture_output=True, text=True)
    if done.returncode:
        raise TwinError(f"debugfs could not set the owners in {part}: {done.stderr[-500:]}")
    part.replace(path)
