"""What a model was fitted on: ``kaptain-inputs.json`` in its folder, so that a server gives it the same again.

The file is one JSON object:

* ``kind``: ``frame`` (a pandas DataFrame), ``matrix`` (an array or a sparse matrix) or ``list`` (one value a row, such
  as texts); ``source``: the call that got the data, such as ``Pipeline.fit``;
* of a frame ``columns``, in their order: ``name``; ``label``, where the column's own one is a number; ``dtype`` as
  pandas writes it; of a ``category`` its ``categories``, their ``categories_dtype``, and whether they are ``ordered``;
  of an ``object`` column what its ``values`` are (``string``, ``boolean``, ...); ``missing``: what stood in the place
  of missing values (``nan``, ``None``, ``NA``, ``NaT``), absent where there were none; ``example``: a value;
* of the others ``dtype``, ``sparse``, and ``example``: one row.

Missing values are ``null``, dates and times are ISO 8601 texts. The example is a row of the data, with texts of more
than 200 characters cut and with texts of columns that are named like secrets left out; with ``KAPTAIN_EXAMPLE=off`` in
the job's environment there is none.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.datatypes import datatype_of
from kaptain_magics.runtime.text_values import shorten, truth_of

INPUTS_FILE = "kaptain-inputs.json"

_SCANNED = 100_000  # rows that are searched for missing values: 1 ms for 100,000 rows of 10 columns
_HEAD = 20  # rows among which the example is chosen: the one with the fewest missing values
_LONGEST = 200  # characters of a text in the example row, which people read
_OF_OBJECTS = {"boolean": "BOOL", "integer": "INT64", "floating": "FP64", "mixed-integer-float": "FP64"}
_SECRET = re.compile(r"pass(word|wd|phrase|code)|secret|token|api_?key|credential|\bpin\b|ssn|iban", re.I)


@dataclass
class Column:
    """A column of a frame; see the module for what its fields hold."""

    name: str
    dtype: str
    label: int | None = None
    values: str = ""
    missing: str = ""
    categories: list[Any] = field(default_factory=list)
    categories_dtype: str = ""
    ordered: bool = False
    example: Any = None

    @property
    def datatype(self) -> str:
        """The protocol's datatype in which its values are sent."""
        dtype = self.categories_dtype if self.dtype == "category" else self.dtype
        if dtype != "object":
            return datatype_of(dtype.removeprefix("Sparse[").partition("[")[0].partition(",")[0])
        if self.dtype == "object":
            return _OF_OBJECTS.get(self.values, "BYTES")
        kinds = {type(value) for value in self.categories}
        return "BOOL" if kinds == {bool} else "INT64" if kinds == {int} else "BYTES"


@dataclass
class FittedOn:
    """What a model was fitted on; see the module for what its fields hold."""

    kind: str
    source: str = ""
    columns: list[Column] = field(default_factory=list)
    dtype: str = ""
    sparse: bool = False
    example: Any = None

    def without_example(self) -> FittedOn:
        """Return it without a row of the data."""
        return replace(self, columns=[replace(column, example=None) for column in self.columns], example=None)

    def write(self, folder: Path) -> None:
        """Write ``kaptain-inputs.json`` into ``folder``; without the example where the environment says so."""
        if truth_of(os.environ.get("KAPTAIN_EXAMPLE", "")) is False:
            return self.without_example()._write(folder)
        return self._write(folder)

    def _write(self, folder: Path) -> None:
        fields = asdict(self)
        fields["columns"] = [_filled(column) for column in fields["columns"]]
        (folder / INPUTS_FILE).write_text(json.dumps(_filled(fields), indent=1, allow_nan=False) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> FittedOn | None:
        """Return what lies in ``folder``; ``None`` where nothing does.

        Raises:
            ValueError: The file is not what ``write`` writes.
        """
        try:
            return cls.decode((folder / INPUTS_FILE).read_bytes())
        except FileNotFoundError:
            return None

    @classmethod
    def decode(cls, data: bytes) -> FittedOn:
        """Read the content of the file; raises as ``read``."""
        try:
            stored = _known(cls, json.loads(data))
            columns = [Column(**_known(Column, column)) for column in stored.pop("columns", ())]
            return cls(**stored, columns=columns)
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"invalid {INPUTS_FILE}: {error}") from None


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in fields.items()
        if value is not None and value is not False and value not in ("", [])
    }


