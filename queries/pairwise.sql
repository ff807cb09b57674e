-- Question: for each kind of destination model, which mask sources differ in how much they hurt?
-- Returns: three rows per condition and pair of bins: condition, pretraining, task, extra; measure ('auc', or
--   'specific_loss' against `control`), control, fill (of removed pixels); source_a, source_b (the bins); test
--   ('paired' = t test of the models' own differences; 'unpaired' = Student's t with pooled variance, the
--   between-subjects reading of the paper; 'welch' = unpaired without the assumption of equal variances); n_a, n_b
--   (models; the same ones when paired); mean_a, mean_b (of the measure); difference (mean_a - mean_b), std_error,
--   df, t, p (two-sided); p_holm (Holm's correction over the pairs of this condition and test); cohens_d (difference
--   / standard deviation: of the differences when paired, else pooled, or the root mean square of the two for
--   'welch'); note (why a test is impossible; such a pair does not count in Holm's correction).
-- Paper: sections 3.2 and 3.3, the "multiple-comparisons-corrected tests": "Pairwise tests confirm that in all four
--   cases, the AUC for these two curves was indistinguishable, all ps > 0.06", "all ps < 0.03", "all ps > 0.92".
-- Reads: models, masked
-- Needs: auc
-- Parameters: auc_axis, compare, fill, measure, control, attribution

CREATE OR REPLACE TEMP VIEW pairwise AS
WITH observations AS (
    SELECT condition, destination_id, relation, auc
    FROM compared_auc
    WHERE auc IS NOT NULL
),
groups AS (
    SELECT
        condition, relation,
        count(*) AS n,
        avg(auc) AS mean,
        var_samp(auc) AS variance,
        sum(auc * auc) AS raw_ss
    FROM observations
    GROUP BY condition, relation
),
unpaired AS (
    SELECT
        condition,
        a.relation AS source_a,
        b.relation AS source_b,
        a.n AS n_a,
        b.n AS n_b,
        a.mean AS mean_a,
        b.mean AS mean_b,
        -- A group of one has no variance of its own; the pooled variance is then the other group's.
        (coalesce((a.n - 1) * a.variance, 0) + coalesce((b.n - 1) * b.variance, 0)) / nullif(a.n + b.n - 2, 0)
            AS pooled,
        a.variance / a.n AS share_a,
        b.variance / b.n AS share_b,
        (a.variance + b.variance) / 2 AS mean_variance,
        (a.raw_ss + b.raw_ss) / (a.n + b.n) AS scale
    FROM groups AS a
    JOIN groups AS b USING (condition)
    WHERE a.relation < b.relation
),
paired AS (
    SELECT
        condition,
        a.relation AS source_a,
        b.relation AS source_b,
        count(*) AS n,
        avg(a.auc) AS mean_a,
        avg(b.auc) AS mean_b,
        avg(a.auc - b.auc) AS difference,
        var_samp(a.auc - b.auc) AS variance,
        avg((a.auc * a.auc + b.auc * b.auc) / 2) AS scale
    FROM observations AS a
    JOIN observations AS b USING (condition, destination_id)
    WHERE a.relation < b.relation
    GROUP BY condition, a.relation, b.relation
),
tests AS (
    SELECT
        condition, source_a, source_b,
        'paired' AS test,
        coalesce(n, 0) AS n_a,
        coalesce(n, 0) AS n_b,
        paired.mean_a,
        paired.mean_b,
        difference,
        variance / n AS error_variance,
        n - 1.0::DOUBLE AS df,
        sqrt(variance) AS deviation,
        paired.scale
    FROM unpaired
    LEFT JOIN paired USING (condition, source_a, source_b)
    UNION ALL
    SELECT
        condition, source_a, source_b, 'unpaired', n_a, n_b, mean_a, mean_b,
        mean_a - mean_b,
        pooled * (1 / n_a + 1 / n_b),
        n_a + n_b - 2,
        sqrt(pooled),
        scale
    FROM unpaired
    UNION ALL
    SELECT
        condition, source_a, source_b, 'welch', n_a, n_b, mean_a, mean_b,
        mean_a - mean_b,
        share_a + share_b,
        -- Welch and Satterthwaite's degrees of freedom.
        (share_a + share_b) ** 2 / nullif(share_a ** 2 / (n_a - 1) + share_b ** 2 / (n_b - 1), 0),
        sqrt(mean_variance),
        scale
    FROM unpaired
),
judged AS (
    SELECT
        *,
        CASE
            WHEN test = 'paired' AND n_a = 0 THEN 'no test: no model was measured with both mask sources'
            WHEN error_variance IS NULL THEN 'no test: too few models for a variance (more seeds are needed)'
            -- Rounding leaves a trace where there should be none: below 1e-10 of the values it is no variance.
            WHEN error_variance <= 1e-20 * scale THEN 'no test: no variance'
        END AS obstacle
    FROM tests
),
tested AS (
    SELECT
        *,
        if(obstacle IS NULL, difference / sqrt(error_variance), NULL) AS t,
        if(obstacle IS NULL, t_p2(difference / sqrt(error_variance), df), NULL) AS p
    FROM judged
),
-- Holm (1979): the i-th smallest of m p-values times m - i + 1, never below the one before it.
ranked AS (
    SELECT
        *,
        row_number() OVER (family ORDER BY p NULLS LAST, source_a, source_b) AS place,
        count(p) OVER family AS n_tests
    FROM tested
    WINDOW family AS (PARTITION BY condition, test)
),
corrected AS (
    SELECT
        *,
        if(
            p IS NULL, NULL,
            least(1.0, max(p * (n_tests - place + 1)) OVER (PARTITION BY condition, test ORDER BY place))
        ) AS p_holm
    FROM ranked
),
all_conditions AS (
    SELECT DISTINCT condition, pretraining, task, extra FROM conditions
)
SELECT
    condition,
    pretraining,
    task,
    extra,
    setting('measure', ['auc', 'specific_loss']) AS measure,
    getvariable('control_used')::VARCHAR AS control,
    getvariable('fill_used')::VARCHAR AS fill,
    source_a,
    source_b,
    test,
    n_a,
    n_b,
    mean_a,
    mean_b,
    difference,
    if(obstacle IS NULL, sqrt(error_variance), NULL) AS std_error,
    if(obstacle IS NULL, df, NULL) AS df,
    t,
    p,
    p_holm,
    if(obstacle IS NULL, difference / deviation, NULL) AS cohens_d,
    if(source_a IS NULL, 'no test: fewer than two mask sources to compare', coalesce(obstacle, '')) AS note
FROM all_conditions
LEFT JOIN corrected USING (condition);

SELECT *
FROM pairwise
ORDER BY condition, test, source_a, source_b;
