"""Which offsets are committed: properties over any order of events, and a case for each rule."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed_consumer.faust_driver.commits import Commits, PartitionKey

ONE, TWO, OTHER = ("t", 0), ("t", 1), ("other", 0)
PARTITIONS = (ONE, TWO, OTHER)

partitions = st.sampled_from(PARTITIONS)
steps = st.one_of(
    st.tuples(st.just("store"), partitions, st.integers(0, 50)),
    st.tuples(st.just("revoke"), st.sets(partitions)),
    st.tuples(st.just("assign"), st.sets(partitions)),
    st.tuples(st.just("resume"), partitions, st.none() | st.integers(0, 50)),
    st.just(("commit",)),
    st.just(("fail",)),
    st.just(("begin",)),
    st.just(("finish",)),
)


class Model:
    """A worker, and the broker's state after the commits that were due."""

    def __init__(self) -> None:
        self.commits = Commits()
        self.assigned: set[PartitionKey] = set(PARTITIONS)
        self.stored: dict[PartitionKey, int] = {}
        self.at_broker: dict[PartitionKey, int] = {}
        # A commit in progress while something else happens.
        self.in_progress: dict[PartitionKey, int] | None = None

    def due(self) -> dict[PartitionKey, int]:
        due = self.commits.due(self.assigned)
        assert due.keys() <= self.assigned, "nothing of other members' partitions"
        assert all(self.stored[each] == offset for each, offset in due.items()), "what is stored, exactly"
        return due

    def step(self, name: str, *rest: object) -> None:
        getattr(self, f"_{name}")(*rest)

    def _store(self, partition: PartitionKey, offset: int) -> None:
        if partition in self.assigned:
            self.commits.store(partition, offset)
            self.stored[partition] = offset + 1

    def _revoke(self, gone: set[PartitionKey]) -> None:
        self.commits.forget(gone)
        self.assigned -= gone
        for each in gone:
            self.stored.pop(each, None)

    def _assign(self, new: set[PartitionKey]) -> None:
        self.assigned |= new

    def _resume(self, partition: PartitionKey, offset: int | None) -> None:
        if partition in self.assigned:
            self.commits.resume({partition: offset})
            if offset:
                self.at_broker[partition] = offset

    def _commit(self) -> None:
        due = self.due()
        self.commits.succeed(due)
        self.at_broker |= due

    def _begin(self) -> None:
        if self.in_progress is None:
            self.in_progress = self.due()

    def _finish(self) -> None:
        if self.in_progress is not None:
            self.at_broker |= self.in_progress
            self.commits.succeed(self.in_progress)
        self.in_progress = None

    def _fail(self) -> None:
        due = self.due()
        self.commits.fail()
        assert self.due() == due, "tried again, with the same offsets"


@given(st.lists(steps, max_size=40))
@settings(max_examples=150)
def test_only_stored_offsets_of_assigned_partitions_are_committed(
    taken: Sequence[tuple[str, object]],
) -> None:
    model = Model()
    for step in taken:
        model.step(*step)
        model.due()
    model.step("finish")
    model.step("commit")
    assert model.due() == {}, "nothing is committed twice"
    for partition, offset in model.stored.items():
        if partition in model.assigned:
            assert model.at_broker[partition] == offset, "in the end all that is stored is committed"


@given(st.lists(steps, max_size=20), st.lists(steps, max_size=20))
@settings(max_examples=50)
def test_after_the_end_nothing_is_ever_due(
    before: Sequence[tuple[str, object]], after: Sequence[tuple[str, object]]
) -> None:
    model = Model()
    for step in before:
        model.step(*step)
    model.commits.end()
    for step in after:
        model.step(*step)
        assert model.due() == {}


def test_nothing_is_due_before_something_is_stored() -> None:
    commits = Commits()
    assert not commits.any_stored
    commits.deliver(ONE, 7)
    assert not commits.any_stored
    assert commits.due({ONE}) == {}
    commits.store(ONE, 7)
    assert commits.any_stored
    assert commits.due({ONE}) == {ONE: 8}, "the offset that is read next"


def test_nothing_is_due_for_a_partition_that_is_not_assigned() -> None:
    commits = Commits()
    for each in (ONE, TWO):
        commits.store(each, 9)
    assert commits.due({TWO}) == {TWO: 10}


def test_a_revoked_partition_is_forgotten() -> None:
    commits = Commits()
    commits.store(ONE, 9)
    commits.succeed({ONE: 10})
    commits.forget({ONE})
    assert commits.committed(ONE) is None
    # Assigned again, with a commit of another member that is not known yet.
    commits.store(ONE, 9)
    due = commits.due({ONE})
    assert due == {ONE: 10}
    assert commits.committed_before(due) == set()


def test_an_offset_lower_than_the_last_commit_is_committed_too() -> None:
    commits = Commits()
    commits.store(ONE, 99)
    commits.succeed({ONE: 100})
    commits.store(ONE, 3)
    assert commits.due({ONE}) == {ONE: 4}
    commits.succeed({ONE: 4})
    assert commits.committed(ONE) == 4


def test_what_the_group_had_committed_is_not_committed_again() -> None:
    commits = Commits()
    commits.resume({ONE: 5, TWO: None})
    assert (commits.committed(ONE), commits.committed(TWO)) == (5, None)
    commits.store(ONE, 4)
    commits.store(TWO, 4)
    assert commits.due({ONE, TWO}) == {TWO: 5}


def test_only_earlier_commits_are_expected_at_the_broker() -> None:
    commits = Commits()
    commits.resume({ONE: 5, TWO: None})
    for each in (ONE, TWO):
        commits.store(each, 9)
    due = commits.due({ONE, TWO})
    assert commits.committed_before(due) == {ONE}
    commits.succeed(due)
    commits.store(TWO, 10)
    assert commits.committed_before(commits.due({ONE, TWO})) == {TWO}


def test_a_partition_revoked_during_its_commit_stays_forgotten() -> None:
    commits = Commits()
    for each in (ONE, TWO):
        commits.store(each, 9)
    due = commits.due({ONE, TWO})
    commits.forget({ONE})
    commits.succeed(due)
    assert (commits.committed(ONE), commits.committed(TWO)) == (None, 10)
    # Assigned again after another member had it: what is stored now is due, whatever was before.
    commits.store(ONE, 9)
    assert commits.due({ONE, TWO}) == {ONE: 10}


def test_only_the_first_of_consecutive_failures_is_reported() -> None:
    commits = Commits()
    commits.store(ONE, 9)
    assert [commits.fail(), commits.fail()] == [True, False]
    commits.succeed(commits.due({ONE}))
    assert commits.fail()


def test_a_record_is_unstored_until_it_is_stored_or_its_partition_revoked() -> None:
    commits = Commits()
    assert not commits.has_unstored(ONE)
    commits.deliver(ONE, 0)
    assert commits.has_unstored(ONE)
    commits.store(ONE, 0)
    assert not commits.has_unstored(ONE)
    commits.deliver(ONE, 9)
    commits.store(ONE, 8)
    assert commits.has_unstored(ONE)
    assert not commits.has_unstored(TWO)
    commits.forget({ONE})
    assert not commits.has_unstored(ONE)
