"""Commit subjects are short enough to be listed: one change each, at most 72 characters."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAST_WITHOUT_RULE = "139a15e7"
"""Commits up to this one were made before the rule."""

MAX_SUBJECT = 72


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def faults(subject: str) -> list[str]:
    """Return what is wrong with the subject of a commit."""
    found: list[str] = []
    if len(subject) > MAX_SUBJECT:
        found.append(f"has {len(subject)} characters, at most {MAX_SUBJECT} are allowed")
    if subject.endswith("."):
        found.append("ends with a full stop")
    if subject[:1] != subject[:1].upper():
        found.append("does not start with a capital letter")
    return found


@pytest.fixture(scope="module")
def subjects() -> list[tuple[str, str]]:
    """The abbreviated hash and the subject of each commit that the rule covers."""
    if shutil.which("git") is None or git("rev-parse", "--git-dir").returncode != 0:
        pytest.skip("this is not a git checkout")
    if git("merge-base", "--is-ancestor", LAST_WITHOUT_RULE, "HEAD").returncode != 0:
        pytest.skip(f"the history does not reach back to {LAST_WITHOUT_RULE}; a shallow clone has no older commits")
    listed = git("log", "--no-merges", "--format=%h %s", f"{LAST_WITHOUT_RULE}..HEAD")
    assert listed.returncode == 0, listed.stderr
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in listed.stdout.splitlines()]


def test_commit_subjects_since_the_rule_are_short(subjects: list[tuple[str, str]]) -> None:
    wrong = [f"{commit} {fault}: {subject}" for commit, subject in subjects for fault in faults(subject)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("subject", "count"),
    [("Add a test", 0), ("A" * 72, 0), ("A" * 73, 1), ("add a test.", 2)],
)
def test_subject_of_a_commit_has_the_faults_of_its_form(subject: str, count: int) -> None:
    assert len(faults(subject)) == count
