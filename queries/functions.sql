-- Purpose: the distribution functions that the tests need, as scalar macros that work on columns.
--
--   ibeta(a, b, x)       regularised incomplete beta function I_x(a, b)
--   f_sf(f, df1, df2)    P(F > f): the p-value of an F test; fractional degrees of freedom are allowed
--   t_p2(t, df)          P(|T| > |t|): the two-sided p-value of a t test
--   normal_sf(z)         P(Z > z)
--   t_quantile(p, df)    the t that T stays below with probability p, for p = 0.95 or 0.975 and df >= 1
--
-- All but the last agree with SciPy to a relative 1e-10, far tails included (docs/statistics.md states the range
-- tried); t_quantile, which serves intervals only, to a relative 1e-6.
-- NULL in gives NULL out, and so do degrees of freedom that are not positive.
--
-- Each macro first evaluates its arguments in a query without a FROM. DuckDB pastes the caller's expressions
-- into a macro's body; there no column of the body can be mistaken for one of the caller's.

-- The logarithm, NULL where there is none: DuckDB 1.5 raises an error at 0 even in a branch that is not taken.
CREATE OR REPLACE MACRO ln_or_null(x) AS ln(if(x > 0, x, NULL));

-- ln(1 + x) without loss of digits for small x.
CREATE OR REPLACE MACRO ln_1p(x) AS (
    WITH given AS (SELECT x::DOUBLE AS ln_1p_x)
    SELECT if(1.0 + ln_1p_x = 1.0, ln_1p_x, ln_or_null(1.0 + ln_1p_x) * ln_1p_x / ((1.0 + ln_1p_x) - 1.0))
    FROM given
);

-- Remainder of Stirling's formula: lgamma(z) - [(z - 1/2) ln z - z + ln(2 pi) / 2]. The series is used from
-- z = 16 on, where its first omitted term is below 1e-17.
CREATE OR REPLACE MACRO stirling_remainder(z) AS (
    WITH given AS (SELECT z::DOUBLE AS stirling_z)
    SELECT if(
        stirling_z < 16,
        lgamma(stirling_z) - ((stirling_z - 0.5) * ln(stirling_z) - stirling_z + 0.5 * ln(2 * pi())),
        (1.0 / 12
            - (1.0 / 360
                - (1.0 / 1260
                    - (1.0 / 1680
                        - (1.0 / 1188
                            - 691.0 / 360360 / stirling_z ** 2)
                        / stirling_z ** 2)
                    / stirling_z ** 2)
                / stirling_z ** 2)
            / stirling_z ** 2)
        / stirling_z)
    FROM given
);

-- The continued fraction of the incomplete beta function by Lentz's method: two steps of the fraction, one even
-- and one odd, per level of the recursion, until a step changes nothing. It converges fast for
-- x < (a + 1) / (a + b + 2); ibeta sees to that.
CREATE OR REPLACE MACRO ibeta_fraction(a, b, x) AS (
    WITH RECURSIVE given AS (
        SELECT a::DOUBLE AS cf_a, b::DOUBLE AS cf_b, x::DOUBLE AS cf_x
    ),
    lentz AS (
        SELECT
            cf_a, cf_b, cf_x,
            0 AS step,
            1.0::DOUBLE AS c,
            1.0 / (1.0 - (cf_a + cf_b) * cf_x / (cf_a + 1.0)) AS d,
            1.0 / (1.0 - (cf_a + cf_b) * cf_x / (cf_a + 1.0)) AS fraction,
            1.0::DOUBLE AS change
        FROM given
        WHERE cf_a > 0 AND cf_b > 0 AND cf_x >= 0 AND cf_x <= 1
        UNION ALL
        SELECT
            cf_a, cf_b, cf_x,
            step,
            1.0 + odd / c_even AS c,
            1.0 / (1.0 + odd * d_even) AS d,
            fraction * d_even * c_even * (1.0 + odd / c_even) / (1.0 + odd * d_even) AS fraction,
            abs((1.0 + odd / c_even) / (1.0 + odd * d_even) - 1.0) AS change
        FROM (
            SELECT
                cf_a, cf_b, cf_x, step, fraction, odd,
                1.0 + even / c AS c_even,
                1.0 / (1.0 + even * d) AS d_even
            FROM (
                SELECT
                    cf_a, cf_b, cf_x, c, d, fraction,
                    step + 1 AS step,
                    (step + 1) * (cf_b - (step + 1)) * cf_x
                        / ((cf_a + 2 * step + 1) * (cf_a + 2 * step + 2)) AS even,
                    -(cf_a + step + 1) * (cf_a + cf_b + step + 1) * cf_x
                        / ((cf_a + 2 * step + 2) * (cf_a + 2 * step + 3)) AS odd
                FROM lentz
                WHERE change > 1e-16 AND step < 20000
            ) AS coefficients
        ) AS after_even
    )
    SELECT arg_max(fraction, step) FROM lentz
);

