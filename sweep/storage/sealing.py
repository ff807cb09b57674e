"""Parquet files that carry the checksum of their own bytes.

The footer's key-value metadata hold a SHA-256 over the whole file with zeros in the checksum's place. So a
changed byte anywhere is found, no second file can go missing, and any Parquet reader reads the file as ever.
The same rows give the same bytes: nothing of the moment enters the file.
"""

import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.storage.schemas import mismatch

PARTS = "sweep.parts"
"""Metadata key of a unit's note of the parts that it consists of."""
_DIGEST, _OWNER = "sweep.sha256", "sweep.unit"
_ZEROS = b"0" * 64
_MARK = _DIGEST.encode() + b"\x18\x40"
"""The metadata's key, then, in Thrift's compact protocol, a string (0x18) of 64 bytes (0x40)."""
_OPENING = b'{\n "sha256": "'
"""How a JSON file begins that carries its own checksum."""
_CHANGED = "does not match its checksum"


class BrokenSeal(ValueError):
    """A file is not what was written; the message says in what."""


def sealed(rows: pa.Table, owner: str, parts: str | None = None) -> bytes:
    """`rows` as a Parquet file with its own checksum, the name of the unit it belongs to and a note of its parts."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        rows.schema,
        compression="zstd",
        # Words repeat, measurements do not: a dictionary of a map's values takes half as much again as the values.
        use_dictionary=[field.name for field in rows.schema if pa.types.is_string(field.type)],
        use_byte_stream_split=list(_floats(rows.schema)),
    ) as writer:
        writer.write_table(rows.combine_chunks())
        noted = {} if parts is None else {PARTS: parts}
        writer.add_key_value_metadata({**noted, _DIGEST: _ZEROS.decode(), _OWNER: owner})
    content = sink.getvalue().to_pybytes()
    return _stamped(content, _place(content))


def sealed_json(fields: bytes) -> bytes:
    """`fields`, the text of a JSON object, with the file's own checksum as the first of them."""
    return _stamped(_OPENING + _ZEROS + b'",' + fields[1:], len(_OPENING))


def check_json(content: bytes) -> None:
    """Check what `sealed_json` wrote. Raises BrokenSeal."""
    if not content.startswith(_OPENING) or not _intact(content, len(_OPENING)):
        raise BrokenSeal(_CHANGED)


def _floats(schema: pa.Schema) -> Iterator[str]:
    """Paths of the columns that hold floating-point numbers, as Parquet names them."""
    for field in schema:
        if pa.types.is_floating(field.type):
            yield field.name
        elif pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type):
            yield f"{field.name}.list.element"


def opened(content: bytes, owner: str, table: str) -> pq.ParquetFile:
    """The file behind `content`, checked: bytes, owner and columns. Raises BrokenSeal."""
    try:
        place = _place(content)
    except ValueError:
        raise BrokenSeal("is truncated, or no file that sweep wrote") from None
    if not _intact(content, place):
        raise BrokenSeal(_CHANGED)
    file = pq.ParquetFile(pa.BufferReader(content))
    found = (file.metadata.metadata or {}).get(_OWNER.encode(), b"").decode()
    if found != owner:
        raise BrokenSeal(f"holds the rows of {found or 'no unit'}")
    problem = mismatch(table, file.schema_arrow)
    if problem:
        raise BrokenSeal(problem)
    return file


def _stamped(content: bytes, place: int) -> bytes:
    """`content`, which has zeros at `place`, with its checksum in their stead."""
    digest = hashlib.sha256(content).hexdigest().encode()
    return b"".join((content[:place], digest, content[place + len(digest) :]))


def _intact(content: bytes, place: int) -> bool:
    view, end = memoryview(content), place + len(_ZEROS)
    digest = hashlib.sha256(view[:place])
    digest.update(_ZEROS)
    digest.update(view[end:])
    return digest.hexdigest().encode() == content[place:end]


def _place(content: bytes) -> int:
    """Where the checksum stands. The footer comes last in a file, so the last mark is the real one."""
    return content.rindex(_MARK) + len(_MARK)
