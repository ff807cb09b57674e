-- Question: how alike are a model's maps and its maps with permuted weights, image by image?
-- Returns: one row per model: model_id; condition, pretraining, task, extra, seed; n_draws (of the permutation);
--   n_maps (pairs of maps), n_constant (pairs left out because one of them is constant); pearson (mean of the
--   correlations of absolute relevance, over images and draws), pearson_sd, pearson_min, pearson_max (over the draws'
--   means); note (why a figure is missing). No rows where masking.controls does not name `randomized`.
-- Paper: none; Adebayo et al. (2018), section 3.1.
-- Reads: models, relevance, randomized
-- Parameters: none
--
-- Absolute values are compared because masks go by them.

WITH pairs AS (
    SELECT
        model_id,
        draw,
        list_transform(relevance.map, lambda value: abs(value)::DOUBLE) AS own,
        list_transform(randomized.map, lambda value: abs(value)::DOUBLE) AS permuted
    FROM randomized
    JOIN relevance USING (model_id, image_id)
),
moments AS (
    SELECT
        model_id,
        draw,
        list_avg(own) AS own_mean,
        list_avg(permuted) AS permuted_mean,
        list_dot_product(own, own) / len(own) - own_mean ** 2 AS own_variance,
        list_dot_product(permuted, permuted) / len(own) - permuted_mean ** 2 AS permuted_variance,
        list_dot_product(own, permuted) / len(own) - own_mean * permuted_mean AS covariance,
        -- Rounding leaves a trace where there should be none.
        own_variance > 1e-12 * own_mean ** 2 AND permuted_variance > 1e-12 * permuted_mean ** 2 AS both_vary
    FROM pairs
),
by_draw AS (
    SELECT
        model_id,
        draw,
        count(*) FILTER (both_vary) AS n_maps,
        count(*) FILTER (NOT both_vary) AS n_constant,
        avg(covariance / sqrt(own_variance * permuted_variance)) FILTER (both_vary) AS pearson
    FROM moments
    GROUP BY model_id, draw
)
SELECT
    model_id,
    any_value(condition) AS condition,
    any_value(pretraining) AS pretraining,
    any_value(task) AS task,
    any_value(extra) AS extra,
    any_value(seed) AS seed,
    count(*) AS n_draws,
    sum(n_maps)::BIGINT AS n_maps,
    sum(n_constant)::BIGINT AS n_constant,
    avg(pearson) AS pearson,
    stddev_samp(pearson) AS pearson_sd,
    min(pearson) AS pearson_min,
    max(pearson) AS pearson_max,
    if(count(pearson) = 0, 'no figure: in every pair one map is constant', '') AS note
FROM by_draw
JOIN conditions USING (model_id)
GROUP BY model_id
ORDER BY any_value(condition), model_id;