-- x^a (1 - x)^b / (a B(a, b)), written around the mode a / (a + b) so that nothing large cancels when a and b
-- are large. `y` is 1 - x, given separately because the caller knows it to full precision.
CREATE OR REPLACE MACRO ibeta_front(a, b, x, y) AS (
    WITH given AS (
        SELECT a::DOUBLE AS front_a, b::DOUBLE AS front_b, x::DOUBLE AS front_x, y::DOUBLE AS front_y
    )
    SELECT if(front_x <= 0 OR front_y <= 0, 0.0, exp(
        -- Near the mode log1p keeps the digits, far from it the plain logarithm does.
        front_a * if(
            front_x * (front_a + front_b) / front_a BETWEEN 0.5 AND 2,
            ln_1p((front_x * front_b - front_y * front_a) / front_a),
            ln_or_null(front_x) + ln((front_a + front_b) / front_a))
        + front_b * if(
            front_y * (front_a + front_b) / front_b BETWEEN 0.5 AND 2,
            ln_1p((front_y * front_a - front_x * front_b) / front_b),
            ln_or_null(front_y) + ln((front_a + front_b) / front_b))
        + 0.5 * ln(front_b / (front_a * 2 * pi() * (front_a + front_b)))
        + stirling_remainder(front_a + front_b) - stirling_remainder(front_a) - stirling_remainder(front_b)))
    FROM given
    WHERE front_a > 0 AND front_b > 0
);

-- I_x(a, b) from x and y = 1 - x. Beyond the mean the arguments are exchanged, I_x(a, b) = 1 - I_y(b, a): there the
-- fraction converges fast, and a small answer is never the difference of two numbers near 1. They are exchanged
-- before the fraction is called and not around it, because DuckDB evaluates subqueries in every branch of a CASE.
CREATE OR REPLACE MACRO ibeta_xy(a, b, x, y) AS (
    WITH given AS (
        SELECT a::DOUBLE AS beta_a, b::DOUBLE AS beta_b, x::DOUBLE AS beta_x, y::DOUBLE AS beta_y
    ),
    turned AS (
        SELECT
            beta_x >= (beta_a + 1) / (beta_a + beta_b + 2) AS exchanged,
            if(exchanged, beta_b, beta_a) AS turned_a,
            if(exchanged, beta_a, beta_b) AS turned_b,
            if(exchanged, beta_y, beta_x) AS turned_x,
            if(exchanged, beta_x, beta_y) AS turned_y
        FROM given
        WHERE beta_a > 0 AND beta_b > 0 AND beta_x >= 0 AND beta_y >= 0 AND NOT isnan(beta_x)
    ),
    tail AS (
        SELECT
            exchanged,
            ibeta_front(turned_a, turned_b, turned_x, turned_y)
                * ibeta_fraction(turned_a, turned_b, turned_x) AS area
        FROM turned
    )
    SELECT if(exchanged, 1.0 - area, area) FROM tail
);

CREATE OR REPLACE MACRO ibeta(a, b, x) AS ibeta_xy(a, b, x, 1.0 - x);

CREATE OR REPLACE MACRO f_sf(f, df1, df2) AS (
    WITH given AS (
        SELECT f::DOUBLE AS sf_f, df1::DOUBLE AS sf_df1, df2::DOUBLE AS sf_df2
    )
    SELECT CASE
        WHEN sf_f IS NULL OR isnan(sf_f) OR sf_df1 <= 0 OR sf_df2 <= 0 THEN NULL
        WHEN sf_f <= 0 THEN 1.0
        WHEN isinf(sf_f) THEN 0.0
        ELSE ibeta_xy(
            sf_df2 / 2, sf_df1 / 2,
            sf_df2 / (sf_df2 + sf_df1 * sf_f), sf_df1 * sf_f / (sf_df2 + sf_df1 * sf_f))
    END
    FROM given
);

CREATE OR REPLACE MACRO t_p2(t, df) AS f_sf(t * t, 1.0, df);

