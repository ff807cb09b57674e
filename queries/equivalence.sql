-- Question: for each kind of destination model, which mask sources hurt alike, up to a difference that is too small to
--   matter?
-- Returns: three rows per condition and pair of bins, those of pairwise.sql: condition, pretraining, task, extra;
--   measure, control, fill; source_a, source_b (the bins); test ('paired', 'unpaired', 'welch'); n_a, n_b; difference
--   (mean_a - mean_b), std_error, df; bound; t_lower, p_lower (one-sided test of difference <= -bound); t_upper,
--   p_upper (of difference >= bound); p (the larger of the two: small where the difference lies within the bounds);
--   p_holm (Holm's correction over the pairs of this condition and test); low, high (interval of the difference that
--   lies within the bounds just where p <= 0.05: 90 percent); equivalent (p_holm <= 0.05); note (why a test is
--   impossible).
-- Paper: sections 3.2 and 3.3, "the AUC for these two curves was indistinguishable, all ps > 0.06": what a large p of
--   pairwise.sql does not show, these two one-sided tests (Schuirmann 1987) can.
-- Reads: models, masked
-- Needs: pairwise
-- Parameters: auc_axis, compare, fill, measure, control, bound, attribution
--
-- In the DuckDB shell, read pairwise.sql before this file.

SET VARIABLE bound_used = coalesce(getvariable('bound')::DOUBLE, 0.05);
SET VARIABLE bound_used = if(
    getvariable('bound_used') > 0, getvariable('bound_used'), error('bound must be above 0'));

WITH sides AS (
    SELECT
        *,
        getvariable('bound_used')::DOUBLE AS bound,
        (difference + bound) / std_error AS t_lower,
        (difference - bound) / std_error AS t_upper
    FROM pairwise
),
one_sided AS (
    SELECT
        *,
        -- Each is one tail of the two-sided p-value.
        if(t_lower > 0, t_p2(t_lower, df) / 2, 1 - t_p2(t_lower, df) / 2) AS p_lower,
        if(t_upper < 0, t_p2(t_upper, df) / 2, 1 - t_p2(t_upper, df) / 2) AS p_upper
    FROM sides
),
tested AS (
    SELECT *, greatest(p_lower, p_upper) AS p_both FROM one_sided
),
-- Holm (1979): the i-th smallest of m p-values times m - i + 1, never below the one before it.
ranked AS (
    SELECT
        *,
        row_number() OVER (family ORDER BY p_both NULLS LAST, source_a, source_b) AS place,
        count(p_both) OVER family AS n_tests
    FROM tested
    WINDOW family AS (PARTITION BY condition, test)
),
corrected AS (
    SELECT
        * EXCLUDE (p, p_holm),
        p_both AS p,
        if(
            p_both IS NULL, NULL,
            least(1.0, max(p_both * (n_tests - place + 1)) OVER (PARTITION BY condition, test ORDER BY place))
        ) AS p_holm
    FROM ranked
)
SELECT
    condition,
    pretraining,
    task,
    extra,
    measure,
    control,
    fill,
    source_a,
    source_b,
    test,
    n_a,
    n_b,
    difference,
    std_error,
    df,
    bound,
    t_lower,
    p_lower,
    t_upper,
    p_upper,
    p,
    p_holm,
    difference - t_quantile(0.95, df) * std_error AS low,
    difference + t_quantile(0.95, df) * std_error AS high,
    p_holm <= 0.05 AS equivalent,
    note
FROM corrected
ORDER BY condition, test, source_a, source_b;
