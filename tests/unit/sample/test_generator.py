"""What the shipped policy makes of the sample's nights, with the models alone: no server, one seed; more by `make bench WHAT=error-rates`."""

from support.sampled_runs import decide_nights


def test_the_nights_of_the_sample_are_decided_as_they_should_be() -> None:
    """The first promotes, a new kind of customer promotes, more of the same holds, a night turned round is disputed."""
    first, second, third, turned = decide_nights(seed=1)
    assert (first.verdict, first.code) == ("promote", "NO_CHAMPION")
    assert (second.verdict, second.code) == ("promote", "SUPERIOR")
    assert third.verdict == "hold"
    assert (turned.verdict, turned.code) == ("hold", "BATCH_DISPUTED")
