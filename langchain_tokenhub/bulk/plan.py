"""Checks the rows of a manifest and plans them as a graph. Nothing is read or sent.

`estimates` returns what they cost and how long they take.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from langchain_tokenhub.bulk.manifest import Rows, column_name, parse_cell, read_manifest, refuse
from langchain_tokenhub.catalogue import (
    Kind,
    MediaKind,
    estimate_price,
    media_kind,
    media_model,
    media_models,
    similar_media_model,
)
from langchain_tokenhub.jobs.files import IMAGES
from langchain_tokenhub.jobs.inputs import is_path
from langchain_tokenhub.jobs.ledger import digest_of
from langchain_tokenhub.params import (
    FileField,
    MediaParams,
    ParamObject,
    explain,
    file_fields,
    params_class,
)

Cny: TypeAlias = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Prices: TypeAlias = Cny | Mapping[str, Cny] | None
"""CNY of a job: for each model without a known price, or by model in place of the known ones."""

OWN_COLUMNS = ("id", "model", "kind", "extra")
MAX_ID_LENGTH = 200
"""Characters of a row's id."""
_QUICK_SECONDS = 15.0
"""Estimate for models that answer at once."""
_RESULT_TYPES: Mapping[Kind, frozenset[str]] = {
    "image": frozenset(IMAGES),
    "video": frozenset({"mp4"}),
    "3d": frozenset(IMAGES),  # its preview
}
"""Types that a row's result can be used as."""


@dataclass(frozen=True)
class RowRef:
    """A parameter that is the result of the row `id`, as one of some file types."""

    id: str
    field: str
    formats: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A checked row.

    Args:
        id: Its id: as given, else made from its content.
        place: Where it was written.
        model: Model id.
        kind: The model's kind.
        params: Parameters; files are absolute paths, or a `RowRef`.
        extra: Fields for the body, unchecked.
        sources: The results of other rows that it needs.
        cny: Highest estimated price; None where it is not known.
    """

    id: str
    place: str
    model: str
    kind: Kind
    params: Mapping[str, Any]
    extra: Mapping[str, Any] | None = None
    sources: tuple[RowRef, ...] = ()
    cny: float | None = None

    @property
    def facts(self) -> MediaKind:
        """The model's row in the catalogue, or its kind's."""
        return media_model(self.model) or media_kind(self.kind)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the rows of one model cost at most (None: not known), and hours at its quota."""

    model: str
    rows: int
    cny: float | None
    hours: float


def estimates(rows: list[Row], accounts: int = 1, in_flight: int | None = None) -> list[Estimate]:
    """Return what the rows of each model cost, and how long they take on so many accounts."""
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    return [_estimate(rows, accounts, in_flight) for rows in by_model.values()]


def _estimate(rows: list[Row], accounts: int, in_flight: int | None) -> Estimate:
    facts = rows[0].facts
    prices = [row.cny for row in rows if row.cny is not None]
    at_once = accounts * (in_flight or facts.max_in_flight)
    seconds = len(rows) * (facts.typical_seconds or _QUICK_SECONDS) / min(at_once, len(rows))
    return Estimate(
        model=rows[0].model,
        rows=len(rows),
        cny=round(sum(prices), 2) if len(prices) == len(rows) else None,
        hours=seconds / 3600,
    )


def make_plan(rows: Rows, *, price_cny: Prices = None, has_budget: bool = False) -> list[Row]:
    """Read and check all rows, and return them in the order of the manifest.

    Args:
        rows: The manifest.
        price_cny: Prices of jobs, see `Prices`.
        has_budget: Whether every row needs a price.

    Raises:
        InvalidRequestError: It names every wrong row by line and field.
    """
    faults: list[str] = []
    found, folder, is_text = read_manifest(rows, faults)
    by_id: dict[str, Row] = {}
    for place, values in found:
        if not isinstance(values, Mapping):
            faults.append(f"{place}: {type(values).__name__}, an object with columns is needed")
            continue
        given = {str(name).strip(): value for name, value in values.items() if value is not None}
        reading = _Reading(place, given, folder, faults)
        row = reading.row(price_cny, is_text=is_text)
        if row is None:
            continue
        if (first := by_id.setdefault(row.id, row)) is not row:
            faults.append(_duplicate_fault(row, first, given="id" in reading.own))
        if has_budget and row.cny is None:
            advice = "with a budget give price_cny (--price MODEL=CNY)"
            faults.append(f"{place}: model: no price of {row.model} is known; {advice}")
    for row in by_id.values():
        faults += _wrong_sources(row, by_id)
    refuse(faults or _cycles(by_id))
    return list(by_id.values())


