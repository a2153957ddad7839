"""The files around the code keep their word: dependencies, lock, changelog, decisions, links."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mbi.localnet.topology import CONTAINERS_MAX

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [
    Requirement(line)
    for line in (
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    )
]
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", LOCK, re.MULTILINE))

KNOWN_HOLES = {"aiohttp": "3.14.3", "msgpack": "1.2.2", "PyNaCl": "1.6.1"}
"""Last versions with a published hole that a node would expose."""

ADR_FOLDER = ROOT / "docs" / "adr"
ADRS = sorted(file for file in ADR_FOLDER.glob("*.md") if file.name[0].isdigit())
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RELATIVE_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def test_every_dependency_is_explained_and_nothing_else() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    explained = re.findall(r"^\| `([^`]+)` \| \S", page, re.MULTILINE)
    assert sorted(explained) == sorted(requirement.name for requirement in DECLARED)


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_lock_pins_a_version_that_the_project_allows(requirement: Requirement) -> None:
    assert PINNED[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("name", KNOWN_HOLES)
def test_versions_with_known_holes_are_excluded(name: str) -> None:
    """O4: a version that was fixed for a reason cannot come back through another resolution."""
    (requirement,) = (one for one in DECLARED if one.name == name)
    assert KNOWN_HOLES[name] not in requirement.specifier


def test_every_locked_package_has_hashes() -> None:
    blocks = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PINNED)
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


def test_lock_names_no_place_to_download_from() -> None:
    """The lock holds on every network: where packages come from is the installer's business."""
    assert re.findall(r"https?:|index-url|find-links|trusted-host", LOCK) == []


def test_changelog_has_a_place_for_the_next_release() -> None:
    headings = re.findall(r"^##+ (.*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert {"Protocol-breaking", "Storage-breaking", "API-breaking"} <= set(headings)


def test_each_decision_has_its_own_number() -> None:
    numbers = [int(file.name[:4]) for file in ADRS]
    assert numbers
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("file", ADRS, ids=lambda file: file.stem)
def test_decision_is_complete_and_listed(file: Path) -> None:
    text = file.read_text()
    assert text.startswith(f"# {int(file.name[:4])}. ")
    assert re.search(r"^Status: (accepted|proposed|superseded by \[\d{4}\])", text, re.MULTILINE)
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences"]
    assert f"]({file.name})" in (ADR_FOLDER / "README.md").read_text()


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(file: Path) -> None:
    broken = [
        link
        for link in RELATIVE_LINK.findall(file.read_text())
        if not (file.parent / link).exists()
    ]
    assert broken == []


def test_files_beside_the_code_are_installed_with_it() -> None:
    """An editable installation hides what is missing from the package: styles and scripts."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    data = dict(setuptools["package-data"])
    everywhere = data.pop("*")
    packages = {
        file.parent
        for pattern in setuptools["packages"]["find"]["include"]
        for top in ROOT.glob(pattern.rstrip("*"))
        for file in top.rglob("__init__.py")
    }
    installed = {file for folder in packages for one in everywhere for file in folder.glob(one)}
    for package, patterns in data.items():
        folder = ROOT / package.replace(".", "/")
        installed |= {file for one in patterns for file in folder.glob(one)}
    tops = [folder for folder in packages if folder.parent == ROOT]
    beside = {
        file
        for top in tops
        for file in top.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    assert beside - installed == set()
    assert len(tops) == 6


def test_image_and_compose_file_carry_the_version_of_the_package() -> None:
    version = PROJECT["version"]
    compose = (ROOT / "docker-compose.yml").read_text()
    assert f'image.version="{version}"' in (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^  image: (.*)$", compose, re.MULTILINE) == [
        f"${{MBI_IMAGE:-mbi-node:{version}}}"
    ]


def test_image_has_a_place_for_the_home_of_every_node() -> None:
    assert f"$(seq 1 {CONTAINERS_MAX})" in (ROOT / "Dockerfile").read_text()


def test_every_task_of_the_makefile_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    tasks = re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE)
    assert tasks
    assert tasks == re.findall(r"^([a-z-]+):[^\n]*## \S", makefile, re.MULTILINE)


def test_ci_script_runs_the_tasks_and_containers_last() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    tasks = re.findall(r"make ([\w-]+)$", script.read_text(), re.MULTILINE)
    assert tasks == ["check", "test", "compose-test", "drills-short"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("interpreter", ["/bin/false", "no-such-python"])
def test_setup_refuses_an_interpreter_that_does_not_work(interpreter: str, tmp_path: Path) -> None:
    """A name on PATH proves nothing: version managers leave names that fail when called."""
    command = ["make", "setup", f"PYTHON={interpreter}", f"VENV={tmp_path / 'venv'}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert f"none of [{interpreter}] is a working Python 3.11 or 3.12" in run.stderr
    assert not (tmp_path / "venv").exists()
