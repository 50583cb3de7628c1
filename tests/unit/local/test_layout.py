"""Keys become tables and partitions as in Glue."""

from __future__ import annotations

import pytest

from lakefeed_local.crawl.layout import (
    Stored,
    Target,
    layout,
    other_name,
    parse_target,
    table_name,
    visible,
)

TARGET = Target("lake", "events/orders/")


def stored(*paths: str) -> list[Stored]:
    return [Stored(f"events/orders/{path}", 10) for path in paths]


@pytest.mark.parametrize(
    ("path", "location", "folder"),
    [
        ("s3://lake/events/orders", "s3://lake/events/orders/", "orders"),
        ("s3://lake/events/orders/", "s3://lake/events/orders/", "orders"),
        ("s3://lake", "s3://lake/", "lake"),
        ("s3://lake/", "s3://lake/", "lake"),
    ],
)
def test_targets(path: str, location: str, folder: str) -> None:
    target = parse_target(path)

    assert (target.location, target.folder_name) == (location, folder)


def test_a_target_that_is_not_an_s3_address_is_refused() -> None:
    with pytest.raises(ValueError, match="lake/events"):
        parse_target("lake/events")


@pytest.mark.parametrize(
    ("folder", "name"),
    [("demo_testing", "demo_testing"), ("Orders-2026.v1", "orders_2026_v1"), ("dt=1", "dt_1")],
)
def test_table_names(folder: str, name: str) -> None:
    assert table_name(folder) == name


def test_the_name_for_a_taken_one_depends_on_the_location_only() -> None:
    assert (
        other_name("orders", "s3://a/") == other_name("orders", "s3://a/") != other_name("orders", "s3://b/")
    )


def test_days_are_partitions() -> None:
    found = layout(TARGET, stored("dt=2026-01-01/1.json", "dt=2026-01-02/2.json", "dt=2026-01-01/3.json"))

    assert found.keys == ("dt",)
    assert [(part.values, part.location, len(part.objects), part.size) for part in found.partitions] == [
        (("2026-01-01",), "s3://lake/events/orders/dt=2026-01-01/", 2, 20),
        (("2026-01-02",), "s3://lake/events/orders/dt=2026-01-02/", 1, 10),
    ]


def test_plain_folders_are_numbered_by_level() -> None:
    found = layout(TARGET, stored("year=2026/berlin/a/1.json"))

    assert found.keys == ("year", "partition_1", "partition_2")
    assert found.partitions[0].values == ("2026", "berlin", "a")


def test_objects_without_folders_are_one_table_without_partitions() -> None:
    found = layout(TARGET, stored("1.json", "2.json"))

    assert found.keys == ()
    assert [(part.values, part.location) for part in found.partitions] == [((), "s3://lake/events/orders/")]


def test_objects_at_another_depth_than_most_are_left_out() -> None:
    found = layout(TARGET, stored("README.json", "dt=1/1.json", "dt=2/2.json"))

    assert (found.keys, len(found.partitions)) == (("dt",), 2)
    assert [len(part.objects) for part in found.partitions] == [1, 1]


def test_no_objects_have_no_partitions() -> None:
    assert layout(TARGET, []).partitions == []


@pytest.mark.parametrize(
    ("path", "size", "seen"),
    [
        ("1.json", 1, True),
        ("1.json", 0, False),
        ("_tmp/1.json", 1, False),
        (".x", 1, False),
        ("a/_x/1.json", 1, False),
    ],
)
def test_visible_objects(path: str, size: int, seen: bool) -> None:
    assert visible(Stored(f"events/orders/{path}", size), TARGET) is seen
