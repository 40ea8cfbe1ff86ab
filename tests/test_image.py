"""The image's own parts that need no image: what provision.toml does, and what it is refused for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROVISION = Path(__file__).parent.parent / "deploy/image/files/usr/lib/edge-detect-image/provision"
TEMPLATE = Path(__file__).parent.parent / "deploy/image/provision.toml"
GOOD = """hostname = "hall"
timezone = "UTC"
ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ you@there"]
[wifi]
country = "DE"
ssid = "ThisIsASSID"
passphrase = "ThisIsAPassword"
[settings]
device = "hw:1"
hop = 1
clip_before = 2.5
gate = true
"""


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """The part of a box's file system that provisioning needs, with a host key that is there already."""
    for folder in ("boot/firmware", "data/ssh", "data/config", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/ssh/ssh_host_ed25519_key").write_text("the box's own")
    (tmp_path / "etc/edge-detect-image.json").write_text('{"version": "1", "light": "ACT"}')
    (tmp_path / "data/config/edge-detect.toml").write_text('device = "default"\n')
    return tmp_path


def provision(box: Path, text: str | bytes) -> str:
    """Puts the file on the first partition, starts the box, and gives back what the log has."""
    content = text if isinstance(text, bytes) else text.encode()
    (box / "boot/firmware/provision.toml").write_bytes(content)
    done = subprocess.run([sys.executable, PROVISION, "--root", box], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_all_of_the_file_is_put_in_force(box: Path) -> None:
    assert "taken over" in provision(box, GOOD)
    assert (box / "etc/hostname").read_text() == "hall\n"
    assert (box / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/UTC")
    assert (box / "data/ssh/authorized_keys").read_text().startswith("ssh-ed25519 AAAA")
    assert (box / "data/ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    wireless = box / "etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
    # The example of IEEE 802.11i, H.4.2.
    assert "psk=0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af" in wireless.read_text()
    assert wireless.stat().st_mode & 0o777 == 0o600
    settings = (box / "data/config/edge-detect.toml").read_text()
    assert 'device = "hw:1"\n' in settings and "\nhop = 1\nclip_before = 2.5\ngate = true\n" in settings
    # And what a box needs to listen for years.
    assert 'connect_timeout = "forever"\nrecover_timeout = "forever"\nledger = "/var/lib' in settings
    assert 'light = "ACT"\n' in settings  # and the board's light
    assert (box / "data/ssh/ssh_host_ed25519_key").read_text() == "the box's own"


def test_a_file_counts_once_and_again_when_it_changes(box: Path) -> None:
    provision(box, GOOD)
    (box / "data/config/edge-detect.toml").write_text("changed on the box")
    (box / "etc/hostname").unlink()  # the root is new at every start
    assert "taken over" not in provision(box, GOOD)
    assert (box / "data/config/edge-detect.toml").read_text() == "changed on the box"
    assert (box / "etc/hostname").read_text() == "hall\n"
    assert "taken over" in provision(box, 'hostname = "cellar"\n')
    assert (box / "etc/hostname").read_text() == "cellar\n"
    assert not (box / "data/network/wpa_supplicant.conf").read_text()


def test_the_template_is_in_order_and_also_with_its_lines_taken_in(box: Path) -> None:
    template = TEMPLATE.read_text()
    assert "taken over" in provision(box, template)
    active = "\n".join(line.removeprefix("#") for line in template.splitlines() if not line.startswith("# "))
    assert "taken over" in provision(box, b"\xef\xbb\xbf" + active.replace("\n", "\r\n").encode())  # as from Windows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('hostname = "Hall 1"', "hostname has other characters"),
        ('timezone = "../../../etc/passwd"', "there is no timezone"),
        ('ssh_keys = ["hello"]', "something else than public keys"),
        ('ssh_keys = "ssh-ed25519 AAAA"', "has to be a list"),
        ("hostnam = 1", "hostnam is not known"),
        ("hostname =", "it is no TOML"),
        ("\x00\x01", "it is no TOML"),
        ('[wifi]\nssid = "a"', "wifi.country"),
        ("[wifi]\n", "wifi.ssid"),
        ('[wifi]\nssid = "a"\ncountry = "DE"\npassphrase = "short"', "8 to 63 characters"),
        ("[settings]\nhopp = 3", "hopp"),
        ("[settings]\nhop = 2024-01-01", "a value that no option has"),
        ('[settings]\ndevice = "hw:1"\nhop = 1000000', "hop"),
    ],
)
def test_what_is_wrong_is_named_and_the_box_goes_on_as_it_was(box: Path, text: str, said: str) -> None:
    provision(box, GOOD)
    before = {path: path.read_bytes() for path in (box / "data").rglob("*") if path.is_file()}
    log = provision(box, 'timezone = "UTC"\n' + text if not text.startswith(("time", "\x00")) else text)
    assert said in log
    assert "nothing of it was taken over" in log
    assert "Traceback" not in log
    assert said in (box / "boot/firmware/provision-error.txt").read_text()
    after = {path: path.read_bytes() for path in (box / "data").rglob("*") if path.is_file()}
    assert after == before


HOSTILE = {
    "a hexadecimal number of 5,000 digits": "hop = 0x" + "f" * 5000,
    "100,000 brackets": "hop = " + "[" * 100_000,
    "40,000 brackets": "hop = " + "[" * 40_000,
    "a key of 32,000 parts": "a" + ".a" * 32_000 + " = 1",
    "80,000 keys": "".join(f"k{number} = 1\n" for number in range(80_000)),
    "a table where a value is wanted": "hop = {a = 1}",
    "a name that would be two lines": '"hop = 1\\nexec" = "rm"',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_no_file_keeps_host_key_name_and_network_from_being_set(box: Path, what: str) -> None:
    provision(box, GOOD.partition("[settings]")[0])
    (box / "etc/hostname").unlink()  # the system is new at the next start
    (box / "etc/wpa_supplicant/wpa_supplicant-wlan0.conf").unlink()
    (box / "data/ssh/ssh_host_ed25519_key").unlink()
    log = provision(box, f"[settings]\n{HOSTILE[what]}\n")
    assert "nothing of it was taken over" in log and "Traceback" not in log
    assert len(log.splitlines()) == 1 and len(log) < 700
    assert "PRIVATE KEY" in (box / "data/ssh/ssh_host_ed25519_key").read_text()
    assert (box / "etc/hostname").read_text() == "hall\n"
    assert "psk=" in (box / "etc/wpa_supplicant/wpa_supplicant-wlan0.conf").read_text()


def test_a_pipe_or_a_folder_in_the_place_of_the_file_is_told(box: Path) -> None:
    file = box / "boot/firmware/provision.toml"
    for make in (os.mkfifo, os.mkdir):
        make(file)
        code, log = started(box)
        assert code == 5 and "provision.toml" in log and len(log.splitlines()) == 1
        assert (box / "etc/hostname").exists() is False
        file.unlink() if file.is_fifo() else file.rmdir()


def started(box: Path, **environment: str) -> tuple[int, str]:
    """Exit code and log of a start without a new file."""
    command = [sys.executable, str(PROVISION), "--root", str(box)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_step_that_fails_keeps_no_other_from_being_done_and_is_told(box: Path, tmp_path: Path) -> None:
    provision(box, GOOD.partition("[settings]")[0])
    for name in ("etc/hostname", "etc/localtime", "etc/wpa_supplicant/wpa_supplicant-wlan0.conf"):
        (box / name).unlink()
    (box / "etc/hostname").mkdir()
    (box / "data/timezone").write_bytes(b"\xff\nx")
    (box / "data/ssh/ssh_host_ed25519_key").unlink()
    (box / "data/provisioned.sha256").unlink()
    (box / "data/provisioned.sha256").mkdir()
    code, log = started(box, PATH=str(tmp_path))  # without ssh-keygen
    assert code == 5
    told = log.splitlines()
    for step in ("the host key", "provision.toml", "the host's name", "the time zone"):
        assert sum(line.startswith(f"<3>{step}: ") for line in told) == 1, log
    assert len(told) == 4
    assert "psk=" in (box / "etc/wpa_supplicant/wpa_supplicant-wlan0.conf").read_text()


def test_no_value_becomes_a_line_of_its_own_in_what_is_written(box: Path) -> None:
    evil = 'x\\" \\\\ \\n}\\nnetwork={\\u007f\\u0085\\u2028\\texec = \\"rm\\"'
    provision(
        box,
        f'ssh_keys = ["ssh-ed25519 AAAA you"]\n[wifi]\ncountry = "DE"\nssid = "a\\n}}\\nnetwork={{"\n'
        f'passphrase = "12345678\\n}}"\n[settings]\ndevice = "{evil}"\nledger = "/x\\nexec = 1"\n',
    )
    wireless = (box / "etc/wpa_supplicant/wpa_supplicant-wlan0.conf").read_text()
    assert wireless.count("network=") == 1 and len(wireless.splitlines()) == 7
    written = tomllib.loads((box / "data/config/edge-detect.toml").read_text())
    assert written["device"] == tomllib.loads(f'x = "{evil}"')["x"] and "exec" not in written
    for text, said in (
        ('hostname = "hall\\n127.0.0.1 other"', "hostname"),
        ('timezone = "/etc/passwd"', "no timezone"),
        ('timezone = "tzdata.zi"', "no timezone"),
        ('timezone = "UTC\\n"', "no timezone"),
        ('ssh_keys = ["ssh-ed25519 AAAA you\\rssh-ed25519 BBBB"]', "public keys"),
        ('ssh_keys = ["ssh-ed25519 AAAA you\\nssh-ed25519 BBBB"]', "public keys"),
        ('ssh_keys = ["command=\\"x\\" ssh-ed25519 AAAA"]', "public keys"),
        ('"a\\nb\\u001b[31m" = 1', "is not known"),
    ):
        log = provision(box, text)
        assert said in log and "nothing of it was taken over" in log and len(log.splitlines()) == 1, log
        assert log.strip().isprintable()


def test_a_file_is_checked_before_it_is_put_on_a_card(tmp_path: Path) -> None:
    file = tmp_path / "provision.toml"
    for text, code, said in ((GOOD, 0, "in order"), ("hop = 0x" + "f" * 5000, 2, "hop"), ("\0", 2, "no TOML")):
        file.write_text(text)
        done = subprocess.run([sys.executable, PROVISION, "--check", file], capture_output=True, text=True, timeout=120)
        assert done.returncode == code and said in done.stdout + done.stderr
        assert len((done.stdout + done.stderr).splitlines()) == 1


UNITS = sorted((PROVISION.parents[1] / "systemd/system").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_helper_units_expose_little_and_are_whole(unit: Path, tmp_path: Path) -> None:
    """As systemd rates them by their text; that their programs can work so was tried under their system calls only."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    written = tmp_path / unit.name
    written.write_text(re.sub(r"^ExecStart=.*", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", written], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_provisioning_and_model_updates_work_under_the_system_calls_of_their_units(box: Path) -> None:
    (box / "boot/firmware/provision.toml").write_text(GOOD)
    (box / "data/ssh/ssh_host_ed25519_key").unlink()
    updates = PROVISION.parents[2] / "sbin/edge-detect-model"
    for name, program, *words in (
        ("provision", PROVISION, "--root", box),
        ("model", updates, "--root", box, "--control", "echo", "tick"),
    ):
        unit = PROVISION.parents[1] / f"systemd/system/edge-detect-{name}.service"
        confined = [sys.executable, Path(__file__).parent / "confined.py", unit, sys.executable, program, *words]
        done = subprocess.run(list(map(str, confined)), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert (box / "etc/hostname").read_text() == "hall\n"
    assert "PRIVATE KEY" in (box / "data/ssh/ssh_host_ed25519_key").read_text()
