"""docs/complaints.md names, for each complaint, tests that there are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPLAINTS = re.split(r"^\d+\. ", (ROOT / "docs" / "complaints.md").read_text(), flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("complaint", COMPLAINTS, ids=lambda complaint: complaint.split("**")[1])
def test_complaint_is_answered_by_a_test(complaint):
    named = re.findall(r"^ +- (\S+)::(\S+)$", complaint, flags=re.MULTILINE)
    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}, f"{path}::{name}"


def test_all_complaints_are_there():
    assert len(COMPLAINTS) == 18
