"""The SSH channel against a real sshd: the three verbs, logging in, names and arguments that would hurt a shell."""

import ast
import getpass
import hashlib
import logging
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sshlab import DEADLINES_S, Proxy, Sshd, eventually, free_port, isolated, write_key

from fercompress.errors import AgentError, DiskFullError, InputError, TargetError, TargetTimeoutError
from fercompress.measure import link, ssh
from fercompress.measure.channel import Channel
from fercompress.measure.endpoint import Address
from fercompress.measure.hostkeys import Pinned
from fercompress.measure.ssh import UnreachableError, host_key
from fercompress.measure.sshchannel import SshChannel

ROOT = Path(__file__).resolve().parents[1]
OLD_PYTHONS = sorted((Path.home() / ".pyenv" / "versions").glob("3.[67].*/bin/python"))
PYTHON_2 = sorted((Path.home() / ".pyenv" / "versions").glob("2.7.*/bin/python"))


@pytest.fixture
def channel(lab):
    with SshChannel(lab.address()) as channel:
        yield channel


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_file_goes_there_and_comes_back_unchanged(channel, lab, tmp_path):
    content = bytes(range(256)) * 5000 + b"odd"  # some pieces and a rest
    (tmp_path / "sent").write_bytes(content)
    channel.put(tmp_path / "sent", "bundles/x/model.bin")
    assert (lab.files / "bundles/x/model.bin").read_bytes() == content
    channel.get("bundles/x/model.bin", tmp_path / "new folder" / "back")
    assert (tmp_path / "new folder" / "back").read_bytes() == content
    assert not list(tmp_path.rglob("*.part"))
    assert not list(lab.files.rglob("*.part"))


