-- Purpose: the tables of a study, and how its models relate, as views over the Parquet files.
--
-- In the DuckDB shell:
--   SET VARIABLE results = 'results/umist';   -- a folder, or an address such as s3://bucket/umist
--   .read queries/functions.sql
--   .read queries/views.sql
--   .read queries/auc.sql
-- then any other file. Settings are variables too; set them before this file is read, or leave their defaults:
--   attribution  level of the factor attribution whose masks queries answer for (the study's first, its relevance)
--   auc_axis   'log' or 'linear': which AUC the tests compare ('log')
--   bound      largest difference that equivalence.sql counts as none, in units of AUC (0.05)
--   compare    bins the tests of mask sources compare, separated by commas (same_init and every other_... bin)
--   control    control that the specific loss of the tests is measured against (the first that the study has of
--              other_image, mean_map, randomized, blocks, scattered, reversed)
--   draws      random draws of a source per destination and bin, as in the paper (the study's analysis.draws)
--   draw_seed  seed of those draws and of resampling (the study's analysis.draw_seed)
--   experiment experiment that the queries on people answer for (every one that the study has)
--   fastest    seconds below which an answer of a person is left out (0.2)
--   fill       what removed pixels became, one of the study's fills ('linear' if the study has it, else the first)
--   measure    'auc' or 'specific_loss': what the tests compare ('auc')
--   per        rows of accuracy_curves.sql, 'condition' or 'destination' ('condition'), of transfer.sql, 'bin' or
--              'pair' ('bin'), and of error_consistency.sql and attributions.sql, 'condition' or 'model' ('condition')
--   resamples  resamples of the intervals in transfer.sql and human_transfer.sql (1000)
--   task       task shown by rank2.sql (every task with more than two classes)
--   index      the files that the study consists of (index.parquet beside the tables)

-- What auc.sql has computed of other results.
DROP TABLE IF EXISTS temp.mask_accuracy;
DROP TABLE IF EXISTS temp.mask_auc;

SET VARIABLE results = rtrim(coalesce(getvariable('results'), 'results'), '/');

-- The value of a text setting, by default the first that is allowed, or an error that names the values it can have.
CREATE OR REPLACE MACRO setting(name, allowed) AS
    if(
        list_contains(allowed, coalesce(getvariable(name)::VARCHAR, allowed[1])),
        coalesce(getvariable(name)::VARCHAR, allowed[1]),
        error(name || ' is ''' || getvariable(name)::VARCHAR || ''' but must be one of: '
            || array_to_string(allowed, ', '))
    );

-- Paths are patterns to DuckDB; what means something in a pattern stands for itself inside brackets.
CREATE OR REPLACE MACRO literally(path) AS regexp_replace(path, '([\[*?])', '[\1]', 'g');

-- A table's folder may hold files of earlier versions of the study. The index names those of the study as it ran last.
SET VARIABLE index_file = literally(coalesce(getvariable('index'), getvariable('results') || '/index.parquet'));
SET VARIABLE index_file = (
    SELECT if(count(*) > 0, getvariable('index_file'), error(
        getvariable('results') || ' holds no results with an index (index.parquet); run the study with: sweep run'))
    FROM glob(getvariable('index_file'))
);

CREATE OR REPLACE MACRO study_setting(name, otherwise) AS coalesce(
    getvariable(name)::VARCHAR,
    (SELECT decode(value) FROM parquet_kv_metadata(getvariable('index_file')) WHERE decode(key) = 'sweep.' || name),
    otherwise
);
SET VARIABLE draws_used = study_setting('draws', '100')::BIGINT;
SET VARIABLE draws_used = if(
    getvariable('draws_used') > 0, getvariable('draws_used'), error('draws must be at least 1'));
SET VARIABLE draw_seed_used = study_setting('draw_seed', '0')::BIGINT;

-- The levels of the factor attribution, the first of which is the study's own relevance; a study without the factor has
-- that alone.
SET VARIABLE attribution_levels = string_split(study_setting('attributions', 'lrp'), ',');
SET VARIABLE attribution_used = setting('attribution', getvariable('attribution_levels'));

-- The files of a table that the index names and that are there: a study that is not finished shows what it has.
CREATE OR REPLACE MACRO files_of(name) AS (
    SELECT list(literally(getvariable('results') || '/' || planned.file) ORDER BY planned.file)
    FROM read_parquet(getvariable('index_file')) AS planned
    WHERE table_name = name AND parse_filename(planned.file) IN (
        SELECT parse_filename(found.file)
        FROM glob(literally(getvariable('results')) || '/' || name || '/*.parquet') AS found)
);
SET VARIABLE files_images = files_of('images');
SET VARIABLE files_models = files_of('models');
SET VARIABLE files_epochs = files_of('epochs');
SET VARIABLE files_predictions = files_of('predictions');
SET VARIABLE files_relevance = files_of('relevance');
SET VARIABLE files_randomized = files_of('randomized');
SET VARIABLE files_attributions = files_of('attributions');
SET VARIABLE files_similarity = files_of('similarity');
SET VARIABLE files_masked = files_of('masked');
SET VARIABLE files_masked_attributions = files_of('masked_attributions');

-- The comparison with people: a folder per experiment, which the index does not name. A study may have none.
CREATE OR REPLACE MACRO files_of_experiments(file) AS (
    SELECT list(
        literally(getvariable('results')) || '/human/' || literally(string_split(found.file, '/')[-2]) || '/' || file
        ORDER BY found.file)
    FROM glob(literally(getvariable('results')) || '/human/*/' || file) AS found);
SET VARIABLE files_human_trials = files_of_experiments('trials.parquet');
SET VARIABLE files_human_responses = files_of_experiments('responses.parquet');
SET VARIABLE files_human_sessions = files_of_experiments('sessions.parquet');

-- Whether a table has no files although the index names some: nothing of it is made yet. A table of which the index
-- names none (there are no pairs of models where there is one model) is complete, and empty.
CREATE OR REPLACE MACRO lacks(name) AS getvariable('files_' || name) IS NULL AND (
    SELECT count(*) > 0 FROM read_parquet(getvariable('index_file')) WHERE table_name = name);

-- The text of a query that reads a table's files. Where a table lacks them, the query fails when it is used, and not
-- when the view is made. `columns` are those that other views mention by name; in `images` and `models` a study may add
-- columns, so files are matched by name.
CREATE OR REPLACE MACRO reading(name, columns) AS if(
    getvariable('files_' || name) IS NOT NULL,
    'FROM read_parquet(getvariable(''files_' || name || ''')'
        || if(name IN ('images', 'models'), ', union_by_name = true', '') || ')',
    'SELECT ' || array_to_string(list_transform(columns, lambda c: 'NULL::' || c), ', ')
        || ' WHERE ' || if(
            lacks(name),
            'error(''table ' || name || ' has no files under '' || getvariable(''results'')'
                || ' || ''; finish the study with: sweep run'')::BOOLEAN',
            'false')
);

SET VARIABLE reading_images = reading('images', [
    'VARCHAR AS image_id', 'VARCHAR AS identity', 'VARCHAR AS gender', 'FLOAT AS view_deg', 'VARCHAR AS split',
    'INTEGER AS height', 'INTEGER AS width']);
SET VARIABLE reading_models = reading('models', [
    'VARCHAR AS model_id', 'VARCHAR AS model_key', 'VARCHAR AS pretraining', 'VARCHAR AS task', 'BIGINT AS seed',
    'INTEGER AS n_classes', 'INTEGER AS epochs', 'DOUBLE AS train_accuracy', 'DOUBLE AS val_accuracy',
    'VARCHAR AS weights_uri', 'VARCHAR AS weights_sha256', 'VARCHAR AS mlflow_run_id']);
SET VARIABLE reading_epochs = reading('epochs', ['VARCHAR AS model_id']);
SET VARIABLE reading_predictions = reading('predictions', [
    'VARCHAR AS model_id', 'VARCHAR AS image_id', 'INTEGER AS rank', 'VARCHAR AS class', 'FLOAT AS logit']);
SET VARIABLE reading_relevance = reading('relevance', [
    'VARCHAR AS model_id', 'VARCHAR AS image_id', 'FLOAT[] AS map']);
SET VARIABLE reading_randomized = reading('randomized', [
    'VARCHAR AS model_id', 'INTEGER AS draw', 'VARCHAR AS image_id', 'FLOAT[] AS map']);
SET VARIABLE reading_attributions = reading('attributions', [
    'VARCHAR AS model_id', 'VARCHAR AS attribution', 'VARCHAR AS image_id', 'FLOAT[] AS map']);
SET VARIABLE reading_similarity = reading('similarity', [
    'VARCHAR AS image_id', 'VARCHAR AS model_a', 'VARCHAR AS model_b', 'DOUBLE AS pearson']);
SET VARIABLE reading_masked = reading('masked', [
    'VARCHAR AS source_id', 'VARCHAR AS control', 'INTEGER AS draw', 'VARCHAR AS fill', 'VARCHAR AS destination_id',
    'DOUBLE AS percent', 'VARCHAR AS image_id', 'VARCHAR AS predicted_class', 'BOOLEAN AS correct',
    'FLOAT AS target_logit']);
-- Its other columns are those of `masked`, with which it is read by name: what a file of `masked` lacks stays missed.
SET VARIABLE reading_masked_attributions = reading('masked_attributions', ['VARCHAR AS attribution']);
SET VARIABLE reading_human_trials = reading('human_trials', [
    'VARCHAR AS experiment_id', 'INTEGER AS list', 'INTEGER AS position', 'INTEGER AS block', 'VARCHAR AS trial_id',
    'VARCHAR AS trial_type', 'VARCHAR AS target', 'VARCHAR AS target_image', 'VARCHAR AS condition_a',
    'VARCHAR AS condition_b', 'VARCHAR AS option_a', 'VARCHAR AS option_b', 'VARCHAR AS image_a', 'VARCHAR AS image_b',
    'VARCHAR AS "left"', 'VARCHAR AS expected', 'INTEGER AS votes_a', 'INTEGER AS n_models_a', 'INTEGER AS votes_b',
    'INTEGER AS n_models_b', 'BOOLEAN AS ambiguous']);
SET VARIABLE reading_human_responses = reading('human_responses', [
    'VARCHAR AS experiment_id', 'VARCHAR AS session_id', 'VARCHAR AS subject_id', 'INTEGER AS list',
    'INTEGER AS position', 'VARCHAR AS trial_id', 'DOUBLE AS onset', 'DOUBLE AS response_time', 'VARCHAR AS side',
    'VARCHAR AS choice', 'VARCHAR AS source', 'BOOLEAN AS hidden', 'BOOLEAN AS resumed', 'DOUBLE AS image_px',
    'TIMESTAMP AS received']);
SET VARIABLE reading_human_sessions = reading('human_sessions', [
    'VARCHAR AS experiment_id', 'VARCHAR AS session_id', 'VARCHAR AS subject_id', 'INTEGER AS list',
    'TIMESTAMP AS consented', 'TIMESTAMP AS started', 'TIMESTAMP AS finished', 'INTEGER AS n_test',
    'INTEGER AS n_catch', 'INTEGER AS n_catch_right', 'BOOLEAN AS excluded', 'VARCHAR AS reason']);

CREATE OR REPLACE VIEW images AS FROM query(getvariable('reading_images'));
CREATE OR REPLACE VIEW models AS FROM query(getvariable('reading_models'));
CREATE OR REPLACE VIEW epochs AS FROM query(getvariable('reading_epochs'));
CREATE OR REPLACE VIEW predictions AS FROM query(getvariable('reading_predictions'));
CREATE OR REPLACE VIEW relevance AS FROM query(getvariable('reading_relevance'));
CREATE OR REPLACE VIEW randomized AS FROM query(getvariable('reading_randomized'));
CREATE OR REPLACE VIEW attributions AS FROM query(getvariable('reading_attributions'));
CREATE OR REPLACE VIEW similarity AS FROM query(getvariable('reading_similarity'));
CREATE OR REPLACE VIEW masked AS FROM query(getvariable('reading_masked'));
CREATE OR REPLACE VIEW masked_attributions AS FROM query(getvariable('reading_masked_attributions'));
CREATE OR REPLACE VIEW human_trials AS FROM query(getvariable('reading_human_trials'));
CREATE OR REPLACE VIEW human_responses AS FROM query(getvariable('reading_human_responses'));
CREATE OR REPLACE VIEW human_sessions AS FROM query(getvariable('reading_human_sessions'));

-- The masks of every attribution; NULL where a mask is made from no map. What both granularities have is named, or a
-- column that a file of `masked` lacks would be NULL for what the other table has.
CREATE OR REPLACE VIEW every_masked AS
SELECT
    source_id, control, draw, fill, destination_id, percent, correct,
    * EXCLUDE (source_id, control, draw, fill, destination_id, percent, correct),
    if(control IN ('scattered', 'blocks'), NULL, getvariable('attribution_levels')[1]) AS attribution
FROM masked
UNION ALL BY NAME
FROM masked_attributions
UNION ALL BY NAME
SELECT NULL::INTEGER AS n, NULL::VARCHAR AS image_id, NULL::FLOAT AS target_logit
WHERE false;

-- The masks of the attribution that is asked for, with the columns of both granularities: a row per image, where `correct` is a truth value and `n` is NULL, or
-- per chunk of images, where `correct` is a count out of `n` and what belongs to one image is NULL.
CREATE OR REPLACE VIEW masked_rows AS
SELECT * EXCLUDE (attribution)
FROM every_masked
WHERE attribution IS NULL OR attribution = getvariable('attribution_used')::VARCHAR;

-- The one place that counts correct answers, whichever granularity of `masked` the study chose.
CREATE OR REPLACE VIEW accuracy AS
SELECT
    source_id,
    control,
    draw,
    fill,
    destination_id,
    percent,
    sum(coalesce(n, 1))::BIGINT AS n,
    sum(correct::INTEGER)::BIGINT AS correct
FROM masked_rows
GROUP BY source_id, control, draw, fill, destination_id, percent;

-- One row per model and factor; the seed is the replicate, not a factor. Whatever column of `models` is not
-- listed here is a factor that the study named.
CREATE OR REPLACE VIEW factor_levels AS
SELECT model_id, factor, level
FROM models UNPIVOT INCLUDE NULLS (level FOR factor IN (COLUMNS(* EXCLUDE (
    model_id, model_key, seed, n_classes, epochs, train_accuracy, val_accuracy,
    weights_uri, weights_sha256, mlflow_run_id
))));

-- One row per model. A condition is one cell of the factorial, the same up to the seed; `extra` spells the levels
-- of the factors beyond pretraining and task ('' where there are none).
CREATE OR REPLACE VIEW conditions AS
SELECT
    models.model_id,
    concat_ws('-', any_value(pretraining), any_value(task),
        string_agg(coalesce(level, 'none'), '-' ORDER BY factor) FILTER (factor NOT IN ('pretraining', 'task'))
    ) AS condition,
    any_value(pretraining) AS pretraining,
    any_value(task) AS task,
    coalesce(
        string_agg(factor || '=' || coalesce(level, 'none'), ', ' ORDER BY factor)
            FILTER (factor NOT IN ('pretraining', 'task')),
        '') AS extra,
    any_value(seed) AS seed,
    any_value(n_classes) AS n_classes
FROM models
JOIN factor_levels USING (model_id)
GROUP BY models.model_id;

-- The bin of every ordered pair of models: which factors differ between the source and the destination.
CREATE OR REPLACE VIEW relations AS
WITH differences AS (
    SELECT
        source.model_id AS source_id,
        destination.model_id AS destination_id,
        string_agg(source.factor, '_' ORDER BY source.factor)
            FILTER (source.level IS DISTINCT FROM destination.level) AS differing
    FROM factor_levels AS source
    JOIN factor_levels AS destination USING (factor)
    GROUP BY source.model_id, destination.model_id
)
SELECT
    source_id,
    destination_id,
    CASE
        WHEN source_id = destination_id THEN 'same_init'
        WHEN differing IS NULL THEN 'same_task_same_pretraining'
        WHEN differing = 'pretraining_task' THEN 'other_both'
        ELSE 'other_' || differing
    END AS relation
FROM differences;

-- Every answer to a test trial in a session that is not excluded: whether it is option a, and whether it came too fast
-- to be one.
CREATE OR REPLACE VIEW human_test_answers AS
SELECT
    human_trials.experiment_id,
    session_id,
    trial_id,
    target,
    target_image,
    condition_a,
    condition_b,
    option_a,
    option_b,
    ambiguous,
    (choice = 'a')::INTEGER AS chose_a,
    response_time < coalesce(getvariable('fastest')::DOUBLE, 0.2) AS too_fast
FROM human_responses
JOIN human_sessions USING (experiment_id, session_id, list)
JOIN human_trials USING (experiment_id, list, trial_id)
WHERE trial_type = 'test'
    AND NOT excluded
    AND experiment_id = coalesce(getvariable('experiment')::VARCHAR, experiment_id);

-- The answers that the queries on people count.
CREATE OR REPLACE VIEW human_answers AS
SELECT * EXCLUDE (too_fast)
FROM human_test_answers
WHERE NOT too_fast;
