"""Groups by contract, Holm's method, and a planted harm."""

import importlib.util
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from churn.contract import Contract, SliceBy
from churn.contracts.bank import BANK_CHURN
from churn.decision.comparison import compare
from churn.decision.inference import paired_delta, rank
from churn.decision.policy import decide
from churn.decision.slices import Slice, compare_slices, holm, slice_codes, slicings
from support.coded_contract import CODED
from support.evidence_cases import COUNTRY, POLICY, draw_scores, make_case, make_evidence


def sliced_by(*slices: SliceBy) -> Contract:
    return replace(BANK_CHURN, slices=slices)


def codes_of(column: str, values: pd.Series, *edges: float) -> list[int]:
    return slice_codes(pd.DataFrame({column: values}), sliced_by(SliceBy(column, edges)))[column].tolist()


def compare_countries(harm: float = 0.0, rows: int = 3000, each_class: int = 50, seed: int = 0) -> list[Slice]:
    """Two models of the same error; in Germany the challenger has more."""
    y, mine, theirs, codes = draw_countries(harm, rows, seed)
    return compare_slices(y, rank(mine), rank(theirs), {"Geography": codes}, (COUNTRY,), each_class)


def draw_countries(harm: float, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    y, truth = draw_scores(rows, seed=seed)
    rng = np.random.default_rng(seed + 1)
    codes = rng.integers(3, size=rows).astype(np.int8)
    logits = np.log(truth / (1 - truth))
    mine, theirs = (logits + 0.3 * rng.normal(size=rows) for _ in range(2))
    mine = mine + harm * rng.normal(size=rows) * (codes == 1)
    return y, 1 / (1 + np.exp(-mine)), 1 / (1 + np.exp(-theirs)), codes


# Holm ---------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """.01 x 4, .02 x 3, .03 x 2 raised to that, .04 x 1 raised to that, in the order given."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_is_at_most_one_and_never_falls() -> None:
    """Adjusted p-values keep the order of the raw ones and end at 1."""
    assert holm([0.9, 0.4, 0.5]) == [1.0, 1.0, 1.0]
    raw = np.random.default_rng(0).random(50) ** 3
    adjusted = np.array(holm(raw.tolist()))[np.argsort(raw)]
    assert (np.diff(adjusted) >= 0).all()
    assert (adjusted >= np.sort(raw)).all()


def test_holm_of_one_and_of_none() -> None:
    """One p-value stays as it is; without any there is nothing to adjust."""
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.skipif(importlib.util.find_spec("statsmodels") is None, reason="statsmodels is not installed")
def test_holm_is_that_of_statsmodels() -> None:
    """An independent implementation gives the same."""
    from statsmodels.stats.multitest import multipletests

    raw = np.random.default_rng(1).random(20) ** 2
    assert holm(raw.tolist()) == pytest.approx(multipletests(raw, method="holm")[1])


# Codes --------------------------------------------------------------------------------------------


def test_slices_of_texts_that_stand_for_numbers_have_the_names_of_the_texts() -> None:
    """In the order of the numbers; a missing one is in no slice."""
    names = {slicing.column: slicing.names for slicing in slicings(CODED)}
    assert names == {"Paperless": ("No", "Yes"), "Support": ("never", "once", "often"), "Sex": ("f", "m")}
    rows = pd.DataFrame({"Paperless": [0, 1, 1], "Support": [5.0, np.nan, 0.0], "Sex": ["m", "f", "x"]})
    codes = {column: values.tolist() for column, values in slice_codes(rows, CODED).items()}
    assert codes == {"Paperless": [0, 1, 1], "Support": [2, -1, 0], "Sex": [1, 0, -1]}


def test_a_band_begins_with_its_lower_edge() -> None:
    """(30, 45): 29 is under 30, 30 and 44 are in the middle, 45 is in the last."""
    assert codes_of("Age", pd.Series([18, 29, 30, 44, 45, 100]), 30, 45) == [0, 0, 1, 1, 2, 2]


def test_absent_and_unknown_values_are_in_no_group() -> None:
    """-1: nothing is guessed, in bands, whole numbers and categories."""
    assert codes_of("Age", pd.Series([31, None], dtype="Int64"), 30) == [1, -1]
    assert codes_of("IsActiveMember", pd.Series([0.0, np.nan, 1.0])) == [0, -1, 1]
    assert codes_of("Geography", pd.Series(["Spain", None, "Atlantis", "France"])) == [2, -1, -1, 0]


def test_whole_numbers_count_from_their_minimum() -> None:
    """Products go from 1 to 4: the first group is 1."""
    assert codes_of("NumOfProducts", pd.Series([1, 4, 2])) == [0, 3, 1]


@pytest.mark.parametrize("dtype", ["Int64", "int64[pyarrow]", "int8", "float64"])
def test_codes_do_not_depend_on_how_numbers_are_stored(dtype: str) -> None:
    """The same values give the same groups."""
    assert codes_of("Age", pd.Series([29, 30, 60], dtype=dtype), 30, 60) == [0, 1, 2]


def test_every_code_has_a_name() -> None:
    """Names stand in the order of the codes, in every slicing of the bank contract."""
    frame = pd.DataFrame(
        {
            "Geography": ["France", "Germany", "Spain", "Spain"],
            "Gender": ["Female", "Male", "Male", "Male"],
            "Age": [29, 30, 45, 60],
            "NumOfProducts": [1, 2, 3, 4],
            "IsActiveMember": [0, 1, 1, 1],
        }
    )
    codes = slice_codes(frame, BANK_CHURN)
    named = {
        measured.column: [measured.names[code] for code in codes[measured.column]] for measured in slicings(BANK_CHURN)
    }
    assert named == {
        "Geography": ["France", "Germany", "Spain", "Spain"],
        "Gender": ["Female", "Male", "Male", "Male"],
        "Age": ["under 30", "30 to under 45", "45 to under 60", "60 and over"],
        "NumOfProducts": ["1", "2", "3", "4"],
        "IsActiveMember": ["0", "1", "1", "1"],
    }


# Comparison ---------------------------------------------------------------------------------------


def test_a_slice_is_measured_as_if_it_were_alone() -> None:
    """Size, events and difference are those of the group's rows."""
    y, mine, theirs, codes = draw_countries(0.5, 3000, 0)
    for code, slices in enumerate(compare_countries(0.5)):
        there = codes == code
        assert (slices.name, slices.rows, slices.events) == (COUNTRY.names[code], there.sum(), y[there].sum())
        assert slices.delta is not None
        expected = paired_delta(y[there], mine[there], theirs[there], "roc_auc")
        assert (slices.delta.value, slices.delta.standard_error) == pytest.approx(expected)


def test_a_slice_that_is_too_small_is_listed_and_not_tested() -> None:
    """One customer short in the rarer class: there is a difference and no p; with exactly enough there is one."""
    fewest = min(measured.events for measured in compare_countries())
    for each_class, untested in ((fewest, 0), (fewest + 1, 1)):
        slices = compare_countries(each_class=each_class)
        assert sum(measured.p is None for measured in slices) == untested
        assert all(measured.delta is not None for measured in slices)


def test_a_slice_of_one_class_has_no_difference() -> None:
    """Where nobody left there is nothing to rank: neither difference nor p, and no error."""
    y, mine, theirs, codes = draw_countries(0.0, 3000, 0)
    y[codes == 2] = 0
    spain = compare_slices(y, rank(mine), rank(theirs), {"Geography": codes}, (COUNTRY,), 1)[2]
    assert (spain.events, spain.delta, spain.p) == (0, None, None)


def test_only_tested_slices_share_the_level() -> None:
    """Holm's factor is the number of tested slices, not of all."""
    of_all = compare_countries(1.0)
    adjusted = [measured.p for measured in of_all if measured.p is not None]
    raw = [_normal_p(measured) for measured in of_all]
    assert adjusted == pytest.approx(holm(raw))
    few = compare_countries(1.0, each_class=sorted(measured.events for measured in of_all)[1])
    assert sum(measured.p is not None for measured in few) == 2
    assert [measured.p for measured in few if measured.p is not None] == pytest.approx(
        holm([p for p, measured in zip(raw, few, strict=True) if measured.p is not None])
    )


def _normal_p(measured: Slice) -> float:
    from scipy.stats import norm

    assert measured.delta is not None
    return float(norm.cdf(measured.delta.value / measured.delta.standard_error))


def test_a_planted_harm_in_one_country_is_found() -> None:
    """In each of eight draws Germany, and only Germany, is worse; without harm nothing is."""
    for seed in range(8):
        p = [measured.p or 0.0 for measured in compare_countries(2.0, seed=seed)]
        assert p[1] < 0.01 < min(p[0], p[2])
        assert all((measured.p or 0) > 0.01 for measured in compare_countries(0.0, seed=seed))


@pytest.mark.parametrize(("harm", "code"), [(2.0, "SLICE_HARM"), (0.0, "TOO_FRESH")])
def test_the_rule_holds_a_harmed_country(harm: float, code: str) -> None:
    """The decision names the harm, and an equal model is not held for it."""
    y, mine, theirs, codes = draw_countries(harm, 3000, 0)
    evidence = make_evidence(y, mine, theirs, codes={"Geography": codes})
    decision = decide(compare(make_case(), evidence, (COUNTRY,), POLICY.slices.min_each_class), POLICY)
    assert decision.code == code
    assert ("Germany" in decision.sentence) == (code == "SLICE_HARM")


def test_equal_scores_in_a_slice_are_no_harm() -> None:
    """Without any difference p is 1, and nothing is divided by zero."""
    y, mine, theirs, codes = draw_countries(0.0, 3000, 0)
    theirs = np.where(codes == 1, mine, theirs)
    slices = compare_slices(y, rank(mine), rank(theirs), {"Geography": codes}, (COUNTRY,), 50)
    assert slices[1].p == 1.0


def test_a_contract_without_slices_works() -> None:
    """No groups, no codes, and a comparison that says that none could be tested."""
    contract = sliced_by()
    assert slicings(contract) == ()
    assert slice_codes(pd.DataFrame({"Age": [3]}), contract) == {}
    y, mine, theirs, _ = draw_countries(0.0, 3000, 0)
    comparison = compare(make_case(), make_evidence(y, mine, theirs), (), 50)
    assert comparison.slices == []
    (rule,) = (rule for rule in decide(comparison, POLICY).rules if rule.name == "no_slice_harmed")
    assert (rule.passed, rule.value) == (True, None)
