-- Question: how much more does each mask hurt than its control, which removes as many pixels elsewhere?
-- Returns: one row per source, destination, fill and control: source_id, destination_id; relation (the bin);
--   condition, pretraining, task, extra, seed (of the destination); fill (of removed pixels); control ('other_image',
--   'mean_map', 'randomized', 'reversed': of the same source; 'scattered', 'blocks': of no source, so that they serve every one);
--   n_draws (of the control); auc_mask, auc_control (areas over log10(percent) between the smallest level above 0 and
--   the largest below 100 percent; the control's is the mean over its draws); loss (auc_control - auc_mask: above 0
--   where the mask hurts more); note (why a figure is missing).
-- Paper: none; the paper compares masks with each other and with scattered pixels.
-- Reads: models, masked
-- Needs: auc
-- Parameters: attribution
--
-- Also leaves specific_losses (a temporary view: this answer, in no order).

CREATE OR REPLACE TEMP VIEW specific_losses AS
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
    control,
    n_draws,
    mask_log AS auc_mask,
    control_log AS auc_control,
    loss_log AS loss,
    CASE
        WHEN NOT complete_inside THEN 'levels or images are missing for this pair: sweep run'
        WHEN n_draws = 0 THEN 'levels or images are missing for the control: sweep run'
        WHEN loss_log IS NULL THEN 'an area needs two masking levels between 0 and 100 percent'
        ELSE ''
    END AS note
FROM losses
JOIN conditions ON conditions.model_id = losses.destination_id;

SELECT *
FROM specific_losses
ORDER BY fill, control, condition, destination_id, relation, source_id;
