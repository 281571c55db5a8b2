"""python remote/twin VERB: build, up, down, status, power-cut, reset, target, ssh.

Exit codes: 0 done (status: it runs and answers); 1 status: it does not; 4 it could not be done, the reason is on stderr.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twin import image, packages
from twin.machine import Machine

VERBS = {
    "build": "make the disk image, once (`up` does it too)",
    "up": "boot, wait for sshd, print the target file's path",
    "down": "write everything to the disk and power off",
    "status": "whether it runs and answers",
    "power-cut": "end the emulator at once; what was on the disk stays",
    "reset": "the disk as it was built",
    "target": "print the target file",
    "ssh": "log in, or run the words behind --",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python remote/twin", description="An arm64 Debian machine in a system emulator.", epilog="ssh: the words behind -- are run in the guest"
    )
    parser.add_argument("verb", choices=VERBS, help="; ".join(f"{verb}: {says}" for verb, says in VERBS.items()))
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("FERCOMPRESS_TWIN_FOLDER", Path.home() / ".cache/fercompress-twin")))
    parser.add_argument("--release", default="bookworm", help="of Debian: bookworm has Python 3.11, bullseye 3.9")
    parser.add_argument("--mirror", help="of Debian; default: the one that this machine's apt uses")
    parser.add_argument("--port", type=int, default=2364, help="of this machine, forwarded to the guest's sshd")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=2048)
    parser.add_argument("--root", action="store_true", help="for ssh: as root")
    arguments = sys.argv[1:] if arguments is None else arguments
    behind = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:behind])
    options.words = arguments[behind + 1 :]
    folder = options.folder.absolute() / options.release
    machine = Machine(folder, options.port, options.cores, options.memory_mb)
    try:
        return act(options, folder, machine)
    except packages.TwinError as error:
        print(f"twin: {error}", file=sys.stderr)
        return 4


def act(options: argparse.Namespace, folder: Path, machine: Machine) -> int:
    if options.verb in ("build", "up") and machine.pid() is None:  # never under a running one
        began = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        image.build(folder, options.release, options.mirror or packages.mirror())
        print(f"twin: image ready after {time.monotonic() - began:.0f} s", file=sys.stderr)
    if options.verb == "up":
        print(f"twin: sshd answers after {machine.up():.0f} s", file=sys.stderr)
        target = folder / "twin.toml"
        target.write_text(machine.target())
        print(target)
    elif options.verb == "down":
        machine.down()
    elif options.verb == "power-cut":
        machine.power_cut()
    elif options.verb == "reset":
        machine.reset()
    elif options.verb == "target":
        print(machine.target(), end="")
    elif options.verb == "ssh":
        command = machine.ssh("root" if options.root else image.USER) + options.words
        os.execvp(command[0], command)
    elif options.verb == "status":
        state = "down" if machine.pid() is None else "answers" if machine.answers() else "runs, but its sshd does not answer"
        print(state)
        return 0 if state == "answers" else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
