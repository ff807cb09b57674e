-- Question: for each kind of destination model, does resilience depend on which kind of model the mask came from?
-- Returns: two rows per condition: condition, pretraining, task, extra; measure ('auc', or 'specific_loss' against
--   `control`), control, fill (of removed pixels); design ('between' = one-way ANOVA as printed in the paper,
--   'repeated' = the same models measured with each mask source); sources (the bins compared);
--   n_sources, n_models, n_observations; df, df_error, sum_sq, sum_sq_error, f, p; sum_sq_subjects (repeated: between
--   models, else NULL); gg_epsilon, gg_df, gg_df_error, gg_p (repeated: Greenhouse-Geisser correction for
--   unequal covariances of the sources, else NULL); note (why a test is impossible, or what was left out).
-- Paper: figure 6 and section 3.1, "a repeated-measures ANOVA revealed a significant main effect of mask source on the
--   AUC of the destination model (all F(3, 16)s > 3.3, all ps < 0.05)".
-- Reads: models, masked
-- Needs: auc
-- Parameters: auc_axis, compare, fill, measure, control, attribution

CREATE OR REPLACE TEMP VIEW anova_source AS
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
        var_pop(auc) * count(*) AS ss_within,
        sum(auc * auc) AS raw_ss
    FROM observations
    GROUP BY condition, relation
),
grand AS (
    SELECT
        condition,
        string_agg(relation, ', ' ORDER BY relation) AS sources,
        count(*) AS k,
        sum(n) AS n_observations,
        sum(n * mean) / sum(n) AS mean,
        sum(ss_within) AS ss_within,
        sum(raw_ss) AS raw_ss
    FROM groups
    GROUP BY condition
),
between_sums AS (
    SELECT
        condition,
        any_value(n_observations) AS n_observations,
        sum(n * (groups.mean - grand.mean) ** 2) AS ss_source,
        any_value(grand.ss_within) AS ss_error,
        any_value(grand.raw_ss) AS raw_ss
    FROM groups
    JOIN grand USING (condition)
    GROUP BY condition
),

-- Repeated measures: models that were measured with every source, rows and columns centred.
complete AS (
    SELECT observations.*, k
    FROM observations
    JOIN grand USING (condition)
    QUALIFY count(*) OVER (PARTITION BY condition, destination_id) = k
),
centred AS (
    SELECT
        condition, destination_id, relation, auc, k,
        avg(auc) OVER of_all AS grand_mean,
        avg(auc) OVER of_source AS source_mean,
        avg(auc) OVER of_model AS model_mean
    FROM complete
    WINDOW
        of_all AS (PARTITION BY condition),
        of_source AS (PARTITION BY condition, relation),
        of_model AS (PARTITION BY condition, destination_id)
),
repeated_sums AS (
    SELECT
        condition,
        count(DISTINCT destination_id) AS n_models,
        count(*) AS n_observations,
        sum((source_mean - grand_mean) ** 2) AS ss_source,
        sum((model_mean - grand_mean) ** 2) AS ss_subjects,
        sum((auc - source_mean - model_mean + grand_mean) ** 2) AS ss_error,
        sum(auc * auc) AS raw_ss
    FROM centred
    GROUP BY condition
),
-- Greenhouse & Geisser (1959): with the doubly centred covariance matrix C of the k sources,
-- epsilon = trace(C)^2 / ((k - 1) sum of squares of C). Residuals give C up to a factor that cancels.
covariances AS (
    SELECT
        one.condition,
        one.relation = other.relation AS on_diagonal,
        sum((one.auc - one.source_mean - one.model_mean + one.grand_mean)
            * (other.auc - other.source_mean - other.model_mean + other.grand_mean)) AS covariance
    FROM centred AS one
    JOIN centred AS other USING (condition, destination_id)
    GROUP BY one.condition, one.relation, other.relation
),
sphericity AS (
    SELECT
        condition,
        sum(covariance) FILTER (on_diagonal) ** 2 / nullif((any_value(k) - 1) * sum(covariance ** 2), 0) AS epsilon
    FROM covariances
    JOIN grand USING (condition)
    GROUP BY condition
),

