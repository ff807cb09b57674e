-- Question: how well does a model withstand each mask, as one number per source and destination?
-- Returns: source_id, destination_id; fill (of removed pixels); relation (the bin); condition, pretraining, task,
--   extra, seed (of the destination); n_levels, n_images (masking levels and images evaluated); complete (false where
--   the pair lacks levels or images that others have: such a pair enters no bin and no test); auc_log (area under
--   accuracy over log10(percent), for percents strictly between 0 and 100, divided by its range: 1.0 = never hurt);
--   auc_linear (the same over percent, 0 and 100 included where present); note (why a figure is missing).
-- Paper: section 3.1, "We quantified the resilience of each destination model to relevance-based masking by
--   computing the area-under-the-curve (AUC) for different source models."
-- Reads: models, masked
-- Parameters: fill, attribution
--
-- Also leaves, for the files that follow: mask_accuracy and mask_auc (temporary tables of all fills and controls, so
-- that `masked` is read only once until views.sql is read again), pair_accuracy and auc (of the chosen fill, without
-- the controls that belong to a source), bin_auc (mean over the sources of a bin), losses (specific losses of all fills and controls), bin_measure
-- and compared_auc (what the tests compare), drawn_sources (the paper's random draws).

CREATE TEMP TABLE IF NOT EXISTS mask_accuracy AS
SELECT
    accuracy.source_id,
    control,
    draw,
    fill,
    accuracy.destination_id,
    CASE control WHEN 'scattered' THEN 'random' WHEN 'blocks' THEN 'blocks' ELSE relations.relation END AS relation,
    percent,
    n,
    accuracy.correct / n AS accuracy
FROM accuracy
JOIN conditions ON conditions.model_id = accuracy.destination_id
LEFT JOIN relations USING (source_id, destination_id)
-- A source that is neither a model of the study nor a random mask is left over from another version of the study.
WHERE relations.relation IS NOT NULL OR control IN ('scattered', 'blocks');

SET VARIABLE fill_used = (
    SELECT CASE
        WHEN getvariable('fill') IS NULL THEN if(list_contains(existing, 'linear'), 'linear', existing[1])
        WHEN list_contains(existing, getvariable('fill')::VARCHAR) THEN getvariable('fill')::VARCHAR
        ELSE error('fill is ''' || getvariable('fill')::VARCHAR || ''' but the fills of this study are: '
            || array_to_string(existing, ', '))
    END
    FROM (SELECT coalesce(list(DISTINCT fill ORDER BY fill), []::VARCHAR[]) AS existing FROM mask_accuracy)
);

CREATE OR REPLACE TEMP TABLE pair_accuracy AS
SELECT source_id, destination_id, fill, relation, percent, n, accuracy
FROM mask_accuracy
WHERE fill = getvariable('fill_used')::VARCHAR AND control IN ('none', 'scattered', 'blocks');

CREATE TEMP TABLE IF NOT EXISTS mask_auc AS
WITH steps AS (
    SELECT
        *,
        if(percent > 0 AND percent < 100, log10(percent), NULL) AS log_percent,
        lag(percent) OVER pair AS percent_before,
        lag(log_percent) OVER pair AS log_percent_before,
        lag(accuracy) OVER pair AS accuracy_before
    FROM mask_accuracy
    WINDOW pair AS (PARTITION BY source_id, control, draw, fill, destination_id ORDER BY percent)
),
areas AS (
    SELECT
        source_id,
        control,
        draw,
        fill,
        destination_id,
        any_value(relation) AS relation,
        count(*) AS n_levels,
        count(log_percent) AS n_inner_levels,
        min(n) AS n_images,
        -- With no two levels there is no width, and NULL instead of an area.
        sum((accuracy + accuracy_before) / 2 * (log_percent - log_percent_before))
            / nullif(max(log_percent) - min(log_percent), 0) AS auc_log,
        sum((accuracy + accuracy_before) / 2 * (percent - percent_before))
            / nullif(max(percent) - min(percent), 0) AS auc_linear
    FROM steps
    GROUP BY source_id, control, draw, fill, destination_id
),
expected AS (
    SELECT
        fill,
        count(DISTINCT percent) AS n_levels,
        count(DISTINCT percent) FILTER (percent > 0 AND percent < 100) AS n_inner_levels,
        max(n) AS n_images
    FROM mask_accuracy
    GROUP BY fill
)
SELECT
    areas.*,
    areas.n_images = expected.n_images AND areas.n_levels = expected.n_levels AS complete,
    -- The area over log10(percent) needs neither 0 nor 100 percent.
    areas.n_images = expected.n_images AND areas.n_inner_levels = expected.n_inner_levels AS complete_inside
FROM areas
JOIN expected USING (fill);

CREATE OR REPLACE TEMP TABLE auc AS
SELECT
    source_id,
    destination_id,
    fill,
    relation,
    condition,
    pretraining,
    task,
    extra,
    seed,
    n_levels,
    n_images,
    complete,
    auc_log,
    auc_linear,
    CASE
        WHEN NOT complete THEN 'levels or images are missing for this pair: sweep run'
        WHEN auc_log IS NULL THEN 'an area needs two masking levels between 0 and 100 percent'
        ELSE ''
    END AS note
FROM mask_auc
JOIN conditions ON conditions.model_id = mask_auc.destination_id
WHERE fill = getvariable('fill_used')::VARCHAR AND control IN ('none', 'scattered', 'blocks');

-- For a destination and a bin, the mean AUC over all sources of the bin.
CREATE OR REPLACE TEMP VIEW bin_auc AS
SELECT
    condition,
    any_value(pretraining) AS pretraining,
    any_value(task) AS task,
    any_value(extra) AS extra,
    any_value(seed) AS seed,
    destination_id,
    relation,
    any_value(fill) AS fill,
    count(*) AS n_sources,
    avg(auc_log) AS auc_log,
    avg(auc_linear) AS auc_linear,
    avg(if(setting('auc_axis', ['log', 'linear']) = 'log', auc_log, auc_linear)) AS auc
FROM auc
WHERE complete
GROUP BY condition, destination_id, relation;

-- Specific loss: how much more a mask hurts than its control does. The mean over the draws of a control.
CREATE OR REPLACE TEMP VIEW losses AS
WITH controls AS (
    SELECT
        -- A control that depends on no source serves every source.
        if(relation IN ('random', 'blocks'), NULL, source_id) AS control_source,
        destination_id,
        fill,
        control,
        count(*) FILTER (complete_inside) AS n_draws,
        avg(auc_log) FILTER (complete_inside) AS auc_log,
        avg(auc_linear) FILTER (complete) AS auc_linear
    FROM mask_auc
    WHERE control <> 'none'
    GROUP BY control_source, destination_id, fill, control
)
SELECT
    masks.source_id,
    masks.destination_id,
    masks.relation,
    masks.fill,
    controls.control,
    controls.n_draws,
    masks.complete_inside,
    masks.auc_log AS mask_log,
    controls.auc_log AS control_log,
    if(masks.complete_inside, controls.auc_log - masks.auc_log, NULL) AS loss_log,
    if(masks.complete, controls.auc_linear - masks.auc_linear, NULL) AS loss_linear
FROM mask_auc AS masks
JOIN controls
    ON controls.destination_id = masks.destination_id
    AND controls.fill = masks.fill
    AND (controls.control_source IS NULL OR controls.control_source = masks.source_id)
WHERE masks.control = 'none';

-- The control that `control` names, or else the strictest of those that exist.
CREATE OR REPLACE TEMP MACRO chosen_control(existing) AS CASE
    WHEN getvariable('control') IS NULL
        THEN list_filter(
            ['other_image', 'mean_map', 'randomized', 'blocks', 'scattered', 'reversed'],
            lambda control: list_contains(existing, control))[1]
    WHEN list_contains(existing, getvariable('control')::VARCHAR) THEN getvariable('control')::VARCHAR
    ELSE error('control is ''' || getvariable('control')::VARCHAR || ''' but the controls of this study are: '
        || array_to_string(existing, ', '))
END;

-- The control that the tests measure specific losses against; '' where they compare areas.
SET VARIABLE control_used = (
    SELECT CASE
        WHEN setting('measure', ['auc', 'specific_loss']) = 'auc' THEN ''
        WHEN len(existing) = 0
            THEN error('measure is ''specific_loss'' but the study has no control under the fill '''
                || coalesce(getvariable('fill_used')::VARCHAR, '') || '''; set masking.controls')
        ELSE chosen_control(existing)
    END
    FROM (
        SELECT coalesce(list(DISTINCT control ORDER BY control), []::VARCHAR[]) AS existing
        FROM mask_auc
        WHERE fill = getvariable('fill_used')::VARCHAR AND control <> 'none'
    )
);

-- The value that the tests compare, for a destination and a bin: the mean area, or the mean specific loss.
CREATE OR REPLACE TEMP VIEW bin_measure AS
SELECT condition, pretraining, task, extra, destination_id, relation, auc
FROM bin_auc
WHERE setting('measure', ['auc', 'specific_loss']) = 'auc'
UNION ALL
SELECT
    any_value(condition) AS condition,
    any_value(pretraining) AS pretraining,
    any_value(task) AS task,
    any_value(extra) AS extra,
    destination_id,
    relation,
    avg(if(setting('auc_axis', ['log', 'linear']) = 'log', loss_log, loss_linear)) AS auc
FROM losses
JOIN conditions ON conditions.model_id = losses.destination_id
WHERE setting('measure', ['auc', 'specific_loss']) = 'specific_loss'
    AND fill = getvariable('fill_used')::VARCHAR
    AND control = getvariable('control_used')::VARCHAR
GROUP BY destination_id, relation
HAVING auc IS NOT NULL;

-- The bins compared by the tests of mask sources: those of the paper, or those of the setting `compare`.
CREATE OR REPLACE TEMP VIEW compared_auc AS
WITH chosen AS (
    SELECT
        list(DISTINCT relation ORDER BY relation) AS existing,
        if(
            getvariable('compare') IS NULL,
            list_filter(existing, lambda bin: bin = 'same_init' OR starts_with(bin, 'other_')),
            list_transform(string_split(getvariable('compare')::VARCHAR, ','), lambda bin: trim(bin))
        ) AS wanted
    FROM bin_measure
)
SELECT bin_measure.*
FROM bin_measure
CROSS JOIN chosen
WHERE if(
    list_has_all(existing, wanted),
    list_contains(wanted, relation),
    error('compare is ''' || getvariable('compare') || ''' but the bins of this study are: '
        || array_to_string(existing, ', ')));

-- Per destination and bin, sources drawn with replacement. The numbers come from MD5 and not from random() or
-- hash(), so that every version of DuckDB, on any number of threads, draws the same.
CREATE OR REPLACE TEMP VIEW drawn_sources AS
WITH bins AS (
    SELECT destination_id, relation, list(source_id ORDER BY source_id) AS sources
    FROM auc
    WHERE complete
    GROUP BY destination_id, relation
)
SELECT
    destination_id,
    relation,
    draw,
    sources[1 + (
        md5_number_lower(concat_ws('|', getvariable('draw_seed_used'), destination_id, relation, draw)) % len(sources)
    )::BIGINT] AS source_id
FROM bins
CROSS JOIN range(1, getvariable('draws_used') + 1) AS numbered (draw);

SELECT *
FROM auc
ORDER BY condition, destination_id, relation, source_id;
