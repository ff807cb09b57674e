-- Question: how alike are the relevance maps of two models for the same image, by how the models are related?
-- Returns: one row per relation over all conditions (condition_a = condition_b = 'all'), and one per relation and
--   unordered pair of conditions: relation (the bin), condition_a, condition_b; n_pairs (of models), n_maps (pairs of
--   maps), n_constant (pairs of maps left out because one of them is constant); pearson (mean over pairs of models of
--   their mean over images), pearson_sd (over pairs of models), pearson_fisher (the same mean by Fisher's z, which
--   does not shrink strong correlations), pearson_min, pearson_max (over pairs of models); note.
-- Paper: section 2.3, "To measure similarity between maps generated from different models for the same face image, we
--   computed the Pearson's coefficient between vectorized relevance maps"; figure 4.
-- Reads: models, similarity
-- Parameters: none

WITH pairs AS (
    SELECT
        model_a,
        model_b,
        count(pearson) AS n_maps,
        count(*) - count(pearson) AS n_constant,
        avg(pearson) AS pearson,
        -- A correlation of exactly 1 has an infinite z; it is held just below.
        avg(atanh(greatest(-1 + 1e-15, least(1 - 1e-15, pearson)))) FILTER (pearson IS NOT NULL) AS z
    FROM similarity
    GROUP BY model_a, model_b
),
related AS (
    SELECT
        relation,
        least(a.condition, b.condition) AS condition_a,
        greatest(a.condition, b.condition) AS condition_b,
        pairs.*
    FROM pairs
    JOIN relations ON relations.source_id = model_a AND relations.destination_id = model_b
    JOIN conditions AS a ON a.model_id = model_a
    JOIN conditions AS b ON b.model_id = model_b
)
SELECT
    relation,
    coalesce(condition_a, 'all') AS condition_a,
    coalesce(condition_b, 'all') AS condition_b,
    count(pearson) AS n_pairs,
    sum(n_maps)::BIGINT AS n_maps,
    sum(n_constant)::BIGINT AS n_constant,
    avg(pearson) AS pearson,
    stddev_samp(pearson) AS pearson_sd,
    tanh(avg(z)) AS pearson_fisher,
    min(pearson) AS pearson_min,
    max(pearson) AS pearson_max,
    if(count(pearson) = 0, 'no figure: in every pair one map is constant', '') AS note
FROM related
GROUP BY GROUPING SETS ((relation), (relation, condition_a, condition_b))
ORDER BY grouping(related.condition_a) DESC, relation, condition_a, condition_b;
