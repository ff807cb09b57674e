-- Question: do two models fail on the same images when they see the same masks?
-- Returns: one row per pair of conditions (or of models: parameter `per`), fill, control and masking level: relation
--   (which factors differ between the two), condition_a, condition_b; model_a, model_b ('all' when per =
--   'condition'); fill (of removed pixels), control ('none' = masks by maps of the very image), percent; n_pairs (of
--   different models), n_masks (sources and draws per pair, mean), n_images; accuracy_a, accuracy_b; observed (share
--   of images on which both are right or both are wrong), expected (the same if their errors had nothing to do with
--   each other); kappa (Cohen's, the mean over pairs: 1 where they fail on the same images, 0 where as independent
--   models would), kappa_sd (over pairs); n_undefined (pairs without a kappa, as models that are always right have no
--   errors to compare); note (why a figure is missing).
-- Paper: none; Geirhos, Meding and Wichmann (2020), equations 1 and 2.
-- Reads: models, masked
-- Needs: auc
-- Parameters: per, attribution
--
-- For a pair of models, observed and expected agreement are counted for each mask source on its own and then averaged:
-- thrown together, sources that hurt more and less would pass for consistency.

WITH answers AS (
    SELECT
        source_id,
        control,
        draw,
        fill,
        destination_id,
        percent,
        sum(coalesce(n, 1))::BIGINT AS n_images,
        sum(correct::INTEGER) / sum(coalesce(n, 1)) AS accuracy,
        -- Counts do not say which images were right.
        if(count(n) = 0, list(correct::INTEGER::DOUBLE ORDER BY image_id), NULL) AS hits
    FROM masked_rows
    GROUP BY source_id, control, draw, fill, destination_id, percent
),
whole AS (
    SELECT answers.*, condition, setting('per', ['condition', 'model']) AS per
    FROM answers
    JOIN conditions ON conditions.model_id = answers.destination_id
    SEMI JOIN mask_auc USING (source_id, control, draw, fill)
    QUALIFY n_images = max(n_images) OVER (PARTITION BY fill)
),
masks AS (
    SELECT
        a.condition AS condition_a,
        b.condition AS condition_b,
        a.destination_id AS model_a,
        b.destination_id AS model_b,
        a.fill,
        a.control,
        a.percent,
        a.per,
        a.n_images,
        a.accuracy AS accuracy_a,
        b.accuracy AS accuracy_b,
        -- Both right, and both wrong.
        1 - a.accuracy - b.accuracy + 2 * list_dot_product(a.hits, b.hits) / a.n_images AS observed,
        a.accuracy * b.accuracy + (1 - a.accuracy) * (1 - b.accuracy) AS expected
    FROM whole AS a
    JOIN whole AS b USING (source_id, control, draw, fill, percent, n_images)
    WHERE (a.condition, a.destination_id) < (b.condition, b.destination_id)
),
pairs AS (
    SELECT
        condition_a,
        condition_b,
        model_a,
        model_b,
        fill,
        control,
        percent,
        any_value(per) AS per,
        any_value(n_images) AS n_images,
        count(*) AS n_masks,
        avg(accuracy_a) AS accuracy_a,
        avg(accuracy_b) AS accuracy_b,
        avg(observed) AS observed,
        avg(expected) AS expected,
        -- Rounding leaves a trace where there should be none.
        if(avg(expected) < 1 - 1e-12, (avg(observed) - avg(expected)) / (1 - avg(expected)), NULL) AS kappa
    FROM masks
    GROUP BY condition_a, condition_b, model_a, model_b, fill, control, percent
)
SELECT
    any_value(relation) AS relation,
    condition_a,
    condition_b,
    if(per = 'condition', 'all', pairs.model_a) AS model_a,
    if(per = 'condition', 'all', pairs.model_b) AS model_b,
    fill,
    control,
    percent,
    count(*) AS n_pairs,
    avg(n_masks) AS n_masks,
    any_value(n_images) AS n_images,
    avg(accuracy_a) AS accuracy_a,
    avg(accuracy_b) AS accuracy_b,
    avg(observed) AS observed,
    avg(expected) AS expected,
    avg(kappa) AS kappa,
    stddev_samp(kappa) AS kappa_sd,
    count(*) - count(kappa) AS n_undefined,
    CASE
        WHEN count(observed) = 0 THEN 'no kappa: masked holds counts instead of images'
        WHEN count(kappa) = 0 THEN 'no kappa: both models are always right, or always wrong'
        ELSE ''
    END AS note
FROM pairs
JOIN relations ON relations.source_id = pairs.model_a AND relations.destination_id = pairs.model_b
GROUP BY
    condition_a, condition_b, if(per = 'condition', 'all', pairs.model_a),
    if(per = 'condition', 'all', pairs.model_b), fill, control, percent
ORDER BY fill, control, condition_a, condition_b, 4, 5, percent;
