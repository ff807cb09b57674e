-- Question: do people agree more with models whose masks transfer better?
-- Returns: four rows per experiment: experiment_id; role ('source' = how much of what other models' own masks find the
--   model's masks find as well; 'destination' = how much of what its own masks find those of other models find), scope
--   ('all' models, or 'within' conditions: agreement and index both less the mean of their condition); fill (of removed
--   pixels), control; n_models (with an agreement and an index); rho (Spearman's correlation of the agreement of people
--   with a model and the model's transfer index), low, high (95 percent interval, bootstrap over models), n_resamples (with
--   a correlation); meaning (what it generalises to); note (why a figure is missing).
-- Paper: none.
-- Reads: models, predictions, masked, human_trials, human_responses, human_sessions
-- Needs: auc, human_models
-- Parameters: experiment, fastest, fill, control, resamples, draw_seed, attribution
--
-- In the DuckDB shell, read human_models.sql before this file. A model's index is a ratio of means over all other models,
-- as in transfer.sql: mean specific loss of foreign masks divided by that of own masks.

SET VARIABLE resamples_used = coalesce(getvariable('resamples')::BIGINT, 1000);
SET VARIABLE resamples_used = if(
    getvariable('resamples_used') >= 10, getvariable('resamples_used'), error('resamples must be at least 10'));

SET VARIABLE human_control = (
    SELECT chosen_control(existing)
    FROM (
        SELECT coalesce(list(DISTINCT control ORDER BY control), []::VARCHAR[]) AS existing
        FROM losses
        WHERE fill = getvariable('fill_used')::VARCHAR
    )
);

WITH pairs AS (
    SELECT source_id, destination_id, loss_log AS loss
    FROM losses
    WHERE fill = getvariable('fill_used')::VARCHAR
        AND control = getvariable('human_control')::VARCHAR
        AND loss_log IS NOT NULL
),
foreign_pairs AS (
    SELECT pairs.source_id, pairs.destination_id, pairs.loss, own.loss AS own_loss
    FROM pairs
    JOIN pairs AS own ON own.source_id = pairs.destination_id AND own.destination_id = pairs.destination_id
    WHERE pairs.source_id <> pairs.destination_id
),
indices AS (
    SELECT 'source' AS role, source_id AS model_id, avg(loss) AS loss, avg(own_loss) AS own_loss
    FROM foreign_pairs
    GROUP BY source_id
    UNION ALL
    SELECT 'destination', destination_id, avg(loss), avg(own_loss)
    FROM foreign_pairs
    GROUP BY destination_id
),
indexed AS (
    SELECT experiment_id, role, condition, model_id, agreement, loss / own_loss AS transfer
    FROM human_agreement_of_models
    JOIN indices USING (model_id)
    WHERE own_loss > 0
),
scoped AS (
    SELECT experiment_id, role, 'all' AS scope, model_id, agreement, transfer FROM indexed
    UNION ALL
    SELECT
        experiment_id, role, 'within', model_id,
        agreement - avg(agreement) OVER (PARTITION BY experiment_id, role, condition),
        transfer - avg(transfer) OVER (PARTITION BY experiment_id, role, condition)
    FROM indexed
    -- The only model of its condition tells nothing of what is within it.
    QUALIFY count(*) OVER (PARTITION BY experiment_id, role, condition) > 1
),
placed AS (
    SELECT
        *,
        -- Means are sums of rounded numbers: what should be equal may differ in its last digits.
        round(agreement, 12) AS x,
        round(transfer, 12) AS y,
        row_number() OVER (PARTITION BY experiment_id, role, scope ORDER BY model_id) AS place,
        count(*) OVER (PARTITION BY experiment_id, role, scope) AS n
    FROM scoped
),
-- Resample 0 is the models as they are.
draws AS (
    SELECT
        sizes.n,
        resample,
        position,
        if(
            resample = 0, position,
            1 + (md5_number_lower(
                concat_ws('|', getvariable('draw_seed_used'), 'human', resample, position)) % sizes.n)::BIGINT
        ) AS place
    FROM (SELECT DISTINCT n FROM placed) AS sizes
    CROSS JOIN range(0, getvariable('resamples_used') + 1) AS numbered (resample)
    CROSS JOIN LATERAL (SELECT unnest(range(1, sizes.n + 1)) AS position) AS positions
),
ranked AS (
    SELECT
        experiment_id, role, scope, resample, n,
        -- Equal values share the mean of their ranks.
        rank() OVER (same_sample ORDER BY x) + (count(*) OVER (PARTITION BY experiment_id, role, scope, resample, x) - 1) / 2
            AS x_rank,
        rank() OVER (same_sample ORDER BY y) + (count(*) OVER (PARTITION BY experiment_id, role, scope, resample, y) - 1) / 2
            AS y_rank
    FROM placed
    JOIN draws USING (n, place)
    WINDOW same_sample AS (PARTITION BY experiment_id, role, scope, resample)
),
correlations AS (
    SELECT
        experiment_id, role, scope, resample,
        any_value(n) AS n_models,
        if(var_pop(x_rank) > 0 AND var_pop(y_rank) > 0, corr(x_rank, y_rank), NULL) AS rho
    FROM ranked
    GROUP BY experiment_id, role, scope, resample
),
answers AS (
    SELECT
        experiment_id, role, scope,
        any_value(n_models) AS n_models,
        max(rho) FILTER (resample = 0) AS rho,
        quantile_cont(rho, 0.025) FILTER (resample > 0) AS low,
        quantile_cont(rho, 0.975) FILTER (resample > 0) AS high,
        count(rho) FILTER (resample > 0) AS n_resamples
    FROM correlations
    GROUP BY experiment_id, role, scope
)
SELECT
    experiment_id,
    role,
    scope,
    getvariable('fill_used')::VARCHAR AS fill,
    getvariable('human_control')::VARCHAR AS control,
    coalesce(n_models, 0) AS n_models,
    if(n_models > 2, rho, NULL) AS rho,
    if(n_models > 2 AND rho IS NOT NULL, low, NULL) AS low,
    if(n_models > 2 AND rho IS NOT NULL, high, NULL) AS high,
    if(n_models > 2 AND rho IS NOT NULL, n_resamples, 0) AS n_resamples,
    if(
        scope = 'all',
        'Contains the difference between conditions: any preference for one of them makes such a correlation. It says nothing '
            || 'of single models.',
        'Generalises to further seeds of these conditions; these very observers and targets.'
    ) AS meaning,
    CASE
        WHEN getvariable('human_control') IS NULL THEN 'no correlation: the study has no control'
        WHEN coalesce(n_models, 0) < 3
            THEN 'no correlation: three models are needed with an agreement and with own masks that pass the control'
        WHEN rho IS NULL THEN 'no correlation: all models have the same agreement or the same index'
        ELSE ''
    END AS note
FROM (SELECT DISTINCT experiment_id FROM human_agreement_of_models) AS experiments
CROSS JOIN (SELECT unnest(['source', 'destination']) AS role)
CROSS JOIN (SELECT unnest(['all', 'within']) AS scope)
LEFT JOIN answers USING (experiment_id, role, scope)
ORDER BY experiment_id, scope, role DESC;
