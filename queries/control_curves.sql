-- Question: how does accuracy fall under a model's own masks, and under the controls that remove as many pixels elsewhere?
-- Returns: one row per condition of the destinations, fill, control ('none': the model's own masks) and masking level:
--   condition, pretraining, task, extra; fill; control; percent; n_destinations; accuracy (mean over destinations of the
--   mean over the draws of the control); sd, sem (over destinations; NULL for a single one); chance (1 / number of
--   classes).
-- Paper: figures 5 and 6 show own masks beside random pixels, the control 'scattered'.
-- Reads: models, masked
-- Needs: auc
-- Parameters: attribution

WITH own AS (
    SELECT destination_id, fill, control, percent, avg(accuracy) AS accuracy
    FROM mask_accuracy
    SEMI JOIN (FROM mask_auc WHERE complete) AS complete USING (source_id, control, draw, fill, destination_id)
    WHERE relation IN ('same_init', 'random', 'blocks')
    GROUP BY destination_id, fill, control, percent
)
SELECT
    condition,
    any_value(pretraining) AS pretraining,
    any_value(task) AS task,
    any_value(extra) AS extra,
    fill,
    control,
    percent,
    count(*) AS n_destinations,
    avg(accuracy) AS accuracy,
    stddev_samp(accuracy) AS sd,
    stddev_samp(accuracy) / sqrt(count(*)) AS sem,
    1.0::DOUBLE / any_value(n_classes) AS chance
FROM own
JOIN conditions ON conditions.model_id = own.destination_id
GROUP BY condition, fill, control, percent
ORDER BY condition, fill, control, percent;
