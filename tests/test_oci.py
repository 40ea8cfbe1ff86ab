"""The container image: what can be seen without building it. deploy/oci/README.md tells how it was tried."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent
OCI = PROJECT / "deploy" / "oci"
BUILD = (OCI / "build").read_text()
JETSON = (OCI / "Containerfile.jetson").read_text()


def test_the_build_is_python_of_the_oldest_release_and_tells_what_it_takes() -> None:
    ast.parse(BUILD, feature_version=(3, 11))
    told = subprocess.run([sys.executable, OCI / "build", "--help"], capture_output=True, text=True, check=True).stdout
    assert "--arch {amd64,arm64}" in told and "-o FILE" in told


def test_nothing_is_fetched_from_a_registry_of_images() -> None:
    for text in (BUILD, JETSON):
        assert not re.search(r"\b[\w-]+(\.[\w-]+)*\.(io|com|org)/", text), "no registry is named"
    assert re.findall(r"^FROM .*", JETSON, re.MULTILINE) == ["FROM ${BASE} AS made", "FROM ${BASE}"]
    assert "ARG BASE\n" in JETSON, "the base has no default"


def test_both_images_run_as_the_same_ordinary_user_with_the_same_command() -> None:
    user = re.search(r"UID, AUDIO = \"edge-detect\", (\d+),", BUILD)
    assert user is not None and f"USER {user[1]}\n" in JETSON and int(user[1]) > 1000
    assert 'CMD ["--config", "/etc/edge-detect/edge-detect.toml"]' in JETSON
    assert 'CONFIGURATION = "/etc/edge-detect/edge-detect.toml"' in BUILD


def test_the_jetson_image_gets_every_library_of_the_program_but_the_cpus_runtime() -> None:
    needs = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=!~ ]", need)[0].lower() for need in needs}
    (installs,) = re.findall(r"^RUN /opt/edge-detect/bin/pip .*?(?=^\S)", JETSON, re.MULTILINE | re.DOTALL)
    missing = {name for name in names if not re.search(rf"[ ']{re.escape(name)}[ '<>=]", installs.lower())}
    assert missing == {"onnxruntime"} and "onnxruntime_gpu-*.whl" in installs
    for line in installs.splitlines():
        assert ("onnxruntime" not in line and "pysilero" not in line) or "--no-deps" in line


def test_the_unit_confines_the_container_and_feeds_the_watchdog_in_time() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read(OCI / "edge-detect.container")
    container, service = unit["Container"], unit["Service"]
    for key, value in {
        "ReadOnly": "true",
        "NoNewPrivileges": "true",
        "DropCapability": "all",
        "Network": "none",
    }.items():
        assert container[key] == value
    assert container["Image"].startswith("localhost/") and 'localhost/{USER}:latest"' in BUILD
    assert container["Notify"] == "true" and container["LogDriver"] == "passthrough"
    assert container["Environment"] == f"WATCHDOG_USEC={int(service['WatchdogSec']) * 1_000_000}"
    assert service["RestartPreventExitStatus"] == "2" and service["Restart"] == "always"
