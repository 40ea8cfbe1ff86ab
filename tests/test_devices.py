"""Names of microphones: what a person or a configuration writes finds the device that is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.capture.devices import Device, cards, resolve
from edge_runtime.errors import InputError

DEVICES = [
    Device(0, "bcm2835 Headphones: - (hw:0,0)", 2, 44100),
    Device(3, "USB PnP Sound Device: Audio (hw:1,0)", 1, 44100),
    Device(4, "USB PnP Sound Device: Audio #1 (hw:1,1)", 2, 48000),
    Device(5, "sysdefault", 32, 48000),
    Device(9, "default", 32, 48000, default=True),
    Device(10, "Wave (hw:11,0)", 1, 48000),
]
CARDS = """\
 0 [Headphones     ]: bcm2835_headpho - bcm2835 Headphones
                      bcm2835 Headphones
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.2, full speed
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/asound").mkdir(parents=True)
    (tmp_path / "proc/asound/cards").write_text(CARDS)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("3", 3),
        ("USB PnP Sound Device: Audio (hw:1,0)", 3),
        ("hw:1", 3),
        ("hw:1,0", 3),
        ("plughw:1", 3),
        ("plughw:1,1", 4),
        ("hw:CARD=Device", 3),
        ("hw:CARD=Device,DEV=1", 4),
        ("plughw:CARD=Device,DEV=0", 3),
        ("hw:Device,1", 4),
        ("hw:11", 10),
        ("headphones", 0),
        ("WAVE", 10),
        ("default", 9),
        ("sysdefault", 5),
        (" hw:1 ", 3),
    ],
)
def test_a_name_finds_its_device(name: str, index: int, root: Path) -> None:
    assert resolve(name, DEVICES, root).index == index


@pytest.mark.parametrize("name", ["7", "hw:5", "hw:1,7", "hw:CARD=Nobody", "hw:", "gramophone", "", "99999999999999"])
def test_an_unknown_name_lists_what_there_is(name: str, root: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolve(name, DEVICES, root)
    assert "USB PnP Sound Device: Audio (hw:1,0)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_that_fits_two_names_lists_only_those(root: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolve("usb", DEVICES, root)
    assert "hw:1,0" in str(caught.value) and "hw:1,1" in str(caught.value)
    assert "bcm2835" not in str(caught.value)


def test_a_node_of_the_configuration_named_like_hardware_is_found_exactly(root: Path) -> None:
    assert resolve("hw:1", [*DEVICES, Device(20, "hw:1", 32, 44100)], root).index == 20
    assert resolve("plughw:1", [Device(20, "hw:1", 32, 44100)], root).index == 20


def test_no_microphone_at_all_is_said(root: Path) -> None:
    with pytest.raises(InputError, match="finds none"):
        resolve("hw:1", [], root)


def test_cards_are_read_from_the_kernel_or_are_none(root: Path, tmp_path: Path) -> None:
    assert cards(root) == {"Headphones": 0, "Device": 1}
    assert cards(tmp_path / "elsewhere") == {}
