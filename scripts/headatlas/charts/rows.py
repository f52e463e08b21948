"""Tables to draw: checks their rows and writes them into a spec."""

from collections.abc import Sequence
from itertools import product

import altair as alt
import polars as pl

from headatlas.errors import HeadAtlasError

DIGITS = 6  # significant digits of a value in the spec; the table keeps all digits


def checked(table: pl.DataFrame, name: str, columns: Sequence[str], **kept: list[str]) -> pl.DataFrame:
    """The rows of a table whose columns `kept` hold one of the given values, with only `columns` besides.

    Sorted in the order of the given values, then by `columns`.

    Raises:
        HeadAtlasError: a column is missing, or a combination of values has no row.
    """
    missing = [column for column in [*kept, *columns] if column not in table.columns]
    if missing:
        raise HeadAtlasError(f"{name} table: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    rows = table.select(*kept, *columns).filter(pl.col(key).is_in(values) for key, values in kept.items())
    found = set(rows.select(*kept).iter_rows())
    for wanted in product(*kept.values()):
        if wanted not in found:
            what = ", ".join(f"{key} {value}" for key, value in zip(kept, wanted, strict=True))
            raise HeadAtlasError(f"{name} table: no row of {what}; delete the table and run again")
    places = [
        pl.col(key).replace_strict({value: i for i, value in enumerate(values)}, return_dtype=pl.Int32)
        for key, values in kept.items()
    ]
    return rows.sort(*places, *columns)


def inline(rows: pl.DataFrame) -> alt.InlineData:
    """Rows as CSV text inside the spec, a sixth of the size of JSON objects; an empty cell is null."""
    rows = rows.with_columns(pl.col(pl.Boolean).cast(pl.Int8))  # as 0 and 1; the word `false` would count as true
    numbers = [name for name in rows.columns if rows[name].dtype.is_numeric()]
    floats = [name for name in numbers if rows[name].dtype.is_float()]
    rounded = rows.with_columns(pl.col(floats).fill_nan(None).round_sig_figs(DIGITS))
    parse = dict.fromkeys(numbers, "number")
    return alt.InlineData(values=rounded.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))