def test_an_empty_file_goes_there_too(channel, lab, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    channel.put(tmp_path / "empty", "empty")
    assert (lab.files / "empty").read_bytes() == b""
    channel.get("empty", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_content_that_is_there_is_not_sent_again_and_changed_content_is(lab, tmp_path):
    with Proxy(lab.port) as proxy:
        lab.trust(proxy.port)
        (tmp_path / "file").write_bytes(b"a" * 500_000)
        with SshChannel(lab.address(proxy.port)) as channel:
            channel.put(tmp_path / "file", "file")
            before = proxy.bytes
            channel.put(tmp_path / "file", "file")
            assert proxy.bytes - before < 20_000
            (lab.files / "file").write_bytes(b"damaged")
            channel.put(tmp_path / "file", "file")
    assert (lab.files / "file").read_bytes() == b"a" * 500_000


def test_a_command_gives_its_exit_code_and_both_streams_as_bytes(channel):
    done = channel.run(python(r"import sys; sys.stdout.buffer.write(b'\xff\x00out'); sys.stderr.write('err'); sys.exit(7)"), 30)
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"\xff\x00out", b"err")


def test_a_command_runs_where_the_files_are_without_input_and_without_the_hosts_death_signal(channel, lab):
    lab.rc.write_text("export FERCOMPRESS_HOST_PID=1\n")
    done = channel.run(python("import os, sys; print(os.getcwd()); print(sys.stdin.read()); print(os.environ.get('FERCOMPRESS_HOST_PID'))"), 30)
    assert done.stdout.decode().splitlines() == [str(lab.files), "", "None"]


def test_the_targets_own_python_is_named_by_its_absolute_path(lab):
    (lab.home / "env").symlink_to(Path(sys.executable).parent)
    with SshChannel(lab.address(python="~/env/python")) as channel:
        done = channel.run(["~/env/python", "-c", "print('ran')"], 30)
    assert done.stdout == b"ran\n"


def test_a_signal_that_ended_a_command_is_a_negative_exit_code(channel):
    assert channel.run(python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)"), 30).exit_code == -15


def test_commands_of_several_threads_run_side_by_side(channel):
    # Each waits for the other's file: one after the other, neither would end.
    code = "import os, sys, time\nopen(sys.argv[1], 'w').close()\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.01)"
    done = []
    threads = [threading.Thread(target=lambda a=a, b=b: done.append(channel.run([*python(code), a, b], 20))) for a, b in ("xy", "yx")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [end.exit_code for end in done] == [0, 0]


def test_past_its_deadline_a_command_is_killed_with_all_its_children(channel, lab):
    code = "import os, subprocess, sys, time\nsleep = [sys.executable, '-c', 'import time; time.sleep(300)']\n"
    code += "pids = [subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]\n"
    code += "open('pids.part', 'w').write(repr(pids))\nimport os; os.rename('pids.part', 'pids')\ntime.sleep(300)"
    for deadline_s in DEADLINES_S:
        with pytest.raises(TargetTimeoutError, match=rf"within {deadline_s} s: killed; raise deadline_s"):
            channel.run(python(code), deadline_s)
        if (lab.files / "pids").exists():
            break
    pids = ast.literal_eval((lab.files / "pids").read_text())
    assert eventually(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids))


def test_what_a_command_leaves_behind_ends_with_it(channel):
    code = "import subprocess, sys\nsleep = [sys.executable, '-c', 'import time; time.sleep(300)']\n"
    code += "print(subprocess.Popen(sleep, start_new_session=True).pid)"
    pid = int(channel.run(python(code), 30).stdout)
    assert eventually(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())


def test_a_program_that_is_not_there_is_told_as_such(channel):
    with pytest.raises(AgentError, match=r"cannot start no-such-program: No such file"):
        channel.run(["no-such-program"], 10)


def test_a_named_command_that_ended_is_not_run_again_until_it_is_forgotten(channel, lab):
    count = python("open('count', 'a').write('x'); print(open('count').read())")
    assert [channel.run(count, 20, "ab-12").stdout for _ in range(2)] == [b"x\n", b"x\n"]
    channel.forget("ab-12", ["count"])
    assert not (lab.files / "count").exists()
    assert channel.run(count, 20, "ab-12").stdout == b"x\n"


def test_a_name_that_another_command_had_starts_the_new_one(channel):
    assert channel.run(python("print(1)"), 20, "aa").stdout == b"1\n"
    assert channel.run(python("print(2)"), 20, "aa").stdout == b"2\n"


def test_an_unnamed_command_leaves_nothing(channel, lab):
    channel.run(python("print(1)"), 20)
    assert list((lab.home / "work" / "jobs").iterdir()) == []


def test_closing_ends_what_runs(lab):
    channel = SshChannel(lab.address())
    errors = []

    def wait() -> None:
        try:
            channel.run(python("import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(300)"), 300)
        except TargetError as error:
            errors.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    assert eventually(lambda: (lab.files / "pid").exists() and (lab.files / "pid").read_text())
    channel.close()
    thread.join(60)
    assert "closed" in errors[0]
    pid = (lab.files / "pid").read_text()
    assert eventually(lambda: not Path(f"/proc/{pid}/cmdline").exists())
    with pytest.raises(TargetError, match="closed"):
        channel.run(["true"], 5)


def test_a_file_that_is_not_there_or_too_large_does_not_come_back(lab, tmp_path):
    with SshChannel(lab.address(), file_limit_bytes=1000) as channel:
        with pytest.raises(AgentError, match="no file missing"):
            channel.get("missing", tmp_path / "x")
        channel.run(python("open('large', 'wb').write(b'x' * 1001)"), 20)
        with pytest.raises(AgentError, match="1001 bytes, more than the limit of 1000"):
            channel.get("large", tmp_path / "x")
    assert list(tmp_path.glob("x*")) == []


def test_what_earlier_runs_left_makes_room_and_what_this_one_needs_stays(lab, tmp_path):
    for name in ("old", "needed", "sent", "new"):
        (tmp_path / name).write_bytes(name.encode() * (1_200_000 // len(name)))
    with SshChannel(lab.address(disk_mb=5)) as earlier:
        earlier.put(tmp_path / "old", "bundles/old/model")
        earlier.put(tmp_path / "needed", "bundles/needed/model")
    with SshChannel(lab.address(disk_mb=5)) as channel:
        channel.reserve(["bundles/needed", "bundles/sent", "bundles/new"])
        channel.put(tmp_path / "sent", "bundles/sent/model")
        channel.put(tmp_path / "new", "bundles/new/model")
        assert sorted(path.name for path in (lab.files / "bundles").iterdir()) == ["needed", "new", "sent"]
        with pytest.raises(DiskFullError, match="disk_mb = 5"):
            channel.put(tmp_path / "old", "bundles/more/model")
    assert sorted(path.name for path in (lab.files / "bundles").iterdir()) == ["needed", "new", "sent"]


def test_the_disk_budget_is_kept(lab, tmp_path):
    (tmp_path / "large").write_bytes(b"x" * (3 << 20))
    with SshChannel(lab.address(disk_mb=3)) as channel:
        with pytest.raises(DiskFullError, match=r"large needs 3 MiB .*disk_mb = 3.*board clean lab"):
            channel.put(tmp_path / "large", "large")
        (tmp_path / "large").write_bytes(b"x" * (1 << 20))
        channel.put(tmp_path / "large", "large")
        assert channel.clean().freed_bytes >= 1 << 20
        assert [entry.name for entry in lab.files.iterdir()] == [channel._pack.name]


def test_a_greeting_tells_the_clock_and_the_room(channel, lab):
    greeting = channel.greet()
    assert greeting.boot_id == "first-boot"
    assert greeting.folder == str(lab.files)
    assert abs(greeting.clock_offset_s) <= greeting.round_trip_s + 0.01  # it is this machine's own clock
    assert greeting.free_bytes > 0


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "", "a/./b", "x\0y"])
def test_a_name_outside_the_workspace_is_refused_here_and_there(channel, tmp_path, name):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ValueError, match="stay below the root"):
        channel.put(tmp_path / "file", name)
    with pytest.raises(ValueError, match="stay below the root"):
        channel.get(name, tmp_path / "back")
    with pytest.raises(AgentError, match=r"refused.*must stay below the workspace"):
        channel._ask("stat", {"name": name, "limit_bytes": 1})


