"""~/.ssh/config as a person may have left it: what is wrong is named in one line and ends with exit code 2, and nothing in it breaks the program."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sshlab import isolated

from fercompress.cli import main
from fercompress.errors import InputError
from fercompress.measure import ssh
from fercompress.measure.endpoint import Address, endpoint

WORDS = (
    "Host", "Match", "board", "*", "!board", "all", "final", "canonical", "host", "HostName", "Port", "User", "IdentityFile", "Include", "ProxyJump",
    "ProxyCommand", "UserKnownHostsFile", "HostKeyAlias", "CanonicalizeHostname", "CanonicalDomains", "CanonicalizeMaxDots", "IdentitiesOnly", "yes",
    "always", "none", "22", "99999", "-1", "ssh", "~nobody-here/x", "%h", "%z", "%%", "..", '"', "=", "a b", "\0", "Ü", "config",
)  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    with isolated(monkeypatch, tmp_path) as home:
        yield home


def write(home, *lines: str) -> None:
    (home / ".ssh" / "config").write_text("\n".join(["Host board", *lines, ""]))


@pytest.mark.parametrize("port", ["ssh", "2222x", "0", "65536", "-1", "²", "22.0"])
def test_a_port_that_is_no_number_is_named_and_one_of_the_targets_file_makes_it_useless(home, port):
    write(home, "  HostName 127.0.0.1", f"  Port {port}")
    with pytest.raises(InputError, match=rf"Port '{port}' of board is not a number from 1 to 65535.*`port` in the target's file"):
        endpoint(Address("board"))
    assert endpoint(Address("board", port=2200)).port == 2200


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["  Include ~nobody-here/*", '  Include "open'], "No closing quotation"),
        (["  CanonicalizeHostname yes"], "'canonicaldomains' is missing"),
        (["  CanonicalizeHostname yes", "  CanonicalDomains x", "  CanonicalizeMaxDots many"], "many"),
        (["Match canonical host"], "config"),
        (["  Port"], "Port"),
        (["  Include config"], "included by itself"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(home, lines, said):
    write(home, *lines)
    with pytest.raises(InputError, match="cannot be used") as caught:
        endpoint(Address("board"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_a_home_that_nobody_has_are_passed_over(home):
    write(home, "  IdentityFile ~nobody-here/key", "  UserKnownHostsFile ~nobody-here/known")
    found = endpoint(Address("board"))
    assert found.keys == ()
    assert [str(path) for path in found.known_hosts] == ["~nobody-here/known"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ProxyCommand no-such-program %h", "ProxyCommand of ~/.ssh/config cannot be started"),
        ('ProxyCommand sh "-c', "ProxyCommand of ~/.ssh/config cannot be started"),
        ("ProxyCommand ''", "ProxyCommand of ~/.ssh/config cannot be started"),
        ("ProxyJump hop:99999", "ProxyJump 'hop:99999' .* cannot be read"),
        ("ProxyJump hop:ssh", "ProxyJump 'hop:ssh' .* cannot be read"),
        ("ProxyJump -oProxyCommand=x", "ProxyJump '-oProxyCommand=x' .* names no host"),
        ("ProxyJump board", "go in a circle"),
        (f"HostName {'a' * 64}.invalid", "is no host's name"),
        ("HostName a..b", "is no host's name"),
    ],
)
def test_a_way_that_cannot_be_gone_is_named(home, line, said):
    write(home, f"  {line}")
    with pytest.raises(InputError, match=said):
        ssh.Login(Address("board"))


def test_the_command_line_says_it_in_one_line_and_exits_with_2(home, tmp_path, monkeypatch, capsys):
    write(home, "  Port ssh")
    (tmp_path / "mine.toml").write_text('kind = "ssh"\nhost = "board"\n')
    monkeypatch.setattr(sys, "argv", ["fercompress", "board", "check", str(tmp_path / "mine.toml")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Port 'ssh' of board is not a number" in line


def test_whatever_the_config_says_there_is_an_endpoint_or_one_line(home):
    lines = st.lists(st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join), max_size=8).map("\n".join)

    @settings(max_examples=300, deadline=None)
    @given(lines | st.text(max_size=200))
    def check(text):
        (home / ".ssh" / "config").write_text(text, encoding="utf-8", errors="replace")
        try:
            found = endpoint(Address("board"))
        except InputError as error:
            said = str(error)
        else:
            said = found.hostname
            assert 1 <= found.port <= 65535
        assert said
        assert "\n" not in said

    check()