designs AS (
    SELECT
        condition,
        'between' AS design,
        (SELECT count(DISTINCT destination_id) FROM observations AS o WHERE o.condition = grand.condition) AS n_models,
        between_sums.n_observations,
        k - 1 AS df,
        between_sums.n_observations - k AS df_error,
        ss_source AS sum_sq,
        ss_error AS sum_sq_error,
        NULL::DOUBLE AS sum_sq_subjects,
        NULL::DOUBLE AS epsilon,
        between_sums.raw_ss
    FROM grand
    JOIN between_sums USING (condition)
    UNION ALL
    SELECT
        condition,
        'repeated' AS design,
        coalesce(n_models, 0) AS n_models,
        coalesce(repeated_sums.n_observations, 0) AS n_observations,
        k - 1 AS df,
        (k - 1) * (coalesce(n_models, 0) - 1) AS df_error,
        ss_source AS sum_sq,
        ss_error AS sum_sq_error,
        ss_subjects AS sum_sq_subjects,
        epsilon,
        repeated_sums.raw_ss
    FROM grand
    LEFT JOIN repeated_sums USING (condition)
    LEFT JOIN sphericity USING (condition)
),
all_conditions AS (
    SELECT
        condition,
        any_value(pretraining) AS pretraining,
        any_value(task) AS task,
        any_value(extra) AS extra,
        count(*) AS all_models
    FROM conditions
    GROUP BY condition
),
judged AS (
    SELECT
        all_conditions.*,
        named.design,
        coalesce(sources, '') AS sources,
        coalesce(k, 0) AS k,
        coalesce(n_models, 0) AS n_models,
        coalesce(designs.n_observations, 0) AS n_observations,
        df, df_error, sum_sq, sum_sq_error, sum_sq_subjects, epsilon,
        CASE
            WHEN coalesce(k, 0) < 2 THEN 'no test: fewer than two mask sources to compare'
            WHEN n_models = 0 THEN 'no test: no model was measured with every mask source'
            WHEN df_error <= 0 THEN 'no test: no error degrees of freedom (more seeds are needed)'
            -- Rounding leaves a trace where there should be none: below 1e-10 of the values it is no variance.
            WHEN sum_sq_error <= 1e-20 * designs.raw_ss THEN 'no test: no error variance'
        END AS obstacle,
        if(n_models < all_models, (all_models - n_models) || ' model(s) left out for want of masks', '') AS omission
    FROM all_conditions
    CROSS JOIN (VALUES ('between'), ('repeated')) AS named (design)
    LEFT JOIN designs ON designs.condition = all_conditions.condition AND designs.design = named.design
    LEFT JOIN grand ON grand.condition = all_conditions.condition
)
SELECT
    condition,
    pretraining,
    task,
    extra,
    setting('measure', ['auc', 'specific_loss']) AS measure,
    getvariable('control_used')::VARCHAR AS control,
    getvariable('fill_used')::VARCHAR AS fill,
    design,
    sources,
    k AS n_sources,
    n_models,
    n_observations::BIGINT AS n_observations,
    df,
    greatest(df_error, 0)::BIGINT AS df_error,
    sum_sq,
    sum_sq_error,
    if(obstacle IS NULL, (sum_sq / df) / (sum_sq_error / df_error), NULL) AS f,
    if(obstacle IS NULL, f_sf((sum_sq / df) / (sum_sq_error / df_error), df, df_error), NULL) AS p,
    sum_sq_subjects,
    if(obstacle IS NULL, epsilon, NULL) AS gg_epsilon,
    if(obstacle IS NULL, epsilon * df, NULL) AS gg_df,
    if(obstacle IS NULL, epsilon * df_error, NULL) AS gg_df_error,
    if(
        obstacle IS NULL,
        f_sf((sum_sq / df) / (sum_sq_error / df_error), epsilon * df, epsilon * df_error), NULL
    ) AS gg_p,
    coalesce(obstacle, omission) AS note
FROM judged;

SELECT *
FROM anova_source
ORDER BY condition, design;
