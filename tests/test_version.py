from __future__ import annotations

import re
from pathlib import Path

import finecorr

ROOT = Path(__file__).parents[1]


def test_package_citation_and_changelog_agree() -> None:
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    changelog = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation is not None
    assert changelog is not None
    assert citation[1] == changelog[1] == finecorr.__version__
