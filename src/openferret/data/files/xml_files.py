"""XML of strangers: no document types, hence no entities, inside or outside, that could swell or fetch files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openferret.data.files.regular import check_regular
from openferret.errors import InputError


def parse_xml(path: Path) -> Any:
    """The root of a small XML file.

    Raises:
        InputError: it is missing, malformed, or declares a document type.
    """
    check_regular(path)
    with _safely(path) as parser:
        return parser.parse(path, forbid_dtd=True).getroot()


def stream_xml(path: Path, tag: str) -> Iterator[Any]:
    """The elements of one tag right below the root, each forgotten after it was given.

    Raises:
        InputError: as `parse_xml`; the elements before the damage are given.
    """
    check_regular(path)
    with _safely(path) as parser:
        depth, root = 0, None
        for event, element in parser.iterparse(path, events=("start", "end"), forbid_dtd=True):
            depth += 1 if event == "start" else -1
            root = element if root is None else root
            if event == "end" and depth == 1:
                if element.tag == tag:
                    yield element
                root.clear()


@contextmanager
def _safely(path: Path) -> Iterator[Any]:
    try:
        import defusedxml.ElementTree as Parser
    except ImportError:
        raise InputError("XML files need defusedxml: pip install 'openferret[data]'") from None
    from defusedxml.common import DefusedXmlException

    try:
        yield Parser
    except DefusedXmlException:
        raise InputError(f"{path.name} declares a document type; annotations have none") from None
    except Parser.ParseError as error:
        raise InputError(f"{path.name} is not XML: {error}") from None
    except (OSError, UnicodeError, ValueError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
