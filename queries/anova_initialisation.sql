-- Question: does resilience to masking depend on the pretraining, and on whether the mask came from the model itself
--   or from the same kind of model with another initialisation?
-- Returns: six rows per task (and per combination of extra factors): task, extra; measure ('auc', or 'specific_loss'
--   against `control`), control, fill (of removed pixels); design ('between' = two-way between-subjects ANOVA as
--   printed in the paper, 'mixed' = mask source within models, pretraining between them);
--   effect ('pretraining', 'mask_source', 'pretraining:mask_source'); n_models, n_observations, n_pretrainings;
--   df, df_error, sum_sq, sum_sq_error, f, p; sum_sq_subjects (mixed design: models within pretraining, else NULL);
--   note (why a test is impossible, or what was left out; '' otherwise).
-- Paper: figure 5 and section 3.1, "a two-way repeated-measures ANOVA was run ... dataset (F(1, 16) = 49.6,
--   p = 2.8e-6) ... We found no main effect of mask source (F(1, 16) = 1.88, p = 0.19)"; gender F(1, 16) = 34.5.
-- Reads: models, masked
-- Needs: auc
-- Parameters: auc_axis, fill, measure, control, attribution
--
-- Sums of squares are of type III (each cell mean counts once, however many seeds it has): how many seeds were
-- trained says nothing about the population. A factor of two levels gives them in closed form, by weighted squares
-- of means (Yates 1934): an effect is a set of contrasts of cell means, each weighted by its inverse variance.

CREATE OR REPLACE TEMP VIEW anova_initialisation AS
WITH observations AS (
    SELECT task, extra, pretraining, destination_id, relation = 'same_init' AS same_init, auc
    FROM bin_measure
    WHERE relation IN ('same_init', 'same_task_same_pretraining') AND auc IS NOT NULL
),
strata AS (
    SELECT
        task,
        extra,
        count(DISTINCT pretraining) AS all_pretrainings,
        count(DISTINCT model_id) AS all_models
    FROM conditions
    GROUP BY task, extra
),

-- As printed: every observation on its own.
cells AS (
    SELECT
        task, extra, pretraining, same_init,
        count(*) AS n,
        avg(auc) AS mean,
        var_pop(auc) * count(*) AS ss_within,
        sum(auc * auc) AS raw_ss
    FROM observations
    GROUP BY task, extra, pretraining, same_init
),
between_rows AS (
    SELECT
        task, extra, pretraining,
        sum(n) AS n,
        avg(mean) AS level,
        sum(if(same_init, mean, -mean)) AS difference,
        sum(1 / n) AS inverse_n,
        sum(ss_within) AS ss_within,
        sum(raw_ss) AS raw_ss
    FROM cells
    GROUP BY task, extra, pretraining
    HAVING count(*) = 2
),
between_centres AS (
    SELECT
        task, extra,
        sum(level / inverse_n) / sum(1 / inverse_n) AS level,
        sum(difference / inverse_n) / sum(1 / inverse_n) AS difference
    FROM between_rows
    GROUP BY task, extra
),
between_sums AS (
    SELECT
        task, extra,
        count(*) AS a,
        sum(n) AS n_observations,
        4 * sum((rows.level - centres.level) ** 2 / inverse_n) AS ss_pretraining,
        avg(rows.difference) ** 2 * count(*) ** 2 / sum(inverse_n) AS ss_source,
        sum((rows.difference - centres.difference) ** 2 / inverse_n) AS ss_interaction,
        sum(ss_within) AS ss_error,
        sum(n) - 2 * count(*) AS df_error,
        sum(raw_ss) AS raw_ss
    FROM between_rows AS rows
    JOIN between_centres AS centres USING (task, extra)
    GROUP BY task, extra
),

-- Mixed: each model gives the mean and the difference of its two observations.
paired AS (
    SELECT
        task, extra, pretraining, destination_id,
        avg(auc) AS mean,
        sum(if(same_init, auc, -auc)) AS difference,
        sum(auc * auc) AS raw_ss
    FROM observations
    GROUP BY task, extra, pretraining, destination_id
    HAVING count(*) = 2
),
mixed_rows AS (
    SELECT
        task, extra, pretraining,
        count(*) AS n,
        avg(mean) AS mean,
        avg(difference) AS difference,
        var_pop(mean) * count(*) AS ss_mean,
        var_pop(difference) * count(*) AS ss_difference,
        sum(raw_ss) AS raw_ss
    FROM paired
    GROUP BY task, extra, pretraining
),
mixed_centres AS (
    SELECT
        task, extra,
        sum(n * mean) / sum(n) AS mean,
        sum(n * difference) / sum(n) AS difference
    FROM mixed_rows
    GROUP BY task, extra
),
mixed_sums AS (
    SELECT
        task, extra,
        count(*) AS a,
        sum(n) AS n_models,
        2 * sum(n * (rows.mean - centres.mean) ** 2) AS ss_pretraining,
        avg(rows.difference) ** 2 * count(*) ** 2 / sum(1 / n) / 2 AS ss_source,
        sum(n * (rows.difference - centres.difference) ** 2) / 2 AS ss_interaction,
        2 * sum(ss_mean) AS ss_subjects,
        sum(ss_difference) / 2 AS ss_error,
        sum(n) - count(*) AS df_error,
        sum(raw_ss) AS raw_ss
    FROM mixed_rows AS rows
    JOIN mixed_centres AS centres USING (task, extra)
    GROUP BY task, extra
),

