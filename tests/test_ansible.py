"""The Ansible role: what its templates write. deploy/ansible/README.md tells how it was run."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jinja2
import pytest

from edge_runtime.settings.config import problems

DEPLOY = Path(__file__).parent.parent / "deploy"
ROLE = DEPLOY / "ansible/roles/edge_detect"
NOTHING: dict[str, Any] = {
    "ansible_managed": "Ansible managed",
    "ansible_facts": {"hostname": "hall"},
    "edge_detect_device": "default",
    "edge_detect_settings": {},
    "edge_detect_light": "",
    "edge_detect_network": False,
    "edge_detect_mqtt": {},
}


def written(template: str, **variables: Any) -> str:
    """As Ansible renders it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"combine": lambda one, other: one | other, "to_json": json.dumps}
    return environment.get_template(template).render({**NOTHING, **variables})


def test_without_a_wish_the_configuration_is_the_packages() -> None:
    shipped = tomllib.loads((DEPLOY / "systemd/edge-detect.toml").read_text())
    assert tomllib.loads(written("edge-detect.toml.j2")) == shipped


def test_any_value_comes_out_as_it_went_in_and_is_accepted(tmp_path: Path) -> None:
    wanted = {"hop": 0.25, "clip_budget": 500, "json": True, "exec": "sh -c 'echo \"ü\\n\"'", "ledger": "a #b/c"}
    text = written("edge-detect.toml.j2", edge_detect_device='hw:"1"', edge_detect_settings=wanted)
    stored = tomllib.loads(text)
    assert stored["device"] == 'hw:"1"' and {name: stored[name] for name in wanted} == wanted
    (tmp_path / "edge-detect.toml").write_text(text)
    assert problems(str(tmp_path / "edge-detect.toml"), lambda _: []) == []


@pytest.mark.parametrize("wish", [{"edge_detect_network": True}, {"edge_detect_mqtt": {"host": "broker"}}])
def test_the_network_is_opened_only_on_demand_and_as_the_unit_says(wish: dict[str, Any]) -> None:
    assert "[Service]" not in written("service.conf.j2").partition("[Service]\n")[2]
    assert written("service.conf.j2").endswith("[Service]\n")
    unit = (DEPLOY / "systemd/edge-detect.service").read_text()
    told = re.findall(r"^#   (\w+=.*)$", unit, re.MULTILINE)
    assert len(told) == 3
    opened = written("service.conf.j2", **wish).splitlines()
    assert [line for line in opened if line in told] == told


def test_what_the_client_is_told_is_one_option_a_line() -> None:
    broker = {"host": "broker", "port": 8883, "username": "box", "password": "a \" b$#'", "cafile": "/ca.pem"}
    assert written("mosquitto_pub.j2", edge_detect_mqtt=broker).splitlines() == [
        "-h broker",
        "-p 8883",
        "-t edge-detect/hall",
        "-q 1",
        "-u box",
        "-P a \" b$#'",
        "--cafile /ca.pem",
    ]
