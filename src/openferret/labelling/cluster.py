"""Pictures labelled on a Ray cluster with Ray Data; every answer is written here as it comes, so a run can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openferret.answer import Answer
from openferret.cli.results import Results
from openferret.errors import InputError
from openferret.labelling.job import Labelling, Outcome, look_for
from openferret.labelling.sources import Source, TarPicture, key_of, open_source
from openferret.ray_cluster import connect

if TYPE_CHECKING:
    from openferret.predictor import Ferret

# Pictures that are lost, and asked again, with a run that is broken off: so many of each worker.
_AT_A_TIME = 4
_RETRIES = 3


class Labeller:
    """What a worker of the cluster runs: one model, which is asked about picture after picture.

    Args:
        load: opens the model.
        labelling: what to look for.
    """

    def __init__(self, load: Callable[[], Ferret], labelling: Labelling) -> None:
        self._ferret = load()
        self._labelling = labelling

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row with a picture's number and place -> its number with the answer, or why there is none."""
        try:
            answer = look_for(self._ferret, open_source(_unpack(row)), self._labelling)
        except InputError as error:
            return {"number": row["number"], "answer": "", "error": str(error)}
        return {"number": row["number"], "answer": json.dumps(answer.to_dict()), "error": ""}


def label_on_ray(
    pictures: Sequence[Source],
    labelling: Labelling,
    results: Results,
    load: Callable[[], Ferret],
    workers: int,
) -> Iterator[tuple[Source, Outcome | None]]:
    """Label pictures on the cluster of `RAY_ADDRESS`, or on one that is started here.

    The workers' nodes must see the pictures, and the model's folder, under the same paths.

    Args:
        pictures: what to label.
        labelling: what to look for.
        results: where answers are written; what is answered there already is passed over.
        load: opens the model, on a worker.
        workers: models at a time.

    Yields:
        Each picture, in the order in which they are done, with its answer, why it has none, or None where the
        results had it already.

    Raises:
        InputError: Ray is not installed, or its cluster failed; what came until then is kept.
    """
    request = labelling.request()
    todo: list[tuple[int, Source]] = []
    for number, picture in enumerate(pictures):
        if results.has(key_of(picture), request):
            yield picture, None
        else:
            todo.append((number, picture))
    if not todo:
        return
    for row in _rows(todo, labelling, load, workers):
        picture = pictures[row["number"]]
        if row["error"]:
            results.write(key_of(picture), request, {"error": row["error"]})
            yield picture, InputError(row["error"])
        else:
            content = json.loads(row["answer"])
            results.write(key_of(picture), request, content)
            yield picture, Answer.from_dict(content)


def _rows(
    todo: Sequence[tuple[int, Source]], labelling: Labelling, load: Callable[[], Ferret], workers: int
) -> Iterator[dict[str, Any]]:
    ray, started_here = connect("data")
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the command has its own
        items = [{"number": number, **_pack(source)} for number, source in todo]
        blocks = max(workers, -(-len(items) // _AT_A_TIME))
        labelled = ray.data.from_items(items, override_num_blocks=blocks).map(
            Labeller,
            fn_constructor_args=(load, labelling),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            max_task_retries=_RETRIES,
            max_restarts=_RETRIES,
        )
        yield from labelled.iter_rows()
    except ray.exceptions.RayError as error:
        raise InputError(
            f"the Ray cluster failed ({type(error).__name__}); the same command with --resume goes on"
        ) from error
    finally:
        if started_here:
            ray.shutdown()


def _pack(source: Source) -> dict[str, Any]:
    """A picture's place as plain values, which Ray Data keeps in columns."""
    if isinstance(source, TarPicture):
        place = {"name": source.name, "offset": source.offset, "size": source.size}
        return {"path": os.path.abspath(source.archive), **place}  # noqa: PTH100 - as key_of
    return {"path": os.path.abspath(source), "name": "", "offset": 0, "size": 0}  # noqa: PTH100


def _unpack(row: dict[str, Any]) -> Source:
    path = Path(row["path"])
    return TarPicture(path, row["name"], row["offset"], row["size"]) if row["name"] else path