effects AS (
    SELECT
        task, extra, 'between' AS design, effect, all_pretrainings, all_models,
        coalesce(a, 0) AS a,
        (SELECT count(DISTINCT destination_id)
            FROM observations
            JOIN between_rows USING (task, extra, pretraining)
            WHERE observations.task = strata.task AND observations.extra = strata.extra) AS n_models,
        coalesce(n_observations, 0) AS n_observations,
        if(effect = 'mask_source', 1, a - 1) AS df,
        df_error,
        CASE effect
            WHEN 'pretraining' THEN ss_pretraining
            WHEN 'mask_source' THEN ss_source
            ELSE ss_interaction
        END AS sum_sq,
        ss_error AS sum_sq_error,
        NULL::DOUBLE AS sum_sq_subjects,
        raw_ss
    FROM strata
    CROSS JOIN (VALUES ('pretraining'), ('mask_source'), ('pretraining:mask_source')) AS named (effect)
    LEFT JOIN between_sums USING (task, extra)
    UNION ALL
    SELECT
        task, extra, 'mixed' AS design, effect, all_pretrainings, all_models,
        coalesce(a, 0) AS a,
        coalesce(n_models, 0) AS n_models,
        coalesce(2 * n_models, 0) AS n_observations,
        if(effect = 'mask_source', 1, a - 1) AS df,
        df_error,
        CASE effect
            WHEN 'pretraining' THEN ss_pretraining
            WHEN 'mask_source' THEN ss_source
            ELSE ss_interaction
        END AS sum_sq,
        if(effect = 'pretraining', ss_subjects, ss_error) AS sum_sq_error,
        ss_subjects AS sum_sq_subjects,
        raw_ss
    FROM strata
    CROSS JOIN (VALUES ('pretraining'), ('mask_source'), ('pretraining:mask_source')) AS named (effect)
    LEFT JOIN mixed_sums USING (task, extra)
),
judged AS (
    SELECT
        *,
        CASE
            WHEN a = 0
                THEN 'no test: no model has masks both from itself and from another seed (two seeds are needed)'
            WHEN df = 0 THEN 'no test: one pretraining only'
            WHEN df_error = 0 THEN 'no test: no error degrees of freedom (more seeds are needed)'
            -- Rounding leaves a trace where there should be none: below 1e-10 of the values it is no variance.
            WHEN sum_sq_error <= 1e-20 * raw_ss THEN 'no test: no variance within cells'
        END AS obstacle,
        concat_ws('; ',
            if(a < all_pretrainings, (all_pretrainings - a) || ' pretraining(s) left out for want of a cell', NULL),
            if(n_models < all_models, (all_models - n_models) || ' model(s) left out for want of masks', NULL)
        ) AS omission
    FROM effects
)
SELECT
    task,
    extra,
    setting('measure', ['auc', 'specific_loss']) AS measure,
    getvariable('control_used')::VARCHAR AS control,
    getvariable('fill_used')::VARCHAR AS fill,
    design,
    effect,
    n_models::BIGINT AS n_models,
    n_observations::BIGINT AS n_observations,
    a AS n_pretrainings,
    df::BIGINT AS df,
    df_error::BIGINT AS df_error,
    sum_sq,
    sum_sq_error,
    if(obstacle IS NULL, (sum_sq / df) / (sum_sq_error / df_error), NULL) AS f,
    if(obstacle IS NULL, f_sf((sum_sq / df) / (sum_sq_error / df_error), df, df_error), NULL) AS p,
    sum_sq_subjects,
    coalesce(obstacle, omission) AS note
FROM judged;

SELECT *
FROM anova_initialisation
ORDER BY
    task, extra, design,
    list_position(['pretraining', 'mask_source', 'pretraining:mask_source'], effect);
