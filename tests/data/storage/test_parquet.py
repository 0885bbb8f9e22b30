import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openferret.data.storage.parquet import (
    batch_to_samples,
    read_samples,
    sample_schema,
    samples_to_batch,
    write_samples,
)
from openferret.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_samples_come_back_from_rows(making, data):
    samples = data.draw(st.lists(making.samples(), max_size=3))
    assert list(batch_to_samples(samples_to_batch(samples))) == samples


def test_files_come_back_in_order_and_are_the_same_bytes(making, tmp_path, monkeypatch):
    monkeypatch.setattr("openferret.data.storage.parquet.ROWS", 16)
    samples = [making.sample(id=f"s{number}") for number in range(50)]
    assert write_samples(tmp_path / "b.parquet", iter(samples)) == 50
    write_samples(tmp_path / "again" / "b.parquet", samples)
    write_samples(tmp_path / "a.parquet", [making.sample(id="first")])
    assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "again" / "b.parquet").read_bytes()
    (tmp_path / "again" / "b.parquet").unlink()
    assert list(read_samples(tmp_path)) == [making.sample(id="first"), *samples]
    assert pq.ParquetFile(tmp_path / "b.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def test_an_error_leaves_no_file(making, tmp_path):
    def broken():
        yield making.sample()
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        write_samples(tmp_path / "a.parquet", broken())
    assert list(tmp_path.iterdir()) == []


def test_files_that_hold_no_samples_are_named(making, tmp_path):
    with pytest.raises(InputError, match=r"holds no \.parquet"):
        list(read_samples(tmp_path))
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet .* no column version"):
        list(read_samples(tmp_path / "other.parquet"))
    write_samples(tmp_path / "good.parquet", [making.sample()] * 10)
    whole = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.parquet", "missing.parquet"):
        with pytest.raises(InputError, match=name):
            list(read_samples(tmp_path / name))


def test_a_newer_version_is_refused(making, tmp_path):
    table = pa.Table.from_batches([samples_to_batch([making.sample()])])
    pq.write_table(table.replace_schema_metadata({b"openferret.sample": b"9"}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="version 9"):
        list(read_samples(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("regions", [{"kind": "circle", "numbers": [1.0], "stroke": None, "counts": ""}]),
        ("regions", [{"kind": "box", "numbers": [1.0], "stroke": None, "counts": ""}]),
        ("turns", None),
        ("provenance", None),
        ("extra", "{"),
    ],
)
def test_damaged_rows_are_named(making, tmp_path, column, value):
    row = samples_to_batch([making.sample()]).to_pylist()[0] | {column: value}
    pq.write_table(pa.Table.from_pylist([row], sample_schema()), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: sample s1"):
        list(read_samples(tmp_path / "a.parquet"))


def test_text_that_is_not_unicode_is_refused(making):
    with pytest.raises(InputError, match="Unicode"):
        samples_to_batch([making.sample(id="\ud800")])