def _known(kind: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stored.items() if key in kind.__dataclass_fields__}


class Sighting:
    """Data as it was seen when a model was fitted: what is needed of it later, and nothing that keeps it alive.

    Args:
        data: A DataFrame, a Series, an array, a sparse matrix or a list.
        source: The call that got it.
    """

    __slots__ = ("_head", "_missing", "_values", "kind", "source", "sparse")

    def __init__(self, data: Any, source: str) -> None:
        self.source = source
        self.sparse = False
        self._head: Any = None  # the first rows, copied
        self._missing: dict[int, str] = {}
        self._values: dict[int, str] = {}
        if hasattr(data, "columns") and hasattr(data, "iloc"):
            self.kind = "frame"
            self._look_at(data)
        elif hasattr(data, "tocsr"):
            self.kind, self.sparse = "matrix", True
            self._head = data[:1].toarray() if data.format == "csr" else None
        elif hasattr(data, "iloc"):
            self.kind, self._head = "list", data.iloc[:1].to_numpy(copy=True)
        elif hasattr(data, "dtype") and hasattr(data, "shape"):
            self.kind = "matrix" if len(data.shape) > 1 else "list"
            self._head = data[:1].copy() if hasattr(data, "copy") else None
        elif isinstance(data, (list, tuple)) and data:
            self.kind = "list" if isinstance(data[0], (str, bytes)) else "matrix"
            self._head = list(data[:1])
        else:
            raise TypeError(type(data).__name__)

    def _look_at(self, frame: Any) -> None:
        import pandas as pd

        if not all(isinstance(label, (str, int)) for label in frame.columns) or not frame.columns.is_unique:
            raise TypeError("columns")
        self._head = frame.iloc[:_HEAD].copy()
        rows = frame.iloc[:_SCANNED]
        empty = rows.isna()
        gaps = empty.to_numpy().any(axis=0)
        for place, dtype in enumerate(frame.dtypes):
            column: Any = rows.iloc[:, place] if gaps[place] or str(dtype) == "object" else None
            if gaps[place]:
                first = column.iloc[int(empty.iloc[:, place].to_numpy().argmax())]
                kind = type(first).__name__
                self._missing[place] = {"NoneType": "None", "NAType": "NA", "NaTType": "NaT"}.get(kind, "nan")
            if str(dtype) == "object":
                self._values[place] = pd.api.types.infer_dtype(column, skipna=True)

    def describe(self) -> FittedOn:
        """Return it as it is written down."""
        fitted = FittedOn(self.kind, self.source, sparse=self.sparse)
        head = self._head
        if self.kind == "frame":
            row = int(head.isna().sum(axis=1).to_numpy().argmin()) if len(head) else 0
            fitted.columns = [self._column(place, label, row) for place, label in enumerate(head.columns)]
        elif head is not None:
            fitted.dtype = str(getattr(head, "dtype", ""))
            fitted.example = _shortened(_plain(head[0])) if len(head) else None
        return fitted

    def _column(self, place: int, label: Any, row: int) -> Column:
        series = self._head.iloc[:, place]
        column = Column(str(label), str(series.dtype), None if isinstance(label, str) else int(label))
        column.values, column.missing = self._values.get(place, ""), self._missing.get(place, "")
        if column.dtype == "category":
            categories = series.cat.categories
            column.categories_dtype, column.ordered = str(categories.dtype), bool(series.cat.ordered)
            column.categories = [_plain(value) for value in categories]
        value = series.iloc[row] if len(series) else None
        example = str(value) if hasattr(value, "closed_left") else _plain(value)
        secret = isinstance(example, str) and _SECRET.search(column.name)
        column.example = "" if secret else _shortened(example)
        return column


def _shortened(value: Any) -> Any:
    return shorten(value, _LONGEST) if isinstance(value, str) and len(value) > _LONGEST else value


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; an interval as its two ends."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # JSON has no NaN and no infinity
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "closed_left"):
        return [_plain(value.left), _plain(value.right)]
    if hasattr(value, "total_seconds"):
        return str(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