def _duplicate_fault(row: Row, first: Row, *, given: bool) -> str:
    if given:
        return f"{row.place}: id: {row.id!r} is also the id of {first.place}"
    return f"{row.place}: the same as {first.place}; to make both, give each an id"


class _Reading:
    """Reads one row and collects its faults."""

    def __init__(self, place: str, given: dict[str, Any], folder: Path, faults: list[str]) -> None:
        # of two columns with one name the first, so that the second is the fault
        self.own = {column_name(name, OWN_COLUMNS): given[name] for name in reversed(given)}
        self._place = place
        self._given = given
        self._folder = folder
        self._faults = faults
        self._count = len(faults)
        self._sources: dict[RowRef, None] = {}

    def row(self, prices: Prices, *, is_text: bool) -> Row | None:
        """Return the row, or None if it has faults."""
        if (found := self._model()) is None:
            return None
        model, kind = found
        cls = params_class(model, kind)
        values = self._values(cls, is_text=is_text)
        given = {name: value for name, value in values.items() if name not in OWN_COLUMNS}
        row_id = self._id(values.get("id"), {"model": model, **given})
        extra = values.get("extra")
        if not isinstance(extra, Mapping | None):
            self._fault("extra", "a JSON object is needed")
        if "job_id" in given:
            self._fault("job_id", "a row is a new job; collect that one with `tokenhub resume`")
        params = self._check(given, cls)
        if len(self._faults) > self._count:
            return None
        if "rsp_img_type" in cls.model_fields:  # a link survives a crash, bytes do not
            params = {"rsp_img_type": "url", **params}
        return Row(
            id=row_id,
            place=self._place,
            model=model,
            kind=kind,
            params=params,
            extra=extra,
            sources=tuple(self._sources),
            cny=_price(model, params, prices),
        )

    def _fault(self, name: str, text: str) -> None:
        self._faults.append(f"{self._place}: {name}: {text}")

    def _model(self) -> tuple[str, Kind] | None:
        model = str(self.own.get("model") or "").strip().lower()
        if not model:
            near = difflib.get_close_matches("model", self.own, n=1)
            self._fault("model", f"missing; did you mean {near[0]!r}?" if near else "missing")
            return None
        if known := media_model(model):
            return known.id, known.kind
        match str(self.own.get("kind") or "").strip().lower():
            case "image" | "video" | "3d" as kind:
                return model, kind
            case "":
                self._fault("model", f"{model!r} is not listed; {_similar(model)} its kind")
            case other:
                self._fault("kind", f"{other!r} is none of image, video, 3d")
        return None

    def _values(self, cls: type[BaseModel], *, is_text: bool) -> dict[str, Any]:
        """Return the values by English column, text as its parameter's type."""
        fields, schemas = (*OWN_COLUMNS, *cls.model_fields), _schemas(cls)
        found: dict[str, Any] = {}
        for name, value in self._given.items():
            if (english := column_name(name, fields)) in found:
                self._fault(name, f"{english} is given twice")
            try:
                schema = schemas.get(english, {"type": "string"})
                found[english] = parse_cell(value, schema) if is_text else value
            except ValueError:
                self._fault(english, "JSON is needed")
        return found

    def _id(self, given: Any, content: Mapping[str, Any]) -> str:
        if given is None:
            try:
                json.dumps(content)
            except (TypeError, ValueError):
                self._fault("id", "needed, because a value of the row is not plain JSON")
            return f"{content['model']}-{digest_of(content)[:12]}"
        row_id = str(given).strip()
        if not isinstance(given, str | int) or not row_id or not row_id.isprintable():
            self._fault("id", "one line of text is needed")
        elif len(row_id) > MAX_ID_LENGTH:
            self._fault("id", f"{len(row_id)} characters, at most {MAX_ID_LENGTH}")
        return row_id

    def _check(self, given: Mapping[str, Any], cls: type[MediaParams]) -> dict[str, Any]:
        """Return the parameters with files as absolute paths, if they are right."""
        try:
            checked = cls(**given)
        except ValidationError as error:
            for fault in explain(error, model=cls.model or "this model").splitlines():
                self._faults.append(f"{self._place}: {fault}")
            return {}
        params = self._with_files(given, cls)
        for name, value in checked:
            if isinstance(value, list) and value and isinstance(value[0], ParamObject):
                params[name] = [
                    self._with_files(item, type(value[0]), f"{name}[{n}].")
                    for n, item in enumerate(given[name])
                ]
        return params

    def _with_files(
        self, given: Mapping[str, Any], cls: type[BaseModel], where: str = ""
    ) -> dict[str, Any]:
        params = dict(given)
        for name, one in file_fields(cls).items():
            value = params.get(name)
            if one.is_list and isinstance(value, list | tuple):
                params[name] = [self._file(f"{where}{name}", item, one) for item in value]
            elif value is not None:
                params[name] = self._file(f"{where}{name}", value, one)
        return params

    def _file(self, name: str, value: Any, field_: FileField) -> Any:
        text = value.strip() if isinstance(value, str) else ""
        if text[:1] == "@" and text[1:].strip():
            ref = RowRef(text[1:].strip(), name, field_.formats)
            self._sources[ref] = None
            return ref
        if not text or not is_path(text):
            return value
        with suppress(OSError, ValueError, RuntimeError):
            path = self._folder / Path(text).expanduser()
            if path.is_file():
                return str(path)
        self._fault(name, f"no file {text[:60]!r} in {str(self._folder)!r}")
        return value


