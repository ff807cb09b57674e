"""The distribution functions written in SQL against SciPy's."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

FUNCTIONS = Path(__file__).parents[2] / "queries" / "functions.sql"
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def sql() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(FUNCTIONS.read_text(encoding="utf-8"))
        yield connection


def evaluate(connection: duckdb.DuckDBPyConnection, expression: str, **columns: Array) -> Array:
    """The expression on columns; the names of the columns are on purpose those the macros use themselves."""
    frame = pd.DataFrame(columns).assign(row=range(len(next(iter(columns.values())))))
    connection.register("given", frame)
    answer = connection.execute(f"SELECT {expression} AS answer FROM given ORDER BY row").fetchnumpy()
    return np.ma.filled(np.ma.asarray(answer["answer"], dtype=np.float64), np.nan)


def assert_close(got: Array, expected: Array) -> None:
    """Relative 1e-10; below the normal range of doubles there are no digits to compare."""
    assert not np.isnan(got).any()
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize(
    ("expression", "printed", "digits"),
    [
        ("f_sf(49.6, 1, 16)", 2.8e-6, 1),
        ("f_sf(1.88, 1, 16)", 0.19, 2),
        ("f_sf(34.5, 1, 16)", 2.4e-5, 1),
        ("t_p2(2.345, 45)", 0.023, 3),
    ],
)
def test_the_papers_own_p_values(
    sql: duckdb.DuckDBPyConnection, expression: str, printed: float, digits: int
) -> None:
    [(p,)] = sql.execute(f"SELECT {expression}").fetchall()
    exponent = int(np.floor(np.log10(printed))) if printed < 1e-3 else 0
    assert np.round(p / 10.0**exponent, digits) == pytest.approx(printed / 10.0**exponent)


@pytest.mark.parametrize("p", [0.95, 0.975])
def test_quantiles_of_t(sql: duckdb.DuckDBPyConnection, p: float) -> None:
    df = np.concatenate([np.linspace(1, 3, 41), np.linspace(3.1, 30, 50), [100, 1e3, 1e5]])
    np.testing.assert_allclose(evaluate(sql, f"t_quantile({p}, df)", df=df), stats.t.ppf(p, df), rtol=1e-6)
    assert sql.execute("SELECT t_quantile(0.95, 0.5), t_quantile(0.95, NULL)").fetchall() == [(None, None)]


def test_f_over_a_wide_grid(sql: duckdb.DuckDBPyConnection) -> None:
    f, df1, df2 = (
        axis.ravel()
        for axis in np.meshgrid(
            [1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0, 1.1, 2.0, 5.0, 50.0, 1e3, 1e6, 1e12, 1e30],
            [0.37, 1.0, 1.26, 2.0, 3.0, 7.5, 40.0, 999.0, 1e4],
            [0.41, 1.0, 2.0, 5.06, 12.0, 16.0, 333.0, 1e4],
        )
    )
    assert_close(evaluate(sql, "f_sf(f, d, c)", f=f, d=df1, c=df2), stats.f.sf(f, df1, df2))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.floats(-8, 12).map(lambda power: 10.0**power),
            st.floats(-0.5, 4).map(lambda power: 10.0**power),
            st.floats(-0.5, 4).map(lambda power: 10.0**power),
        ),
        min_size=5,
        max_size=40,
    )
)
def test_f_anywhere(rows: list[tuple[float, float, float]]) -> None:
    f, df1, df2 = np.array(rows).T
    with duckdb.connect() as connection:
        connection.execute(FUNCTIONS.read_text(encoding="utf-8"))
        assert_close(
            evaluate(connection, "f_sf(fraction, step, x)", fraction=f, step=df1, x=df2),
            stats.f.sf(f, df1, df2),
        )


def test_beta(sql: duckdb.DuckDBPyConnection) -> None:
    rng = np.random.default_rng(1)
    a, b = 10 ** rng.uniform(-1, 4, (2, 2000))
    x = np.clip(rng.beta(a, b), 1e-12, 1 - 1e-12)
    assert_close(evaluate(sql, "ibeta(a, b, x)", a=a, b=b, x=x), special.betainc(a, b, x))


def test_t_in_the_far_tails(sql: duckdb.DuckDBPyConnection) -> None:
    t, df = (
        axis.ravel()
        for axis in np.meshgrid(
            [-1e20, -300.0, -2.345, -1e-8, 1e-5, 0.3, 1.0, 4.0, 38.0, 1e6], [1.0, 1.5, 4.0, 45.0, 2e4]
        )
    )
    # From whichever end of the beta distribution the argument has all its digits.
    expected = np.where(
        t * t < df,
        special.betaincc(0.5, df / 2, t * t / (df + t * t)),
        special.betainc(df / 2, 0.5, df / (df + t * t)),
    )
    assert_close(evaluate(sql, "t_p2(t, df)", t=t, df=df), expected)


def test_normal_in_the_far_tails(sql: duckdb.DuckDBPyConnection) -> None:
    z = np.concatenate([np.linspace(-37, 37, 1481), [2 - 1e-12, 2 + 1e-12, 1e-300, -1e-300]])
    assert_close(evaluate(sql, "normal_sf(total)", total=z), stats.norm.sf(z))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("f_sf(0, 3, 16)", 1.0),
        ("f_sf(-1, 3, 16)", 1.0),
        ("f_sf('inf'::DOUBLE, 3, 16)", 0.0),
        ("f_sf(NULL, 3, 16)", None),
        ("f_sf('nan'::DOUBLE, 3, 16)", None),
        ("f_sf(1, 0, 16)", None),
        ("f_sf(1, 3, -2)", None),
        ("f_sf(1, 3, NULL)", None),
        ("t_p2(0, 4)", 1.0),
        ("t_p2(NULL, 4)", None),
        ("ibeta(2, 3, 0)", 0.0),
        ("ibeta(2, 3, 1)", 1.0),
        ("ibeta(2, 3, 1.5)", None),
        ("ibeta(-2, 3, 0.5)", None),
        ("normal_sf(0)", 0.5),
        ("normal_sf('inf'::DOUBLE)", 0.0),
        ("normal_sf('-inf'::DOUBLE)", 1.0),
        ("normal_sf(NULL)", None),
    ],
)
def test_edges(sql: duckdb.DuckDBPyConnection, expression: str, expected: float | None) -> None:
    assert sql.execute(f"SELECT {expression}").fetchall() == [(expected,)]
