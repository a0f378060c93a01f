"""Every kind of fault, planted by the generator, is set aside with its own reason, alone and among all others."""

from __future__ import annotations

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.sample.fault_injection import Fault, cell_faults, plant_faults, record_faults
from churn.sample.generator import Night, make_night
from support.basics import small_file
from support.coded_contract import CODED
from support.judged_files import judge_whole

FAULTS = [*cell_faults(BANK_CHURN), *record_faults(BANK_CHURN)]


def test_the_catalogue_is_large() -> None:
    """At least forty kinds, and every rule of the contract has one."""
    assert len({fault.name for fault in FAULTS}) >= 100
    planted = {rule for fault in FAULTS for rule in fault.rules if rule}
    assert set(BANK_CHURN.rules) - planted <= {"Age.range", "Tenure.range"}  # they would break Tenure.above_Age too


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_alone_is_found(fault: Fault) -> None:
    """Exactly the planted lines are set aside, each for its reason; every other row is untouched."""
    clean = small_file(30)
    data, expected = plant_faults(clean, BANK_CHURN, [fault], [11])
    judged = judge_whole(data)
    assert {row["_line"]: row["_failed"] for row in judged.quarantined} == {
        line: [rule] for line, rule in expected.items()
    }
    untouched = judge_whole(clean).good.drop_columns(["_line"]).to_pylist()
    first = [untouched[11]] if fault.rules[0] is None else []
    assert judged.good.drop_columns(["_line"]).to_pylist() == untouched[:11] + first + untouched[12:]


def test_all_faults_together_are_found() -> None:
    """As many as were planted, each for its reason, and the counts add up."""
    clean = small_file(len(FAULTS) * 3)
    data, expected = plant_faults(clean, BANK_CHURN, FAULTS, range(1, len(FAULTS) * 3, 3))
    judged = judge_whole(data)
    assert {row["_line"]: row["_failed"] for row in judged.quarantined} == {
        line: [rule] for line, rule in expected.items()
    }
    lines = data.split(b"\n")
    assert all(row["_raw"] == lines[row["_line"] - 1].decode(errors="backslashreplace") for row in judged.quarantined)
    assert judged.counts.arrived == len(lines) - 2 == judged.good.num_rows + len(expected)
    assert judged.counts.unlabelled == 1


def test_faults_follow_texts_that_stand_for_numbers() -> None:
    """A sample of such a contract has its texts, and every planted fault breaks exactly its rule."""
    faults = cell_faults(CODED)
    clean = make_night(CODED, Night(rows=len(faults) * 2, first_customer=1, seed=4))
    assert {line.split(",")[CODED.names.index("Churn")] for line in clean.splitlines()[1:]} == {"No", "Yes"}
    data, expected = plant_faults(clean, CODED, faults, range(0, len(faults) * 2, 2))
    judged = judge_whole(data, CODED)
    assert {row["_line"]: row["_failed"] for row in judged.quarantined} == {
        line: [rule] for line, rule in expected.items()
    }
    assert {"Paperless.category", "Support.category", "Churn.category", "City.missing"} <= set(expected.values())
