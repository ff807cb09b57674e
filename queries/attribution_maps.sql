-- Question: how alike are the maps that two attributions make of one model, image by image?
-- Returns: one row per unordered pair of attributions over all conditions (condition = 'all'), and one per condition:
--   attribution_a, attribution_b (in the order of the study); condition; n_models; n_maps (pairs of maps), n_constant
--   (pairs left out because one of them is constant); pearson (mean over models of the mean over images of the
--   correlation of absolute values), pearson_sd (over models), pearson_min, pearson_max (over models); note (why a figure
--   is missing). No rows where the study has one attribution.
-- Paper: none; the paper has one attribution.
-- Reads: models, relevance
-- Parameters: none
--
-- Absolute values are compared because masks go by them.

WITH maps AS (
    SELECT getvariable('attribution_levels')[1] AS attribution, model_id, image_id, map FROM relevance
    UNION ALL
    SELECT attribution, model_id, image_id, map FROM attributions
),
moments AS (
    SELECT
        list_position(getvariable('attribution_levels'), attribution) AS place,
        model_id,
        image_id,
        list_transform(map, lambda value: abs(value)::DOUBLE) AS own,
        list_avg(own) AS mean,
        list_dot_product(own, own) / len(own) - mean ** 2 AS variance,
        -- Rounding leaves a trace where there should be none.
        variance > 1e-12 * mean ** 2 AS varies
    FROM maps
    WHERE place IS NOT NULL
),
pairs AS (
    SELECT
        a.place AS place_a,
        b.place AS place_b,
        model_id,
        a.varies AND b.varies AS both_vary,
        (list_dot_product(a.own, b.own) / len(a.own) - a.mean * b.mean) / sqrt(a.variance * b.variance) AS pearson
    FROM moments AS a
    JOIN moments AS b USING (model_id, image_id)
    WHERE a.place < b.place
),
by_model AS (
    SELECT
        place_a,
        place_b,
        model_id,
        count(*) FILTER (both_vary) AS n_maps,
        count(*) FILTER (NOT both_vary) AS n_constant,
        avg(pearson) FILTER (both_vary) AS pearson
    FROM pairs
    GROUP BY place_a, place_b, model_id
)
SELECT
    getvariable('attribution_levels')[place_a] AS attribution_a,
    getvariable('attribution_levels')[place_b] AS attribution_b,
    coalesce(condition, 'all') AS condition,
    count(*) AS n_models,
    sum(n_maps)::BIGINT AS n_maps,
    sum(n_constant)::BIGINT AS n_constant,
    avg(pearson) AS pearson,
    stddev_samp(pearson) AS pearson_sd,
    min(pearson) AS pearson_min,
    max(pearson) AS pearson_max,
    if(count(pearson) = 0, 'no figure: in every pair one map is constant', '') AS note
FROM by_model
JOIN conditions USING (model_id)
GROUP BY GROUPING SETS ((place_a, place_b), (place_a, place_b, condition))
ORDER BY grouping(conditions.condition) DESC, condition, place_a, place_b;
