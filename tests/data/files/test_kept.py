import errno
import threading

import pytest

from openferret.data.files.kept import Kept
from openferret.errors import InputError


def test_a_half_written_line_is_dropped(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"id": "a", "n": 1}\n{"id": "b", "n')
    kept = Kept(path, "id")
    assert ("a" in kept, "b" in kept) == (True, False)
    kept.put({"id": "b", "n": 2})
    assert [entry["n"] for entry in Kept(path, "id", in_memory=False)] == [1, 2]


@pytest.mark.parametrize("last", ['{"id": "b", "n": 2}', '{"id": "b", "n'])
def test_reading_changes_nothing(tmp_path, last):
    path = tmp_path / "lines.jsonl"
    text = '{"id": "a", "n": 1}\n' + last  # as an editor leaves it, or as another run is at it just now
    path.write_text(text)
    kept = Kept(path, "id")
    assert path.read_text() == text
    assert [entry["n"] for entry in kept] == [entry["n"] for entry in kept.by_name()] == [1, 2][: len(kept)]
    assert ("b" in kept) is last.endswith("}")
    kept.put({"id": "c", "n": 3})
    assert [entry["id"] for entry in Kept(path, "id")] == ["a", *(["b"] if last.endswith("}") else []), "c"]


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"name": "a"}\n')
    with pytest.raises(InputError, match="line 1"):
        Kept(path, "id")


@pytest.mark.parametrize("in_memory", [True, False])
def test_lines_come_by_name_whoever_kept_them_first(tmp_path, in_memory):
    kept = Kept(tmp_path / "lines.jsonl", "id", in_memory)
    for name in ("b", "é", "a"):
        kept.put({"id": name, "text": f"of {name}\n"})
    assert [entry["text"] for entry in kept.by_name()] == ["of a\n", "of b\n", "of é\n"]
    again = Kept(tmp_path / "lines.jsonl", "id", in_memory)
    assert list(again.by_name()) == list(kept.by_name())
    assert len(again) == 3


def test_threads_do_not_mix_their_lines(tmp_path):
    kept = Kept(tmp_path / "lines.jsonl", "id")

    def put(start):
        for number in range(start, start + 50):
            kept.put({"id": str(number), "text": "x" * 300})

    threads = [threading.Thread(target=put, args=(50 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Kept(tmp_path / "lines.jsonl", "id")) == 200


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    kept = Kept(tmp_path / "lines.jsonl", "id")
    kept.put({"id": "a"})
    opened = type(kept.path).open

    def half(self, *args, **more):
        stream = opened(self, *args, **more)
        write = stream.write

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                stream.close()

            def tell(self):
                return stream.tell()

            def write(self, content):
                write(content[: len(content) // 2])
                stream.flush()
                raise OSError(errno.ENOSPC, "No space left on device")

        return Full()

    monkeypatch.setattr(type(kept.path), "open", half)
    with pytest.raises(InputError, match="No space left"):
        kept.put({"id": "b"})
    monkeypatch.undo()
    kept.put({"id": "c"})
    assert [entry["id"] for entry in Kept(kept.path, "id")] == ["a", "c"]
    assert "b" not in kept
