-- Question: how much more do a source's most relevant pixels matter than its least relevant ones?
-- Returns: one row per source, destination and fill: source_id, destination_id; relation (the bin); condition,
--   pretraining, task, extra, seed (of the destination); fill (of removed pixels); auc_most (area under accuracy over
--   log10(percent) with the most relevant pixels removed first), auc_least (the same with the least relevant first);
--   srg (auc_least - auc_most: what any mask does to the image cancels; 0 for a map in random order); note (why a figure is
--   missing). No rows where masking.controls does not name `reversed`, which removes the least relevant pixels first.
-- Paper: none; Blücher, Vielhaben and Strodthoff (2024), symmetric relevance gain. Issue 15.
-- Reads: models, masked
-- Needs: auc
-- Parameters: none

SELECT
    source_id,
    destination_id,
    relation,
    condition,
    pretraining,
    task,
    extra,
    seed,
    fill,
    mask_log AS auc_most,
    control_log AS auc_least,
    loss_log AS srg,
    CASE
        WHEN NOT complete_inside OR n_draws = 0 THEN 'levels or images are missing for this pair: sweep run'
        WHEN loss_log IS NULL THEN 'an area needs two masking levels between 0 and 100 percent'
        ELSE ''
    END AS note
FROM losses
JOIN conditions ON conditions.model_id = losses.destination_id
WHERE control = 'reversed'
ORDER BY fill, condition, destination_id, relation, source_id;
