"""The image's own parts that need no image: what provision.toml does, and what it is refused for."""

from __future__ import annotations

import subprocess
import sys
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