def test_a_link_that_leads_out_of_the_workspace_is_not_followed(channel, lab, tmp_path):
    channel.greet()
    (lab.files / "out").symlink_to(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(AgentError, match="must stay below the workspace"):
        channel.put(tmp_path / "file", "out/planted")
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("name", ["../../x", "a b", "a;b", "A", "x" * 65])
def test_a_jobs_name_is_checked(channel, name):
    with pytest.raises(ValueError, match="a job's name is made of"):
        channel.run(["true"], 5, name)


def test_names_and_arguments_never_meet_a_shell(channel, lab, tmp_path):
    evil = "a; touch pwned; $(touch pwned) `touch pwned` '\"\n&& touch pwned"
    (tmp_path / "file").write_bytes(b"x")
    channel.put(tmp_path / "file", evil)
    channel.get(evil, tmp_path / "back")
    done = channel.run([*python("import sys; print(sys.argv[1:])"), evil], 20)
    assert ast.literal_eval(done.stdout.decode()) == [evil]
    with pytest.raises(AgentError, match="cannot start"):
        channel.run([evil], 20)
    with pytest.raises(TargetError), SshChannel(lab.address(python="python3; touch pwned")) as other:
        other.greet()
    with SshChannel(lab.address(workspace="my; touch pwned")) as other:
        assert other.greet().folder == str(lab.home / "my; touch pwned" / "files")
    assert not list(lab.home.rglob("pwned"))


def test_no_source_makes_a_shell_string():
    sources = [*(ROOT / "fercompress" / "measure").glob("*.py"), *(ROOT / "remote" / "fercompress_agent").glob("*.py")]
    assert len(sources) > 15
    commands = []
    for source in sources:
        tree = ast.parse(source.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                raise AssertionError(f"{source}:{node.value.lineno}: shell=")
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            assert name not in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), f"{source}:{node.lineno}: {name}"
            assert not name.endswith((".invoke_shell", ".get_pty")), f"{source}:{node.lineno}: {name}"
            if isinstance(node, ast.Constant) and node.value in ("sh", "bash", "/bin/sh", "/bin/bash"):
                raise AssertionError(f"{source}:{node.lineno}: a shell by name")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "exec_command":
                commands.append(ast.unparse(node.args[0]))
    assert commands == ["command(self.address.python)"]  # the one that quotes; see link.command
    assert link.command("a b; touch x").startswith("'a b; touch x' -c 'import sys")


def test_nothing_secret_is_logged_or_said(lab, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    write_key(tmp_path / "wrong")
    secret = (tmp_path / "wrong").read_text().splitlines()[2]
    with pytest.raises(TargetError) as caught, SshChannel(lab.address(key=tmp_path / "wrong")) as channel:
        channel.greet()
    said = caplog.text + str(caught.value) + "".join(capfd.readouterr())
    assert secret not in said
    assert "paramiko" not in caplog.text


def sentence(address: Address) -> str:
    with pytest.raises(TargetError) as caught, SshChannel(address) as channel:
        channel.greet()
    return str(caught.value)


def test_an_unknown_host_key_is_refused_with_the_command_that_pins_it(lab):
    lab.known_hosts.write_text("")
    text = sentence(lab.address())
    assert lab.fingerprint() in text
    assert text.endswith("fercompress board trust lab")


def test_a_changed_host_key_is_refused_loudly_and_names_both(lab):
    before = lab.fingerprint()
    lab.kill()
    lab.new_host_key()
    lab.start()
    text = sentence(lab.address())
    assert "THE HOST KEY CHANGED" in text
    assert before in text
    assert lab.fingerprint() in text
    assert host_key(lab.address()).get_base64() == lab.host_key.split()[1]


def test_a_wrong_key_says_where_to_put_the_right_one(lab, tmp_path):
    write_key(tmp_path / "wrong")
    text = sentence(lab.address(key=tmp_path / "wrong"))
    assert "no key is accepted for user" in text
    assert "ssh-copy-id -p" in text


def test_a_key_that_is_not_there_or_is_no_key_is_named(lab, tmp_path):
    assert "there is no private key" in sentence(lab.address(key=tmp_path / "nowhere"))
    (tmp_path / "text").write_text("no key")
    assert f"{tmp_path / 'text'} cannot be read as a private key" in sentence(lab.address(key=tmp_path / "text"))


def test_a_locked_key_names_ssh_add(lab, tmp_path):
    key = rsa.generate_private_key(65537, 2048)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked").write_bytes(locked)
    assert f"ssh-add {tmp_path / 'locked'}" in sentence(lab.address(key=tmp_path / "locked"))


def restart_with(lab: Sshd, old: str, new: str) -> None:
    lab.kill()
    config = lab.folder / "config"
    config.write_text(config.read_text().replace(old, new))
    lab.start()


def test_a_host_that_takes_only_passwords_is_told_so(lab):
    restart_with(lab, "PasswordAuthentication no", "PasswordAuthentication yes\nPubkeyAuthentication no")
    assert "takes only password, and fercompress sends no passwords" in sentence(lab.address())


def test_a_host_with_only_a_sha1_key_is_told_how_to_get_another(lab):
    key = rsa.generate_private_key(65537, 2048)
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    (lab.folder / "host_key").write_bytes(text)
    restart_with(lab, "MaxStartups", "HostKeyAlgorithms ssh-rsa\nMaxStartups")
    text = sentence(lab.address())
    assert "ssh-rsa (SHA-1)" in text
    assert "ssh-keygen -A" in text


def test_a_closed_port_and_an_unknown_name_are_told_apart(lab):
    assert "nothing listens on that port" in sentence(lab.address(free_port()))
    assert "cannot be resolved" in sentence(lab.address(host="no-such-host.invalid"))


def test_a_host_that_never_answers_is_told_so(lab, monkeypatch):
    monkeypatch.setattr(ssh, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnreachableError, match="does not speak SSH in time"):
        ssh.Login(lab.address(silent.getsockname()[1]))


def test_no_python_names_the_key_of_the_targets_file(lab):
    text = sentence(lab.address(python="no-such-python3"))
    assert "there is no no-such-python3" in text
    assert "`python`" in text


def test_no_python_is_told_also_where_its_end_is_seen_before_anything_was_sent(lab, monkeypatch):
    send = link.Link._send

    def late(self, data, allowed_s):
        time.sleep(0.5)
        send(self, data, allowed_s)

    monkeypatch.setattr(link.Link, "_send", late)
    assert "there is no no-such-python3" in sentence(lab.address(python="no-such-python3"))


def test_an_exit_status_that_comes_long_after_the_end_of_output_is_waited_for(lab, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho gone >&2\nexec >&-\nsleep 1.5\nexit 127\n")
    python.chmod(0o755)
    assert f"there is no {python} (gone)" in sentence(lab.address(python=str(python)))


@pytest.mark.skipif(not PYTHON_2, reason="no CPython 2.7 under pyenv")
def test_a_python_that_is_too_old_is_named(lab):
    assert "is Python 2.7, the agent needs 3.6 or newer" in sentence(lab.address(python=str(PYTHON_2[-1])))


@pytest.mark.skipif(not OLD_PYTHONS, reason="no CPython 3.6 or 3.7 under pyenv")
@pytest.mark.parametrize("interpreter", OLD_PYTHONS, ids=lambda path: path.parts[-3])
def test_an_old_python_serves_all_three_verbs(lab, tmp_path, interpreter):
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    with SshChannel(lab.address(python=str(interpreter))) as channel:
        channel.put(tmp_path / "file", "a/file")
        done = channel.run([str(interpreter), "-c", "import hashlib, sys; print(hashlib.sha256(open('a/file', 'rb').read()).hexdigest())"], 30)
        assert done.stdout.decode().strip() == hashlib.sha256(b"x" * 300_000).hexdigest()
        with pytest.raises(TargetTimeoutError):
            channel.run([str(interpreter), "-c", "import time; time.sleep(300)"], 0.5)
        channel.get("a/file", tmp_path / "back")
        assert channel.greet().python.startswith("3.")
    assert (tmp_path / "back").read_bytes() == b"x" * 300_000


def relay(folder: Path) -> Path:
    script = folder / "relay.py"
    script.write_text(
        "import os, select, socket, sys\nfar = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "while True:\n"
        "    for ready in select.select([0, far], [], [])[0]:\n"
        "        data = os.read(0, 65536) if ready == 0 else far.recv(65536)\n"
        "        if not data: sys.exit()\n"
        "        far.sendall(data) if ready == 0 else os.write(1, data)\n"
    )
    return script


@pytest.mark.parametrize("hop", ["{user}@127.0.0.1:{port}", "[127.0.0.1]:{port}", "ssh://{user}@127.0.0.1:{port}"])
def test_a_jump_host_is_read_in_every_form_that_ssh_knows(lab, tmp_path, monkeypatch, hop):
    with isolated(monkeypatch, tmp_path) as home:
        lab.known_hosts.rename(home / "known")
        (home / ".ssh" / "config").write_text(
            f"Host *\n  IdentityFile {lab.folder}/user_key\n  UserKnownHostsFile {home}/known\n"
            f"Host board\n  HostName 127.0.0.1\n  Port {lab.port}\n  ProxyJump {hop.format(user=getpass.getuser(), port=lab.port)}\n"
        )
        with SshChannel(Address("board", python=sys.executable, workspace="work")) as channel:
            assert channel.run(["echo", "there"], 20).stdout == b"there\n"


def test_a_config_that_includes_others_is_read_whole(lab, tmp_path, monkeypatch):
    with isolated(monkeypatch, tmp_path) as home:
        lab.known_hosts.rename(home / "known")
        (home / ".ssh" / "conf.d").mkdir()
        (home / ".ssh" / "conf.d" / "boards").write_text(f"Host board\n  HostName 127.0.0.1\n  Port {lab.port}\nHost other\n  Port 1\n")
        # What follows the include belongs to the block around it, not to the included file's last one.
        (home / ".ssh" / "config").write_text(
            f"Host b*\n  Include conf.d/*\n  IdentityFile {lab.folder}/user_key\nHost *\n  UserKnownHostsFile={home}/known\n"
        )
        with SshChannel(Address("board", python=sys.executable, workspace="work")) as channel:
            assert channel.run(["echo", "there"], 20).stdout == b"there\n"


@pytest.mark.parametrize("line", [b"other ssh-ed25519 AAAAnot*base64\n", b"\xff\xfe host\n"])
def test_a_damaged_line_of_known_hosts_hides_no_other(lab, line):
    lab.known_hosts.write_bytes(line + lab.known_hosts.read_bytes())
    with SshChannel(lab.address()) as channel:
        channel.greet()


def test_of_two_keys_the_one_that_was_pinned_first_counts(lab, tmp_path):
    """The pinned file is read before the user's own, which may be older."""
    (tmp_path / "later").write_text(f"[127.0.0.1]:{lab.port} {write_key(tmp_path / 'old')}\n")
    known = ssh.known_keys([lab.known_hosts, tmp_path / "later"])
    (key,) = known[f"[127.0.0.1]:{lab.port}"].values()
    assert ssh.fingerprint(key) == lab.fingerprint()


def test_a_damaged_pinned_file_is_named_when_it_is_written(lab):
    lab.known_hosts.write_text("other ssh-ed25519 AAAAnot*base64\n")
    with pytest.raises(InputError, match="known_hosts: cannot be read"):
        Pinned(lab.address())


def test_an_ssh_agent_that_never_answers_holds_nobody_up(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "AGENT_S", 0.2)
    write_key(tmp_path / "wrong")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        with SshChannel(lab.address(key=tmp_path / "wrong")) as channel, pytest.raises(TargetError, match="no key is accepted"):
            channel.greet()


@pytest.mark.parametrize("way", ["alone", "ProxyCommand", "ProxyJump"])
def test_the_users_ssh_config_is_honoured(lab, tmp_path, monkeypatch, way):
    with isolated(monkeypatch, tmp_path) as home:
        lab.known_hosts.rename(home / "known")
        extra = {
            "alone": "",
            "ProxyCommand": f"  ProxyCommand {sys.executable} {relay(tmp_path)} %h %p\n",
            "ProxyJump": f"  ProxyJump hop\nHost hop\n  HostName 127.0.0.1\n  Port {lab.port}\n  IdentityFile {lab.folder}/user_key\n"
            f"  UserKnownHostsFile {home}/known\n",
        }[way]
        (home / ".ssh" / "config").write_text(
            f"Host board\n  HostName 127.0.0.1\n  Port {lab.port}\n  IdentityFile {lab.folder}/user_key\n  UserKnownHostsFile {home}/known\n{extra}"
        )
        with SshChannel(Address("board", python=sys.executable, workspace="work")) as channel:
            assert channel.run(["echo", "there"], 20).stdout == b"there\n"


def test_the_protocol_is_kept(channel):
    assert_channel: Channel = channel  # mypy does not read tests; the call below is what is checked
    for verb in ("put", "run", "get", "close"):
        assert callable(getattr(assert_channel, verb))
