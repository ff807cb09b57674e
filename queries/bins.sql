-- Question: how well does each model withstand masks from each bin of sources, exactly and by the paper's draws?
-- Returns: one row per destination and bin: condition, pretraining, task, extra, seed, destination_id, relation (the
--   bin); fill (of removed pixels); n_sources; auc_log, auc_linear (means over all sources of the bin: the values
--   used by the tests); n_draws, drawn_auc_log, drawn_auc_linear (means over the seeded draws with replacement);
--   drawn_se_log, drawn_se_linear (what the draws add in uncertainty: standard deviation over draws / sqrt(n_draws)).
-- Paper: section 2.4, "For each of the 20 possible destination models, a source model was chosen with replacement
--   100 times per bin."
-- Reads: models, masked
-- Needs: auc
-- Parameters: draws, draw_seed, fill, attribution

WITH drawn AS (
    SELECT
        destination_id,
        relation,
        count(*) AS n_draws,
        avg(auc_log) AS drawn_auc_log,
        avg(auc_linear) AS drawn_auc_linear,
        stddev_samp(auc_log) / sqrt(count(*)) AS drawn_se_log,
        stddev_samp(auc_linear) / sqrt(count(*)) AS drawn_se_linear
    FROM drawn_sources
    JOIN auc USING (source_id, destination_id, relation)
    GROUP BY destination_id, relation
)
SELECT
    condition,
    pretraining,
    task,
    extra,
    seed,
    destination_id,
    relation,
    fill,
    n_sources,
    auc_log,
    auc_linear,
    n_draws,
    drawn_auc_log,
    drawn_auc_linear,
    drawn_se_log,
    drawn_se_linear
FROM bin_auc
LEFT JOIN drawn USING (destination_id, relation)
ORDER BY condition, destination_id, relation;
