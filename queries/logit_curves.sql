-- Question: how fast does the logit of the true class fall as pixels are removed, by where the mask came from?
-- Returns: one row per condition of the destinations, bin, control, fill and masking level: condition, pretraining,
--   task, extra; relation (the bin); control ('none': masks by maps of the very image); fill; percent; n_destinations,
--   n_pairs, n_images; logit (of the true class: mean over destinations of the mean over sources, draws and images);
--   sd, sem (over destinations; NULL for a single one); kept (logit divided by that without a mask, the level of 0
--   percent; NULL where the study has no such level or that logit is not above 0); note (why a figure is missing).
-- Paper: none; the deletion curve of Petsiuk, Das and Saenko (2018), on logits, which do not saturate.
-- Reads: models, masked
-- Needs: auc
-- Parameters: attribution

WITH pairs AS (
    SELECT
        source_id,
        control,
        draw,
        fill,
        destination_id,
        percent,
        count(image_id) AS n_images,
        avg(target_logit) AS logit
    FROM masked_rows
    GROUP BY source_id, control, draw, fill, destination_id, percent
),
destinations AS (
    SELECT
        pairs.destination_id,
        relation,
        pairs.control,
        pairs.fill,
        percent,
        count(*) AS n_pairs,
        max(pairs.n_images) AS n_images,
        avg(logit) AS logit
    FROM pairs
    JOIN mask_auc USING (source_id, control, draw, fill, destination_id)
    WHERE complete
    GROUP BY pairs.destination_id, relation, pairs.control, pairs.fill, percent
),
kept AS (
    SELECT
        *,
        first_value(logit) OVER (PARTITION BY destination_id, relation, control, fill ORDER BY percent) AS first_logit,
        min(percent) OVER (PARTITION BY destination_id, relation, control, fill) AS first_percent
    FROM destinations
)
SELECT
    condition,
    any_value(pretraining) AS pretraining,
    any_value(task) AS task,
    any_value(extra) AS extra,
    relation,
    control,
    fill,
    percent,
    count(*) AS n_destinations,
    sum(n_pairs)::BIGINT AS n_pairs,
    nullif(max(n_images), 0) AS n_images,
    avg(logit) AS logit,
    stddev_samp(logit) AS sd,
    stddev_samp(logit) / sqrt(count(*)) AS sem,
    if(any_value(first_percent) = 0 AND avg(first_logit) > 0, avg(logit) / avg(first_logit), NULL) AS kept,
    CASE
        WHEN max(n_images) = 0 THEN 'masked holds counts instead of images'
        WHEN any_value(first_percent) > 0 THEN 'no share kept: the study has no level of 0 percent'
        WHEN avg(first_logit) <= 0 THEN 'no share kept: the logit without a mask is not above 0'
        ELSE ''
    END AS note
FROM kept
JOIN conditions ON conditions.model_id = kept.destination_id
GROUP BY condition, relation, control, fill, percent
ORDER BY condition, relation, control, fill, percent;