def with_files(value: Any, file_of: Callable[[str], Any]) -> Any:
    """Return parameters with `file_of(id)` in place of each reference to another row."""
    match value:
        case RowRef():
            return file_of(value.id)
        case Mapping():
            return {name: with_files(inner, file_of) for name, inner in value.items()}
        case list():
            return [with_files(inner, file_of) for inner in value]
        case _:
            return value


def _similar(model: str) -> str:
    near = similar_media_model(model)
    names = [near.id] if near else difflib.get_close_matches(model, [m.id for m in media_models()])
    return f"did you mean {names[0]}? If not, give" if names else "give"


@functools.cache
def _schemas(cls: type[BaseModel]) -> Mapping[str, Any]:
    return {**cls.model_json_schema()["properties"], "extra": {"type": "object"}}


def _price(model: str, params: Mapping[str, Any], prices: Prices) -> float | None:
    if isinstance(prices, Mapping) and (own := prices.get(model)) is not None:
        return float(own)
    known = estimate_price(model, params)
    if known is not None:
        return known.high
    return float(prices) if isinstance(prices, int | float) else None


def _wrong_sources(row: Row, by_id: Mapping[str, Row]) -> Iterator[str]:
    for ref in row.sources:
        place = f"{row.place}: {ref.field}: @{ref.id}"
        if ref.id not in by_id:
            near = difflib.get_close_matches(ref.id, by_id, n=1)
            yield f"{place}: no row has this id{f'; did you mean @{near[0]}?' if near else ''}"
        elif not _RESULT_TYPES[by_id[ref.id].kind] & set(ref.formats):
            yield f"{place}: that row makes {by_id[ref.id].kind}; {', '.join(ref.formats)} is taken"


def _cycles(rows: Mapping[str, Row]) -> list[str]:
    try:
        TopologicalSorter({row.id: [r.id for r in row.sources] for row in rows.values()}).prepare()
    except CycleError as error:
        named = [f"{one} ({rows[one].place})" for one in reversed(error.args[1])]
        return [f"rows need each other in a cycle: {' → '.join(named)}"]
    return []
