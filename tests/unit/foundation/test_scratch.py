"""Scratch files are complete or absent, and pass through the data root where machines share no folder."""

from __future__ import annotations

import errno
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from aiobotocore.session import AioSession
from s3fs import S3FileSystem

from churn.foundation.parts import check_part
from churn.foundation.paths import UNFINISHED
from churn.foundation.scratch import discard, given, here, joining, save_array, shared_folders, writing
from churn.foundation.storage import Storage, StorageError
from support.basics import S3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Storage]:
    """A store of objects in memory."""
    opened = Storage.open(f"memory://{tmp_path.name}", many_machines=True)
    yield opened
    opened.remove_folder("")


def write(file: Path, text: str) -> None:
    with writing(file) as target:
        target.write_text(text)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    """A reader meanwhile finds the file before it, and a failure leaves nothing."""
    file = tmp_path / "rows.parquet"
    write(file, "first")
    with writing(file) as target:
        target.write_text("second")
        assert file.read_text() == "first"
        assert target.suffix == ".parquet"
    assert given(file).read_text() == "second"
    with pytest.raises(RuntimeError), writing(file) as target:
        target.write_text("half")
        raise RuntimeError
    assert given(file).read_text() == "second"
    assert list(tmp_path.iterdir()) == [file]
    discard(file)
    discard(file)
    assert not list(tmp_path.iterdir())


def test_another_machine_reads_and_writes_through_the_store(store: Storage, tmp_path: Path) -> None:
    """It has copies in a folder of its own; what it wrote can be moved to its place without a copy on this machine."""
    with store.scratch() as folder:
        write(folder / "from-task", "task")
        with joining(shared_folders(), tmp_path):
            copy = given(folder / "from-task")
            assert copy.is_relative_to(tmp_path)
            assert copy.read_text() == "task"
            assert here(folder).is_relative_to(tmp_path)
            write(folder / "from-executor", "executor")
            write(folder / "rows", "rows")
            with pytest.raises(StorageError, match="Cannot read"):
                given(folder / "missing")
        assert not (folder / "rows").exists()
        store.move_in(folder / "rows", "accepted/rows")
        assert not (folder / "rows").exists()
        assert given(folder / "from-executor").read_text() == "executor"
        discard(folder / "from-executor")
        with pytest.raises(StorageError):
            given(folder / "from-executor")
        (folder / "only-here").write_text("only here")
        store.move_in(folder / "only-here", "accepted/only-here")
    assert not folder.exists()
    assert store.names(UNFINISHED) == []
    assert shared_folders() == {}
    assert [b"".join(store.chunks(f"accepted/{name}")) for name in ("rows", "only-here")] == [b"rows", b"only here"]


def test_another_machine_may_begin_with_a_part_of_the_data_root(store: Storage, tmp_path: Path) -> None:
    """Its folder for copies is made by whatever it does first."""
    with store.writing("accepted/part-0000.parquet") as stream:
        stream.write(b"rows")
    with store.scratch() as folder, joining(shared_folders(), tmp_path / "executor" / "copies"):
        copy = check_part(store, "accepted/part-0000.parquet", None, folder, "Next: nothing.")
        assert copy.read_bytes() == b"rows"
        assert copy.is_relative_to(tmp_path)


def test_a_shared_folder_is_swept_a_day_after_its_last_file(
    s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A long step writes into one all the time; what a killed one left is deleted."""
    # With the clock a day ahead, the folders of running tests look abandoned.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Storage.open(
        f"s3://{s3.bucket}/swept", S3FileSystem(key=s3.key, secret=s3.secret, endpoint_url=s3.endpoint), True
    )
    name = f"{UNFINISHED}/churn-work-x/part"
    with store.writing(name) as stream:
        stream.write(b"left")
    store.sweep()
    assert store.exists(name)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    store.sweep()
    assert not store.exists(name)


def test_one_machine_shares_nothing(tmp_path: Path) -> None:
    """Its scratch files are in a local folder, even if the data root is elsewhere."""
    with Storage.open(f"memory://{tmp_path.name}").scratch() as folder:
        assert shared_folders() == {}
        write(folder / "file", "text")
        assert given(folder / "file") == folder / "file"


def test_a_store_opened_by_a_session_can_be_sent_to_workers(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of an Airflow connection: workers get its credentials, which their environment does not have."""
    for name in s3.environment:
        monkeypatch.delenv(name, raising=False)
    session = AioSession()
    session.set_credentials(s3.key, s3.secret)
    session.set_config_variable("region", "eu-central-1")
    fs = S3FileSystem(session=session, endpoint_url=s3.endpoint, config_kwargs={}, anon=False)
    store = Storage.open(f"s3://{s3.bucket}/sent", fs, many_machines=True)
    with store.writing("accepted/rows") as stream:
        stream.write(b"rows")
    sent = pickle.loads(pickle.dumps(store))  # noqa: S301 -- our own
    assert b"".join(sent.chunks("accepted/rows")) == b"rows"
    assert (sent.root, sent.many_machines) == (store.root, True)
    assert sent.fs.storage_options["client_kwargs"] == {"region_name": "eu-central-1", "endpoint_url": s3.endpoint}


def test_an_array_is_read_by_numpy_and_a_full_disk_has_its_number(tmp_path: Path) -> None:
    """Also one without values; `numpy.save` would say how many bytes it could not write, and not why."""
    for values in (np.arange(5, dtype=np.uint64), np.zeros(0, np.float64)):
        save_array(tmp_path / "values.npy", values)
        loaded = np.load(tmp_path / "values.npy")
        assert loaded.dtype == values.dtype
        assert loaded.tolist() == values.tolist()
    with pytest.raises(OSError, match="No space left") as full:
        save_array(Path("/dev/full"), np.zeros(100_000))
    assert full.value.errno == errno.ENOSPC
