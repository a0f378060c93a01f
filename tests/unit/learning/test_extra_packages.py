"""A version keeps the part of the extra lock that its model needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from churn.learning.candidate_checks import CandidateUnusable
from churn.learning.extra_packages import extra_lock, pinned_packages
from support.basics import ROOT

SERVING = (ROOT / "requirements-serving.lock").read_text()
DEV = ROOT / "requirements-dev.lock"


def test_a_model_gets_its_packages_and_what_they_need() -> None:
    """With hashes, without what the service has anyway, and without what others need."""
    lightgbm = extra_lock("mine", ["LightGBM>=4"], SERVING, DEV)
    assert set(pinned_packages(lightgbm)) == {"lightgbm"}
    assert lightgbm.count("--hash=sha256:") >= 1
    catboost = set(pinned_packages(extra_lock("mine", ["catboost"], SERVING, DEV)))
    assert {"catboost", "plotly", "matplotlib"} <= catboost
    assert not catboost & (pinned_packages(SERVING).keys() | {"lightgbm"})
    assert extra_lock("mine", ["numpy"], SERVING, DEV) == ""


def test_a_package_that_is_not_locked_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        CandidateUnusable, match=r'lightgbm, which requirements-extra.lock does not .* make lock EXTRA="lightgbm>=4"'
    ):
        extra_lock("mine", ["lightgbm>=4"], SERVING, tmp_path / "requirements-extra.lock")


def test_a_lock_that_was_made_for_other_pins_is_refused(tmp_path: Path) -> None:
    """The two locks are installed together: a pin that moved would replace a library of the product."""
    file = tmp_path / "requirements-extra.lock"
    file.write_text("lightgbm==4.7.0 \\\n    --hash=sha256:00\nnumpy==1.0.0 \\\n    --hash=sha256:00\n")
    with pytest.raises(CandidateUnusable, match="made for other versions of numpy"):
        extra_lock("mine", ["lightgbm"], SERVING, file)
