"""Names of microphones: what a person or a configuration writes finds the device that is meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.capture.device.devices import Device, in_order, resolve, resolve_again
from edge_runtime.capture.device.identity import Facts, Known, SoundCard, Watch, card_of, find, read_cards
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
        ("HW:1", 3),
        ("hw:1, 0", 3),
        ("hw: 1,0", 3),
        ("hw:1,1,0", 4),
        ("hw:CARD=device", 3),
        ("hw:DEV=1,CARD=Device", 4),
        ("hw:card=Device, dev=1, subdev=0", 4),
        ("sysdefault:CARD=Device", 3),
        ("default:CARD=Device", 3),
        ("front:CARD=Device,DEV=0", 3),
        ("dsnoop:CARD=Device,DEV=1", 4),
        ("usbstream:CARD=Device", 3),
        ("sysdefault:Headphones", 0),
        ("plug:hw:1", 3),
        ("plug:'hw:1,1'", 4),
        ('plug:SLAVE="plughw:CARD=Device,DEV=1"', 4),
        ("'hw:1'", 3),
        ('"hw:CARD=Device"', 3),
        ("USB  PnP Sound  Device: Audio (hw:1,0)", 3),
        ("usb pnp sound device: audio (hw:1,0)", 3),
        ("/dev/snd/pcmC1D1c", 4),
        ("card 1: Device [USB PnP Sound Device], device 1: Audio #1 [Audio #1]", 4),
    ],
)
def test_a_name_finds_its_device(name: str, index: int, root: Path) -> None:
    assert resolve(name, DEVICES, root).index == index


def test_several_blanks_in_a_name_of_portaudio_count_as_one(root: Path) -> None:
    spaced = Device(7, "UAC  Demo   V1.0: USB Audio (hw:12,0)", 1, 48000)
    for name in (spaced.name, "UAC Demo V1.0: USB Audio (hw:12,0)", "demo v1.0"):
        assert resolve(name, [*DEVICES, spaced], root) == spaced


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("hw:1,0,3", "give hw:1,0"),
        ("plughw:CARD=Device,DEV=1,SUBDEV=2", "give hw:Device,1"),
        ("surround51:CARD=Device,DEV=0", "playing"),
        ("dmix:CARD=Device", "playing"),
        ("hdmi:CARD=HDMI,DEV=0", "playing"),
        ("bluealsa:DEV=00:11:22:33:44:55,PROFILE=sco", ".asoundrc"),
        ("alsa_input.usb-C-Media.analog-stereo", "pactl"),
        ("hw:1,x", "hw:CARD=NAME"),
        ("hw:CARD=", "hw:CARD=NAME"),
        ("sysdefault:CARD=Device,CARD=Device", "hw:CARD=NAME"),
        ("hw:1,0,0,0", "hw:CARD=NAME"),
    ],
)
def test_a_name_that_portaudio_cannot_open_says_what_to_give_instead(name: str, word: str, root: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolve(name, DEVICES, root)
    assert word in str(caught.value) and "\n" not in str(caught.value)
    assert "USB PnP Sound Device: Audio (hw:1,0)" in str(caught.value)


def test_cards_are_listed_before_the_names_of_plugins_each_with_its_own_index() -> None:
    assert [device.index for device in in_order(DEVICES[::-1])] == [0, 3, 4, 10, 9, 5]
    marked = replace(DEVICES[1], default=True)
    assert [device.index for device in in_order([DEVICES[0], marked, DEVICES[3]])] == [3, 0, 5]


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


USB = SoundCard(
    1, "Device", "0d8c:0014", "C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.2, full speed"
)
OTHER = SoundCard(1, "Webcam", "046d:0825", "Logitech Webcam at usb-0000:01:00.0-1.3, high speed")
NAME = "USB PnP Sound Device: Audio (hw:1,0)"


def test_cards_are_read_from_the_kernel_or_are_none(root: Path, tmp_path: Path) -> None:
    (root / "proc/asound/card1").mkdir()
    (root / "proc/asound/card1/usbid").write_text("0d8c:0014\n")
    assert read_cards(root) == (SoundCard(0, "Headphones", "", "bcm2835 Headphones"), USB)
    assert read_cards(tmp_path / "elsewhere") == ()
    assert card_of(NAME, read_cards(root)) == USB
    assert card_of("hw:1", read_cards(root)) is None


@pytest.mark.parametrize("name", ["hw:1", "plughw:1,0", NAME, "3", "usb pnp"])
def test_a_microphone_is_found_again_when_its_card_has_another_number(name: str, root: Path) -> None:
    """As after a boot in which a webcam was quicker."""
    cards = (OTHER, replace(USB, number=2))
    devices = [
        Device(3, "Webcam: Audio (hw:1,0)", 1, 16000),
        Device(4, "USB PnP Sound Device: Audio (hw:2,0)", 1, 44100),
    ]
    assert resolve_again(name, Known(NAME, USB), devices, cards, root).index == 4
    with pytest.raises(InputError, match="not ready"):  # the card is there, and is never taken for the webcam
        resolve_again(name, Known(NAME, USB), devices[:1], cards, root)


def test_another_microphone_in_its_place_is_heard_when_it_is_away(root: Path) -> None:
    devices = [Device(3, "Webcam: Audio (hw:1,0)", 1, 16000)]
    assert resolve_again("hw:1", Known(NAME, USB), devices, (OTHER,), root).index == 3


def test_an_index_is_remembered_by_the_name_behind_it(root: Path) -> None:
    devices = [Device(0, "other", 1, 16000), Device(1, "meant", 1, 16000)]
    assert resolve_again("0", Known("meant"), devices, (), root).index == 1
    assert resolve_again("0", None, devices, (), root).index == 0


def test_of_two_cards_alike_the_one_at_the_same_port_is_meant() -> None:
    here, there = replace(USB, number=3, id="Device_1"), replace(USB, number=1, title="the same at another port")
    assert find(USB, (there, here)) == here
    assert find(USB, (there,)) == there
    assert find(USB, (OTHER,)) is None


def test_a_card_that_moved_and_another_card_are_told() -> None:
    watch = Watch()
    assert watch.opened(NAME, USB) == []
    assert watch.opened(NAME, USB) == []
    assert watch.opened("USB PnP Sound Device: Audio (hw:2,0)", replace(USB, number=2)) == [
        "the microphone's card has the number 2 now, it had 1"
    ]
    (told,) = watch.opened("Webcam: Audio (hw:1,0)", OTHER)
    assert "Webcam" in told and "another microphone" in told
    assert watch.seen(Facts(cards=(OTHER,))) == ([], False)
    assert watch.seen(Facts(cards=(OTHER, replace(USB, number=4)))) == ([], True), "the one that is meant is back"


def test_a_source_that_came_back_is_gone_back_to_once() -> None:
    watch = Watch()
    watch.opened("default", None)
    assert watch.seen(Facts("desk", ("desk", "webcam"))) == ([], False)
    told, back = watch.seen(Facts("webcam", ("webcam",)))
    assert told and not back
    assert watch.seen(Facts("webcam", ("webcam", "desk"))) == ([], True)
    watch.opened("default", None)
    assert watch.seen(Facts("webcam", ("webcam", "desk"))) == ([], False), "the server gives this one: not for ever"
    assert watch.seen(Facts("webcam", ("webcam", "desk"))) == ([], False)


def test_a_source_that_somebody_chose_is_kept() -> None:
    watch = Watch()
    watch.opened("default", None)
    watch.seen(Facts("desk", ("desk", "webcam")))
    told, back = watch.seen(Facts("webcam", ("desk", "webcam")))
    assert told and not back
    assert watch.seen(Facts("webcam", ("desk", "webcam"))) == ([], False)
