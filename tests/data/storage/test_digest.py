import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openferret.data.storage.digest import joined_digest, table_digest

ROWS = [
    {
        "number": index,
        "text": "é" * (index % 7) if index % 5 else None,
        "list": [{"numbers": [1.0 * index, 2.0], "name": "a"}] * (index % 3),
        "maybe": None if index % 4 == 0 else [1, 2],
        "nothing": None,
        "flag": index % 2 == 0,
        "inner": None if index % 6 == 0 else {"x": index, "y": None},
    }
    for index in range(200)
]


def test_it_is_of_the_rows_alone(tmp_path):
    table = pa.Table.from_pylist(ROWS)
    digest = table_digest(table)
    assert table_digest(pa.concat_tables([table.slice(0, 70), table.slice(70)])) == digest
    middle = pa.Table.from_pylist(ROWS[10:90], schema=table.schema)
    assert table_digest(table.slice(10, 80)) == table_digest(middle)
    for compression in ("zstd", "snappy"):
        pq.write_table(
            table.drop(["nothing"]), tmp_path / "t.parquet", compression=compression, row_group_size=33
        )
        assert table_digest(pq.read_table(tmp_path / "t.parquet")) == table_digest(table.drop(["nothing"]))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("number", 7),
        ("text", ""),
        ("text", None),
        ("list", []),
        ("list", [{"numbers": [100.0, 2.5], "name": "a"}]),
        ("maybe", []),
        ("flag", False),
        ("inner", {"x": 100, "y": None}),
    ],
)
def test_any_change_changes_it(column, value):
    table = pa.Table.from_pylist(ROWS)
    changed = [dict(row) for row in ROWS]
    changed[101 if column == "text" else 102 if column == "inner" else 100][column] = value
    assert table_digest(pa.Table.from_pylist(changed, schema=table.schema)) != table_digest(table)


def test_the_order_counts():
    table = pa.Table.from_pylist(ROWS)
    assert table_digest(table.take([1, 0])) != table_digest(table.take([0, 1]))
    assert joined_digest(["a", "b"]) != joined_digest(["b", "a"])
