-- Question: how much more do a source's most relevant pixels matter than its least relevant ones?
-- Returns: one row per source, destination and fill: source_id, destination_id; relation (the bin); condition,
--   pretraining, task, extra, seed (of the destination); fill (of removed pixels); auc_most (area under accuracy over
--   log10(percent) with the most relevant pixels removed first), auc_least (the same with the least relevant first);
--   srg (auc_least - auc_most: what any mask does to the image cancels; 0 for a map in random order); note (why a figure is
--   missing). No rows where masking.controls does not name `reversed`, which removes the least relevant pixels first.
-- Paper: none; Blücher, Vielhaben and Strodthoff (2024), symmetric relevance gain.
-- Reads: models, masked
-- Needs: specific_loss
-- Parameters: attribution
--
-- In the DuckDB shell, read specific_loss.sql before this file.

SELECT
    * EXCLUDE (control, n_draws, auc_mask, auc_control, loss, note),
    auc_mask AS auc_most,
    auc_control AS auc_least,
    loss AS srg,
    note
FROM specific_losses
WHERE control = 'reversed'
ORDER BY fill, condition, destination_id, relation, source_id;
