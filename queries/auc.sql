-- Question: how well does a model withstand each mask, as one number per source and destination?
-- Returns: source_id, destination_id; relation (the bin); condition, pretraining, task, extra, seed (of the
--   destination); n_levels, n_images (masking levels and images evaluated); complete (false where the pair lacks
--   levels or images that others have: such a pair enters no bin and no test); auc_log (area under accuracy over
--   log10(percent), for percents strictly between 0 and 100, divided by its range: 1.0 = never hurt); auc_linear
--   (the same over percent, 0 and 100 included where present); note (why a figure is missing).
-- Paper: section 3.1, "We quantified the resilience of each destination model to relevance-based masking by
--   computing the area-under-the-curve (AUC) for different source models."
-- Reads: models, masked
-- Parameters: none
--
-- Also leaves, for the files that follow: pair_accuracy and auc (temporary tables, so that `masked` is read only
-- once), bin_auc (mean over the sources of a bin), drawn_sources (the paper's random draws).

CREATE OR REPLACE TEMP TABLE pair_accuracy AS
SELECT
    accuracy.source_id,
    accuracy.destination_id,
    coalesce(relation, 'random') AS relation,
    percent,
    n,
    accuracy.correct / n AS accuracy
FROM accuracy
JOIN conditions ON conditions.model_id = accuracy.destination_id
LEFT JOIN relations USING (source_id, destination_id)
-- A source that is neither a model of the study nor a random mask is left over from another version of the study.
WHERE relation IS NOT NULL OR starts_with(accuracy.source_id, 'random-');

CREATE OR REPLACE TEMP TABLE auc AS
WITH steps AS (
    SELECT
        *,
        if(percent > 0 AND percent < 100, log10(percent), NULL) AS log_percent,
        lag(percent) OVER pair AS percent_before,
        lag(log_percent) OVER pair AS log_percent_before,
        lag(accuracy) OVER pair AS accuracy_before
    FROM pair_accuracy
    WINDOW pair AS (PARTITION BY source_id, destination_id ORDER BY percent)
),
areas AS (
    SELECT
        source_id,
        destination_id,
        any_value(relation) AS relation,
        count(*) AS n_levels,
        min(n) AS n_images,
        -- With no two levels there is no width, and NULL instead of an area.
        sum((accuracy + accuracy_before) / 2 * (log_percent - log_percent_before))
            / nullif(max(log_percent) - min(log_percent), 0) AS auc_log,
        sum((accuracy + accuracy_before) / 2 * (percent - percent_before))
            / nullif(max(percent) - min(percent), 0) AS auc_linear
    FROM steps
    GROUP BY source_id, destination_id
),
expected AS (
    SELECT count(DISTINCT percent) AS n_levels, max(n) AS n_images FROM pair_accuracy
)
SELECT
    source_id,
    destination_id,
    relation,
    condition,
    pretraining,
    task,
    extra,
    seed,
    areas.n_levels,
    areas.n_images,
    areas.n_levels = expected.n_levels AND areas.n_images = expected.n_images AS complete,
    auc_log,
    auc_linear,
    CASE
        WHEN NOT complete THEN 'levels or images are missing for this pair: sweep run'
        WHEN auc_log IS NULL THEN 'an area needs two masking levels between 0 and 100 percent'
        ELSE ''
    END AS note
FROM areas
JOIN conditions ON conditions.model_id = areas.destination_id
CROSS JOIN expected;

-- The value that the tests compare: for a destination and a bin, the mean AUC over all sources of the bin.
CREATE OR REPLACE TEMP VIEW bin_auc AS
SELECT
    condition,
    any_value(pretraining) AS pretraining,
    any_value(task) AS task,
    any_value(extra) AS extra,
    any_value(seed) AS seed,
    destination_id,
    relation,
    count(*) AS n_sources,
    avg(auc_log) AS auc_log,
    avg(auc_linear) AS auc_linear,
    avg(if(setting('auc_axis', ['log', 'linear']) = 'log', auc_log, auc_linear)) AS auc
FROM auc
WHERE complete
GROUP BY condition, destination_id, relation;

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
    FROM bin_auc
)
SELECT bin_auc.*
FROM bin_auc
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
