"""What breaks on the way to a board and on it: each fault made for real, against a real sshd, a real porter and real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import paramiko
import psutil
import pytest
from sshlab import DEADLINES_S, Proxy, Sshd, eventually, write_key

from fercompress.errors import AgentError, DiskFullError, TargetBusyError, TargetError, TargetRebootedError, TargetTimeoutError
from fercompress.measure import link, ssh, sshchannel
from fercompress.measure.sshchannel import SshChannel

ROOT = Path(__file__).resolve().parents[1]

# Notes that it began, waits until the file `go` is there, says how often it began.
ONCE = "import os, time\nopen('began', 'a').write('x')\nwhile not os.path.exists('go'): time.sleep(0.02)\nprint(open('began').read())"

# A host in a process of its own, so that it can be killed.
HOST = """
import sys, json
from pathlib import Path
from fercompress.measure.endpoint import Address
from fercompress.measure.sshchannel import SshChannel
said = json.loads(sys.argv[1])
address = Address(said["host"], "lab", said["port"], said["user"], Path(said["key"]), said["python"], "work", Path(said["known_hosts"]))
print(SshChannel(address, said["owner"]).run(said["argv"], said["deadline_s"], said["job"]).stdout.decode(), flush=True)
"""


@pytest.fixture
def proxy(lab):
    with Proxy(lab.port) as proxy:
        lab.trust(proxy.port)
        yield proxy


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


class Running:
    """channel.run in a thread: `result` gives what it returned, or raises what it raised."""

    def __init__(self, channel: SshChannel, argv: list[str], deadline_s: float = 60, job: str = "") -> None:
        self.done = None
        self.error: BaseException | None = None

        def call() -> None:
            try:
                self.done = channel.run(argv, deadline_s, job)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=call)
        self.thread.start()

    def result(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.done


def began(lab: Sshd) -> bool:
    return (lab.files / "began").exists()


def go(lab: Sshd) -> None:
    (lab.files / "go").touch()


def heeds_ctrl_c() -> None:
    """What a shell started in its background ignores Ctrl-C, and so do its children, tests included."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start_host(lab: Sshd, code: str, owner: str, job: str, deadline_s: float = 60) -> subprocess.Popen[bytes]:
    address = lab.address()
    said = {
        "host": address.host, "port": address.port, "user": address.user, "key": str(address.key), "python": sys.executable,
        "known_hosts": str(address.known_hosts), "owner": owner, "argv": python(code), "job": job, "deadline_s": deadline_s,
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", HOST, json.dumps(said)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heeds_ctrl_c)


def end(host: subprocess.Popen[bytes]) -> None:
    host.kill()
    host.communicate()


def test_link_cut_in_an_upload_goes_on_where_it_was(lab, proxy, tmp_path):
    content = os.urandom(4 << 20)
    (tmp_path / "file").write_bytes(content)
    with SshChannel(lab.address(proxy.port)) as channel:
        channel.greet()
        proxy.cut_after_bytes = 2 << 20
        before = proxy.bytes
        channel.put(tmp_path / "file", "file")
        assert channel.reconnects == 1
    assert (lab.files / "file").read_bytes() == content
    # A piece or two again, the log-in and what encryption adds: not the whole file a second time.
    assert proxy.bytes - before < len(content) + (1 << 20)


def test_link_cut_in_a_run_does_not_touch_the_command(lab, proxy):
    with SshChannel(lab.address(proxy.port)) as channel:
        running = Running(channel, python(ONCE))
        assert eventually(lambda: began(lab))
        proxy.cut()
        assert eventually(lambda: proxy.connections == 2)
        go(lab)
        assert running.result().stdout == b"x\n"


def test_link_cut_in_a_download_gives_the_whole_file(lab, proxy, tmp_path):
    with SshChannel(lab.address(proxy.port)) as channel:
        channel.run(python("open('large', 'wb').write(bytes(range(256)) * 16384)"), 20)
        proxy.cut_after_bytes = 2 << 20
        channel.get("large", tmp_path / "large")
        assert channel.reconnects == 1
    assert (tmp_path / "large").read_bytes() == bytes(range(256)) * 16384


def test_sshd_killed_and_started_again_does_not_touch_the_command(lab):
    with SshChannel(lab.address()) as channel:
        running = Running(channel, python(ONCE))
        assert eventually(lambda: began(lab))
        lab.kill()
        time.sleep(0.6)  # some polls fail meanwhile
        lab.start()
        go(lab)
        assert running.result().stdout == b"x\n"
        assert channel.reconnects >= 1


def test_sshd_session_killed_alone(lab, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    with SshChannel(lab.address()) as channel:
        channel.greet()
        lab.signal_sessions(signal.SIGKILL)
        channel.put(tmp_path / "file", "file")
    assert (lab.files / "file").read_bytes() == b"x" * 300_000


def test_sshd_that_hangs_is_left_for_a_new_connection(lab):
    with SshChannel(lab.address(), request_s=1.5) as channel:
        running = Running(channel, python(ONCE))
        assert eventually(lambda: began(lab))
        lab.signal_sessions(signal.SIGSTOP)
        assert eventually(lambda: channel.reconnects >= 1)
        go(lab)
        assert running.result().stdout == b"x\n"


def test_sshd_that_hangs_before_it_starts_the_agent_is_given_up(lab, monkeypatch):
    """paramiko waits for the answer to `exec` without a deadline."""
    monkeypatch.setattr(link, "START_S", 1.0)
    send = paramiko.Channel.exec_command

    def stopped(channel, command):
        lab.signal_sessions(signal.SIGSTOP)
        send(channel, command)

    monkeypatch.setattr(paramiko.Channel, "exec_command", stopped)
    with SshChannel(lab.address()) as channel, pytest.raises(TargetError, match="ended while the agent started"):
        channel.greet()


def test_a_link_that_comes_about_while_the_channel_is_closed_is_closed_too(lab, proxy, monkeypatch):
    monkeypatch.setattr(sshchannel, "CLOSE_S", 0.2)
    channel, errors = SshChannel(lab.address(proxy.port)), []
    proxy.hole = True

    def greet() -> None:
        try:
            channel.greet()
        except TargetError as error:
            errors.append(error)

    thread = threading.Thread(target=greet)
    thread.start()
    assert eventually(lambda: proxy.connections == 1)
    channel.close()
    proxy.hole = False
    thread.join(30)
    assert len(errors) == 1
    assert eventually(lambda: not lab.sessions())  # a porter that stays would keep the target from others


def test_black_hole_is_noticed_and_outlived(lab, proxy, monkeypatch):
    monkeypatch.setattr(ssh, "CONNECT_S", 1.5)
    with SshChannel(lab.address(proxy.port), request_s=1.5) as channel:
        running = Running(channel, python(ONCE))
        assert eventually(lambda: began(lab))
        proxy.hole = True
        assert eventually(lambda: channel.reconnects >= 1)
        proxy.hole = False
        go(lab)
        assert running.result().stdout == b"x\n"


def test_a_target_that_stays_away_is_given_up_with_what_to_try(lab):
    with SshChannel(lab.address(unreachable_s=0.5)) as channel:
        channel.greet()
        lab.kill()
        with pytest.raises(
            TargetError, match=r"out of reach for 0.5 s.*nothing listens.*the same command again|out of reach for 0.5 s.*takes up"
        ) as caught:
            channel.run(["true"], 10)
    assert caught.value.exit_code == 4


def test_throttled_link_with_broken_connections_delivers_everything(lab, proxy, tmp_path):
    content = os.urandom(1 << 20)
    (tmp_path / "file").write_bytes(content)
    proxy.rate_bytes_per_s, proxy.break_share = 1 << 20, 0.05
    with SshChannel(lab.address(proxy.port)) as channel:
        for name in ("a", "b"):
            channel.put(tmp_path / "file", name)
            channel.get(name, tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == content
        assert channel.reconnects >= 1


def test_reboot_while_a_command_runs_is_told_from_a_lost_link(lab):
    with SshChannel(lab.address()) as channel:
        running = Running(channel, python(ONCE), job="ab")
        assert eventually(lambda: began(lab))
        lab.reboot()
        with pytest.raises(TargetRebootedError, match="started anew while"):
            running.result()
        go(lab)
        assert channel.run(python(ONCE), 20, "ab").stdout == b"xx\n"  # and may be done again under its name


def test_reboot_of_a_target_whose_disk_is_memory_is_a_reboot_too(lab):
    with SshChannel(lab.address()) as channel:
        running = Running(channel, python(ONCE))
        assert eventually(lambda: began(lab))
        lab.kill()
        for process in lab.lab_processes():
            process.kill()
        shutil.rmtree(lab.home / "work")
        lab.boot_id.write_text("second-boot\n")
        lab.start()
        with pytest.raises(TargetRebootedError):
            running.result()


def test_reboot_after_a_commands_end_loses_nothing(lab):
    with SshChannel(lab.address(), "run-1") as channel:
        assert channel.run(python("open('n', 'a').write('x'); print(open('n').read())"), 20, "ab").stdout == b"x\n"
    lab.reboot()
    with SshChannel(lab.address(), "run-1") as channel:
        assert channel.run(python("open('n', 'a').write('x'); print(open('n').read())"), 20, "ab").stdout == b"x\n"


def test_hung_command_is_killed_at_its_deadline(lab):
    hung = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('pid.part', 'w').write(str(os.getpid()))\n"
        "os.rename('pid.part', 'pid')\nwhile True: time.sleep(1)"
    )
    with SshChannel(lab.address()) as channel:
        for deadline_s in DEADLINES_S:
            with pytest.raises(TargetTimeoutError, match=f"within {deadline_s} s: killed"):
                channel.run(python(hung), deadline_s)
            if (lab.files / "pid").exists():
                break
    assert not psutil.pid_exists(int((lab.files / "pid").read_text()))


def test_deadline_holds_while_the_host_is_gone(lab):
    code = "import os, time\nopen('pid.part', 'w').write(str(os.getpid()))\nos.rename('pid.part', 'pid')\ntime.sleep(300)"
    for deadline_s, job in zip(DEADLINES_S, ("aa", "bb", "cc"), strict=True):
        host = start_host(lab, code, "run-1", job, deadline_s)
        started = eventually(lambda host=host: (lab.files / "pid").exists() or host.poll() is not None)
        end(host)
        if started and (lab.files / "pid").exists():
            break
    assert eventually(lambda: not psutil.pid_exists(int((lab.files / "pid").read_text())))
    with SshChannel(lab.address(), "run-1") as channel, pytest.raises(TargetTimeoutError):
        channel.run(python(code), deadline_s, job)


def test_command_killed_by_the_kernel_is_minus_nine(lab):
    with SshChannel(lab.address()) as channel:
        code = "import os; print('said', flush=True); print(open('/proc/self/oom_score_adj').read().strip(), flush=True); os.kill(os.getpid(), 9)"
        done = channel.run(python(code), 20)
    assert (done.exit_code, done.stdout) == (-9, b"said\n500\n")  # the kernel takes the command first, not its supervisor


def test_supervisor_killed_is_told_and_takes_its_command_along(lab):
    with SshChannel(lab.address()) as channel:
        running = Running(channel, python(ONCE), job="ab")
        assert eventually(lambda: began(lab))
        command = next(process for process in lab.lab_processes() if ONCE in process.cmdline())
        supervisor = command.parent()
        supervisor.kill()
        with pytest.raises(AgentError, match="its supervisor was killed; was the target out of memory"):
            running.result()
        assert eventually(lambda: not command.is_running() or command.status() == psutil.STATUS_ZOMBIE)


def mount(place: Path, options: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(lab):
    mount(lab.home / "work", "size=4m")
    yield lab
    lab.stop()
    subprocess.run(["umount", "-l", str(lab.home / "work")], check=True)


def test_disk_full_is_told_before_anything_is_sent(small_disk, tmp_path):
    (tmp_path / "large").write_bytes(b"x" * (5 << 20))
    with SshChannel(small_disk.address()) as channel, pytest.raises(DiskFullError, match=r"room for \d MiB"):
        channel.put(tmp_path / "large", "large")


def test_disk_filled_by_a_command_keeps_its_end_and_later_ones_say_so(small_disk, tmp_path):
    fill = "import sys\nwith open('fill', 'wb', buffering=0) as file:\n    while True: file.write(bytes(4096))"
    with SshChannel(small_disk.address()) as channel:
        done = channel.run(python(fill), 20, "ab")
        assert done.exit_code == 1
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(DiskFullError, match="board clean lab"):
            channel.put(tmp_path / "file", "file")
        with pytest.raises(DiskFullError, match="board clean lab"):
            channel.run(python("print(1)"), 20, "cd")
        channel.forget("ab", ["fill"])
        assert channel.run(python("print(1)"), 20, "cd").stdout == b"1\n"


def test_readonly_workspace_names_the_key_of_the_targets_file(lab):
    if os.geteuid() == 0:
        mount(lab.home / "work", "ro")
    else:
        (lab.home / "work").mkdir(mode=0o500)
    try:
        with SshChannel(lab.address()) as channel, pytest.raises(TargetError, match="the workspace must be writable: see `workspace`"):
            channel.greet()
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", str(lab.home / "work")], check=True)


def test_no_python3_is_told_with_the_shells_words(lab):
    lab.rc.write_text("PATH=/nowhere\n")
    with SshChannel(lab.address(python="python3")) as channel, pytest.raises(TargetError, match=r"there is no python3 .*not found.*`python`"):
        channel.greet()


def test_banner_shell_is_skipped(lab):
    lab.rc.write_text("echo 'Welcome to the board'; echo; printf 'no line end> '\n")
    with SshChannel(lab.address()) as channel:
        assert channel.run(["echo", "clean"], 20).stdout == b"clean\n"


def test_shell_that_prints_without_end_is_given_up(lab):
    lab.rc.write_text("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done\n")
    with SshChannel(lab.address()) as channel, pytest.raises(TargetError, match="login shell prints without end"):
        channel.greet()


def test_non_utf8_output_of_shell_and_command_is_bytes(lab):
    lab.rc.write_bytes(b"printf 'Gr\xfc\xdfe\\377\\376\\n'\n")
    with SshChannel(lab.address()) as channel:
        assert channel.run(python(r"import sys; sys.stdout.buffer.write(b'\xff\xfe')"), 20).stdout == b"\xff\xfe"


def test_100_mb_of_output_neither_block_the_command_nor_fill_the_disk(lab):
    flood = "import sys\nfor stream in (sys.stdout.buffer, sys.stderr.buffer):\n    for _ in range(1000): stream.write(b'x' * 50000)\nsys.exit(5)"
    with SshChannel(lab.address(), output_limit_bytes=100_000) as channel:
        done = channel.run(python(flood), 60, "ab")
        assert (done.exit_code, len(done.stdout), len(done.stderr)) == (5, 100_000, 100_000)
        assert channel.greet().used_bytes < 1 << 20


def test_clock_jumps_move_no_deadline(lab, tmp_path, monkeypatch):
    (tmp_path / "jump").mkdir()
    # The porter's and the supervisor's wall clock runs away, an hour per look, forwards and backwards.
    (tmp_path / "jump" / "usercustomize.py").write_text(
        "import itertools, time\nhours = itertools.count()\ntime.time = lambda: 1e9 + 3600 * next(hours) * (-1) ** next(hours)\n"
    )
    lab.rc.write_text(f"export PYTHONPATH={tmp_path}/jump PYTHONNOUSERSITE=\n")
    (tmp_path / "jump" / "sitecustomize.py").write_text("import usercustomize\n")
    looks = iter(range(10**9))
    with SshChannel(lab.address()) as channel:
        channel.greet()
        monkeypatch.setattr(time, "time", lambda: 1e9 + 7200 * next(looks))  # the host's own clock too
        assert channel.run(python("import time; print(time.time() < 1.1e9); time.sleep(0.5)"), 20).stdout == b"True\n"
        with pytest.raises(TargetTimeoutError):
            channel.run(python("import time; time.sleep(300)"), 0.5)
        assert channel.reconnects == 0


def test_second_host_is_told_who_measures_there(lab):
    with SshChannel(lab.address(), "run-1") as first, SshChannel(lab.address(), "run-2") as second:
        first.greet()
        with pytest.raises(TargetBusyError, match=rf"@.*, process {os.getpid()} measures there since \d{{4}}-"):
            second.greet()
        first.close()
        assert eventually(lambda: free(second))


def free(channel: SshChannel) -> bool:
    try:
        channel.greet()
        return True
    except TargetBusyError:
        return False


def test_host_killed_and_started_again_takes_its_command_up_and_keeps_others_out(lab):
    host = start_host(lab, ONCE, "run-1", "ab")
    assert eventually(lambda: began(lab)), host.communicate()
    end(host)
    assert eventually(lambda: not lab.sessions())
    with SshChannel(lab.address(), "run-2") as other, pytest.raises(TargetBusyError):
        other.greet()  # the command of the killed host runs on
    go(lab)
    with SshChannel(lab.address(), "run-1") as again:
        assert again.run(python(ONCE), 60, "ab").stdout == b"x\n"
    with SshChannel(lab.address(), "run-2") as other:
        assert eventually(lambda: free(other))


def test_host_killed_and_started_again_after_the_commands_end_gets_that_end(lab):
    host = start_host(lab, ONCE, "run-1", "ab")
    assert eventually(lambda: began(lab)), host.communicate()
    end(host)
    go(lab)
    assert eventually(lambda: not any(ONCE in process.cmdline() for process in lab.lab_processes()))
    with SshChannel(lab.address(), "run-1") as again:
        assert again.run(python(ONCE), 60, "ab").stdout == b"x\n"


def test_ctrl_c_gets_through_at_once(lab):
    host = start_host(lab, ONCE, "run-1", "ab")
    assert eventually(lambda: began(lab)), host.communicate()
    host.send_signal(signal.SIGINT)
    _, said = host.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said


def test_host_key_changed_in_mid_run_is_not_tried_again(lab):
    with SshChannel(lab.address()) as channel:
        running = Running(channel, python(ONCE))
        assert eventually(lambda: began(lab))
        lab.kill()
        lab.new_host_key()
        lab.start()
        with pytest.raises(TargetError, match="THE HOST KEY CHANGED"):
            running.result()


def test_wrong_key_is_no_reason_to_wait(lab, tmp_path):
    write_key(tmp_path / "wrong")
    with SshChannel(lab.address(key=tmp_path / "wrong", unreachable_s=1000)) as channel, pytest.raises(TargetError, match="no key is accepted"):
        channel.greet()


def test_agent_file_corrupted_on_the_board_is_sent_again(lab):
    with SshChannel(lab.address()) as channel:
        agent = channel._pack.name
        whole = lab.home / "work" / "files" / agent
        channel.greet()
        sound = whole.read_bytes()
        whole.write_bytes(b"damaged")
        done = channel.run([sys.executable, agent], 20)  # without a job it says how to use it
        assert b"usage: python agent.pyz job.json" in done.stderr
        assert whole.read_bytes() == sound
        whole.write_bytes(sound[:-1])
        channel.drop_link()
        channel.greet()
        assert whole.read_bytes() == sound
