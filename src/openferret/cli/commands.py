"""What the command needs beyond typer: errors of one line, options in groups, regions in the order typed."""

from __future__ import annotations

import errno
import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, NoReturn, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from openferret.errors import OpenFerretError, WeightsError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # answers may go to a file on a full disk
REGION_KINDS = ("point", "box", "scribble", "polygon", "mask")


class OneLineErrors(TyperGroup):
    """A command group that ends every failure it knows with one line on stderr.

    Exit status 2 for what the person gave, 1 for model weights, 130 for Ctrl-C.
    """

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the command and exit."""
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False})
        except WeightsError as error:
            _fail(str(error), 1)
        except OpenFerretError as error:
            _fail(str(error), 2)
        except typer.Abort:
            _fail("stopped", 130)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            _fail(f"what was to be written does not fit: {error.strerror}", 2)
        except Exception as error:
            # typer carries its own copy of click, or not: usage errors are known by what they can do.
            explain = getattr(error, "format_message", None)
            if explain is None:
                raise
            _fail(explain(), getattr(error, "exit_code", 2))
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(status)


class RegionsInOrder(TyperCommand):
    """A command whose context object is its regions as typed: `[("box", "1,2,3,4"), ("point", "5,6"), ...]`.

    Options of one kind arrive grouped; `[0]` and `[1]` of a question mean the order across kinds.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note the order, then parse as ever."""
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        texts = {kind: iter(values.get(kind) or ()) for kind in REGION_KINDS}
        ctx.obj = [(option.name, next(texts[option.name])) for option in order if option.name in texts]
        return super().parse_args(ctx, args)


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Let a verb take dataclasses of options: their fields become options of the command.

    A field is declared as a parameter would be: `seed: Annotated[int, typer.Option(...)] = 0`.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    own = inspect.signature(verb).parameters.values()
    spread = [
        *(_parameter(p.name, p.default, hints[p.name]) for p in own if p.name not in groups),
        *(option for group in groups.values() for option in _field_parameters(group)),
    ]

    @wraps(verb)
    def command(**given: Any) -> None:
        gathered = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        verb(**given, **gathered)

    command.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in spread}
    return command


def _parameter(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _field_parameters(group: Any) -> list[inspect.Parameter]:
    kinds = get_type_hints(group, include_extras=True)
    defaults = {f.name: inspect.Parameter.empty if f.default is MISSING else f.default for f in fields(group)}
    return [_parameter(name, default, kinds[name]) for name, default in defaults.items()]
