-- Question: how does accuracy fall as more of the relevant pixels are removed, by where the mask came from?
-- Returns: one row per condition (or per destination model: parameter `per`), bin and masking level: condition,
--   pretraining, task, extra; destination_id ('all' when per = 'condition'); relation (the bin); fill; percent;
--   n_destinations, n_pairs; accuracy (mean over destinations of the mean over all sources of the bin); sd, sem
--   (over destinations; NULL for a single one); drawn_accuracy (the same from the seeded draws); chance (1 / number
--   of classes).
-- Paper: figures 5 and 6, the curves: "percent accuracy of the model on the finetuning task as a function of the
--   percentage of masked pixels" (section 2).
-- Reads: models, masked
-- Needs: auc
-- Parameters: per, draws, draw_seed, fill, attribution

WITH complete_pairs AS (
    SELECT source_id, destination_id, fill, relation, percent, accuracy
    FROM pair_accuracy
    SEMI JOIN (SELECT source_id, destination_id FROM auc WHERE complete) USING (source_id, destination_id)
),
exact AS (
    SELECT
        destination_id, relation, percent,
        any_value(fill) AS fill,
        count(*) AS n_sources,
        avg(accuracy) AS accuracy
    FROM complete_pairs
    GROUP BY destination_id, relation, percent
),
drawn AS (
    SELECT destination_id, relation, percent, avg(accuracy) AS drawn_accuracy
    FROM drawn_sources
    JOIN complete_pairs USING (source_id, destination_id, relation)
    GROUP BY destination_id, relation, percent
)
SELECT
    condition,
    any_value(pretraining) AS pretraining,
    any_value(task) AS task,
    any_value(extra) AS extra,
    if(setting('per', ['condition', 'destination']) = 'condition', 'all', exact.destination_id) AS destination_id,
    exact.relation,
    any_value(fill) AS fill,
    exact.percent,
    count(*) AS n_destinations,
    sum(n_sources)::BIGINT AS n_pairs,
    avg(accuracy) AS accuracy,
    stddev_samp(accuracy) AS sd,
    stddev_samp(accuracy) / sqrt(count(*)) AS sem,
    avg(drawn_accuracy) AS drawn_accuracy,
    1.0::DOUBLE / any_value(n_classes) AS chance
FROM exact
LEFT JOIN drawn USING (destination_id, relation, percent)
JOIN conditions ON conditions.model_id = exact.destination_id
GROUP BY ALL
ORDER BY condition, destination_id, exact.relation, exact.percent;