-- The upper tail of the normal distribution for z >= 0: a power series up to 2, beyond that the continued
-- fraction of Mills' ratio, z + 1/(z + 2/(z + 3/...)), evaluated from its 200th term inwards.
CREATE OR REPLACE MACRO normal_tail(z) AS (
    WITH RECURSIVE given AS (
        SELECT z::DOUBLE AS tail_z
    ),
    series AS (
        SELECT tail_z, 0 AS step, tail_z AS term, tail_z AS total FROM given WHERE tail_z <= 2
        UNION ALL
        SELECT
            tail_z, step + 1,
            term * tail_z * tail_z / (2 * step + 3),
            total + term * tail_z * tail_z / (2 * step + 3)
        FROM series
        WHERE term > total * 1e-18
    ),
    mills AS (
        SELECT tail_z, 200 AS step, tail_z AS denominator FROM given WHERE tail_z > 2
        UNION ALL
        SELECT tail_z, step - 1, tail_z + step / denominator FROM mills WHERE step > 0
    )
    SELECT CASE
        WHEN tail_z <= 2
            THEN 0.5 - exp(-tail_z * tail_z / 2) / sqrt(2 * pi()) * (SELECT max(total) FROM series)
        ELSE exp(-tail_z * tail_z / 2) / sqrt(2 * pi()) / (SELECT arg_min(denominator, step) FROM mills)
    END
    FROM given
);

CREATE OR REPLACE MACRO normal_sf(z) AS (
    WITH given AS (SELECT z::DOUBLE AS sf_z)
    SELECT CASE
        WHEN sf_z IS NULL OR isnan(sf_z) THEN NULL
        WHEN isinf(sf_z) THEN if(sf_z > 0, 0.0, 1.0)
        WHEN sf_z >= 0 THEN normal_tail(sf_z)
        ELSE 1.0 - normal_tail(-sf_z)
    END
    FROM given
);

-- One step of Newton's method for the quantile, in the logarithms of t and of the tail: nearly a straight line.
CREATE OR REPLACE MACRO t_refined(start, p, df) AS (
    WITH given AS (
        SELECT start::DOUBLE AS refined_t, p::DOUBLE AS refined_p, df::DOUBLE AS refined_df
    ),
    tails AS (
        SELECT
            *,
            t_p2(refined_t, refined_df) / 2 AS tail,
            exp(lgamma((refined_df + 1) / 2) - lgamma(refined_df / 2)) / sqrt(refined_df * pi())
                * (1 + refined_t ** 2 / refined_df) ** (-(refined_df + 1) / 2) AS density
        FROM given
        WHERE refined_df >= 1
    )
    SELECT refined_t * exp((ln(tail) - ln(1 - refined_p)) * tail / (refined_t * density)) FROM tails
);

-- Hill's expansion (1970, Algorithm 396) of the quantile about that of the normal distribution or, where df is small,
-- in powers of the tail. Its error, 18 percent at df = 1 and below 0.1 percent from 2 on, is nearly exponential in df:
-- the divisor takes most of it out, and the refinement the rest.
CREATE OR REPLACE MACRO t_quantile(p, df) AS (
    WITH given AS (
        SELECT
            p::DOUBLE AS tq_p,
            df::DOUBLE AS tq_n,
            CASE p WHEN 0.95 THEN -1.6448536269514722 WHEN 0.975 THEN -1.959963984540054 END AS x
    ),
    terms AS (
        SELECT
            *,
            1 / (tq_n - 0.5) AS a,
            48 / a ** 2 AS b,
            ((20700 * a / b - 98) * a - 16) * a + 96.36 AS c,
            ((94.5 / (b + c) - 3) / b + 1) * sqrt(a * pi() / 2) * tq_n AS d,
            (d * 2 * (1 - tq_p)) ** (2 / tq_n) AS y,
            if(tq_n < 5, c + 0.3 * (tq_n - 4.5) * (x + 0.6), c) AS c_small,
            (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c_small AS c_near,
            (((((0.4 * x ** 2 + 6.3) * x ** 2 + 36) * x ** 2 + 94.5) / c_near - x ** 2 - 3) / b + 1) * x AS y_near
        FROM given
        WHERE tq_n >= 1
    ),
    expanded AS (
        SELECT
            tq_p, tq_n,
            sqrt(tq_n * if(
                y > 0.05 + a,
                exp(a * y_near ** 2) - 1,
                ((1 / (((tq_n + 6) / (tq_n * y) - 0.089 * d - 0.822) * (tq_n + 2) * 3) + 0.5 / (tq_n + 4)) * y - 1)
                    * (tq_n + 1) / (tq_n + 2) + 1 / y
            )) AS t
        FROM terms
    )
    SELECT t_refined(t / (1 + 0.183 * exp(-6.3 * (tq_n - 1))), tq_p, tq_n) FROM expanded
);
