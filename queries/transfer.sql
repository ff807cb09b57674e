-- Question: how much of what a model's own masks find do the masks of other models find as well?
-- Returns: one row per condition of the destinations, bin, fill and control (or per pair of models: parameter `per`):
--   condition, pretraining, task, extra; relation (the bin); source_id, destination_id ('all' when per = 'bin'); fill
--   (of removed pixels), control; n_pairs (of models), n_destinations, n_images (NULL where `masked` holds counts);
--   loss (mean over destinations of the mean over their sources of the specific loss), loss_low, loss_high (95
--   percent interval); own_loss (the same destinations under masks of their own), own_low, own_high; transfer (T =
--   loss / own_loss: 1 where the masks find what the model's own find, 0 where they find no more than the control),
--   low, high (95 percent interval); validated (in rows of same_init, whether the interval of the own loss lies
--   wholly above 0; else NULL); note (why a figure is missing, or what an interval does not cover).
-- Paper: none; section 3.2 compares the areas themselves.
-- Reads: models, masked
-- Needs: auc
-- Parameters: per, resamples, draw_seed, attribution
--
-- Also leaves image_losses (a temporary table: per pair, fill, control and image the specific loss of that image).
--
-- An area is linear in the accuracies, so every image has an area of its own and a resample of images is a weighting of
-- them. Images and destinations are each drawn with replacement, alone and together, which splits the variance of a
-- mean over images and models into its three parts: models, images, and models by images. Each part is
-- corrected for the few units it comes from; an interval takes the quantile of t with Satterthwaite's degrees of
-- freedom, and that of a ratio is Fieller's.

SET VARIABLE resamples_used = coalesce(getvariable('resamples')::BIGINT, 1000);
SET VARIABLE resamples_used = if(
    getvariable('resamples_used') >= 10, getvariable('resamples_used'), error('resamples must be at least 10'));

CREATE OR REPLACE TEMP TABLE image_losses AS
WITH levels AS (
    SELECT DISTINCT fill, percent, log10(percent) AS position
    FROM mask_accuracy
    WHERE percent > 0 AND percent < 100
),
-- The trapezoid rule as one weight per level.
weights AS (
    SELECT
        fill,
        percent,
        (coalesce(lead(position) OVER along, position) - coalesce(lag(position) OVER along, position)) / 2
            / nullif(max(position) OVER (PARTITION BY fill) - min(position) OVER (PARTITION BY fill), 0) AS weight
    FROM levels
    WINDOW along AS (PARTITION BY fill ORDER BY position)
),
-- Where `masked` holds counts, all images are one, without a name.
areas AS (
    SELECT
        rows.source_id,
        rows.control,
        rows.fill,
        rows.destination_id,
        coalesce(image_id, '') AS image,
        any_value(relation) AS relation,
        -- Every draw of a control has all levels, and as many images.
        sum(weight * correct::INTEGER) * any_value(n_inner_levels) / sum(coalesce(rows.n, 1)) AS area
    FROM masked_rows AS rows
    JOIN weights USING (fill, percent)
    JOIN mask_auc USING (source_id, control, draw, fill, destination_id)
    WHERE complete_inside AND weight IS NOT NULL
    GROUP BY rows.source_id, rows.control, rows.fill, rows.destination_id, image
),
controls AS (
    SELECT
        -- A control that depends on no source serves every source.
        if(relation IN ('random', 'blocks'), NULL, source_id) AS control_source,
        control,
        fill,
        destination_id,
        image,
        avg(area) AS area
    FROM areas
    WHERE control <> 'none'
    GROUP BY control_source, control, fill, destination_id, image
)
SELECT
    areas.source_id,
    areas.destination_id,
    areas.relation,
    areas.fill,
    controls.control,
    image,
    controls.area - areas.area AS loss
FROM areas
JOIN controls USING (fill, destination_id, image)
WHERE areas.control = 'none' AND (control_source IS NULL OR control_source = areas.source_id);

WITH sampled AS (
    SELECT
        destination_id,
        relation,
        fill,
        control,
        if(setting('per', ['bin', 'pair']) = 'bin', 'all', source_id) AS source,
        image,
        count(*) AS n_sources,
        avg(loss) AS loss
    FROM image_losses
    GROUP BY destination_id, relation, fill, control, source, image
),
vectors AS (
    SELECT
        destination_id,
        relation,
        fill,
        control,
        source,
        any_value(n_sources) AS n_sources,
        count(*) AS n,
        max(image) <> '' AS has_images,
        avg(loss) AS loss,
        list(loss ORDER BY image) AS losses
    FROM sampled
    GROUP BY destination_id, relation, fill, control, source
),
-- A group is a row of the answer; its members are the destinations that it is the mean of.
own AS (
    SELECT destination_id, fill, control, n, loss AS own_loss, losses AS own_losses
    FROM vectors
    WHERE relation = 'same_init'
),
matched AS (
    SELECT
        condition,
        pretraining,
        task,
        extra,
        vectors.*,
        if(source = 'all', 'all', destination_id) AS destination,
        own_loss,
        own_losses,
        dense_rank() OVER (ORDER BY fill, control, condition, destination, relation, source) AS group_id
    FROM vectors
    JOIN conditions ON conditions.model_id = vectors.destination_id
    LEFT JOIN own USING (destination_id, fill, control, n)
),
-- A destination without a mask of its own is left out, unless that leaves none.
members AS (
    SELECT *
    FROM matched
    QUALIFY own_loss IS NOT NULL OR count(own_loss) OVER (PARTITION BY group_id) = 0
),
placed AS (
    SELECT
        group_id,
        n,
        loss,
        losses,
        own_loss,
        own_losses,
        row_number() OVER in_group AS place,
        string_agg(destination_id, ',') OVER (
            in_group ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS destinations,
        count(*) OVER (PARTITION BY group_id) AS k
    FROM members
    WINDOW in_group AS (PARTITION BY group_id ORDER BY destination_id)
),

-- How often each resample holds each image, and each destination.
resamples AS (
    SELECT resample FROM range(1, getvariable('resamples_used') + 1) AS numbered (resample)
),
image_places AS (
    SELECT n, unnest(range(1, n + 1)) AS place FROM (SELECT DISTINCT n FROM placed) AS sizes
),
drawn_images AS (
    SELECT
        n,
        resample,
        1 + (md5_number_lower(concat_ws('|', getvariable('draw_seed_used'), 'image', resample, place)) % n)::BIGINT
            AS place,
        count(*) AS times
    FROM image_places
    CROSS JOIN resamples
    GROUP BY ALL
),
image_weights AS (
    SELECT n, resample, list(coalesce(times, 0)::DOUBLE / n ORDER BY place) AS weights
    FROM image_places
    CROSS JOIN resamples
    LEFT JOIN drawn_images USING (n, resample, place)
    GROUP BY n, resample
),
model_places AS (
    SELECT DISTINCT destinations, k, place FROM placed
),
drawn_models AS (
    SELECT
        destinations,
        resample,
        1 + (md5_number_lower(
            concat_ws('|', getvariable('draw_seed_used'), 'model', destinations, resample, place)
        ) % k)::BIGINT AS place,
        count(*) AS times
    FROM model_places
    CROSS JOIN resamples
    GROUP BY ALL
),
resampled AS (
    SELECT
        group_id,
        resample,
        sum(coalesce(times, 0) * loss) / any_value(k) AS models_loss,
        sum(coalesce(times, 0) * own_loss) / any_value(k) AS models_own,
        avg(image_loss) AS images_loss,
        avg(image_own) AS images_own,
        sum(coalesce(times, 0) * image_loss) / any_value(k) AS both_loss,
        sum(coalesce(times, 0) * image_own) / any_value(k) AS both_own
    FROM (
        SELECT
            placed.* EXCLUDE (losses, own_losses),
            resample,
            list_dot_product(losses, weights) AS image_loss,
            list_dot_product(own_losses, weights) AS image_own
        FROM placed
        JOIN image_weights USING (n)
    ) AS weighted
    LEFT JOIN drawn_models USING (destinations, resample, place)
    GROUP BY group_id, resample
),
moments AS (
    SELECT
        group_id,
        var_pop(models_loss) AS models_ll, covar_pop(models_loss, models_own) AS models_lo,
        var_pop(models_own) AS models_oo,
        var_pop(images_loss) AS images_ll, covar_pop(images_loss, images_own) AS images_lo,
        var_pop(images_own) AS images_oo,
        var_pop(both_loss) AS both_ll, covar_pop(both_loss, both_own) AS both_lo,
        var_pop(both_own) AS both_oo
    FROM resampled
    GROUP BY group_id
),
groups AS (
    SELECT
        group_id,
        any_value(condition) AS condition,
        any_value(pretraining) AS pretraining,
        any_value(task) AS task,
        any_value(extra) AS extra,
        any_value(relation) AS relation,
        any_value(source) AS source_id,
        any_value(destination) AS destination_id,
        any_value(fill) AS fill,
        any_value(control) AS control,
        sum(n_sources)::BIGINT AS n_pairs,
        count(*) AS k,
        any_value(n) AS n,
        any_value(has_images) AS has_images,
        avg(loss) AS loss,
        avg(own_loss) AS own_loss,
        avg(loss) / nullif(avg(own_loss), 0) AS ratio
    FROM members
    GROUP BY group_id
),

-- Three figures per group, each with the parts of its variance; that of the ratio is the variance of loss - T own_loss.
parts AS (
    SELECT
        group_id, k, n, figure,
        models_ll * by_loss ** 2 + 2 * models_lo * by_loss * by_own + models_oo * by_own ** 2 AS models_part,
        images_ll * by_loss ** 2 + 2 * images_lo * by_loss * by_own + images_oo * by_own ** 2 AS images_part,
        both_ll * by_loss ** 2 + 2 * both_lo * by_loss * by_own + both_oo * by_own ** 2 AS both_part
    FROM (
        SELECT group_id, k, n, 'loss' AS figure, 1.0::DOUBLE AS by_loss, 0.0::DOUBLE AS by_own FROM groups
        UNION ALL
        SELECT group_id, k, n, 'own', 0, 1 FROM groups
        UNION ALL
        SELECT group_id, k, n, 'ratio', 1, -ratio FROM groups
    ) AS figures
    JOIN moments USING (group_id)
),
corrected AS (
    SELECT
        group_id, k, n, figure,
        greatest(models_part, 0) * coalesce(k / nullif(k - 1, 0), 1) AS from_models,
        greatest(images_part, 0) * coalesce(n / nullif(n - 1, 0), 1) AS from_images,
        -- Contained in both of them, and to be counted once.
        greatest(0, least(
            (both_part - models_part - images_part)
                * coalesce(k / nullif(k - 1, 0), 1) * coalesce(n / nullif(n - 1, 0), 1),
            from_models, from_images)) AS from_both,
        from_models + from_images - from_both AS variance
    FROM parts
),
spreads AS (
    SELECT
        group_id,
        figure,
        variance,
        coalesce(variance / nullif(from_models + from_images, 0), 1) AS share,
        t_quantile(0.975, coalesce(
            variance ** 2 / nullif(
                coalesce(from_models ** 2 / nullif(k - 1, 0), 0) + coalesce(from_images ** 2 / nullif(n - 1, 0), 0), 0),
            greatest(k, n) - 1)) AS t
    FROM corrected
    -- One model and no images: nothing varies.
    WHERE k > 1 OR n > 1
),
bounded AS (
    SELECT
        groups.*,
        loss - of_loss.t * sqrt(of_loss.variance) AS loss_low,
        loss + of_loss.t * sqrt(of_loss.variance) AS loss_high,
        own_loss - of_own.t * sqrt(of_own.variance) AS own_low,
        own_loss + of_own.t * sqrt(of_own.variance) AS own_high,
        -- Fieller (1954): all T with (loss - T own_loss)^2 <= t^2 variance(loss - T own_loss).
        -- Own masks over own masks are 1 and do not vary: what is left of their variance is rounding.
        if(relation = 'same_init', 0, of_ratio.t ** 2 * of_ratio.share) AS stretch,
        coalesce(k / nullif(k - 1, 0), 1) AS few_models,
        coalesce(n / nullif(n - 1, 0), 1) AS few_images,
        own_loss ** 2 - stretch * (few_models * models_oo + few_images * images_oo) AS quadratic,
        own_loss * loss - stretch * (few_models * models_lo + few_images * images_lo) AS linear,
        loss ** 2 - stretch * (few_models * models_ll + few_images * images_ll) AS constant,
        coalesce(own_low > 0 AND quadratic > 0, false) AS given
    FROM groups
    JOIN moments USING (group_id)
    LEFT JOIN (FROM spreads WHERE figure = 'loss') AS of_loss USING (group_id)
    LEFT JOIN (FROM spreads WHERE figure = 'own') AS of_own USING (group_id)
    LEFT JOIN (FROM spreads WHERE figure = 'ratio') AS of_ratio USING (group_id)
)
SELECT
    condition,
    pretraining,
    task,
    extra,
    relation,
    source_id,
    destination_id,
    fill,
    control,
    n_pairs,
    k AS n_destinations,
    if(has_images, n, NULL) AS n_images,
    loss,
    loss_low,
    loss_high,
    own_loss,
    own_low,
    own_high,
    if(given, ratio, NULL) AS transfer,
    if(given, (linear - sqrt(greatest(linear ** 2 - quadratic * constant, 0))) / quadratic, NULL) AS low,
    if(given, (linear + sqrt(greatest(linear ** 2 - quadratic * constant, 0))) / quadratic, NULL) AS high,
    if(relation = 'same_init', coalesce(loss_low > 0, false), NULL) AS validated,
    concat_ws('; ',
        CASE
            WHEN own_loss IS NULL THEN 'no index: no mask by the destination itself'
            WHEN own_low IS NULL THEN 'no index: no interval tells whether the own loss is above 0'
            WHEN own_low <= 0 THEN 'no index: the own loss is not clearly above 0'
            WHEN NOT given THEN 'no index: the interval of the ratio has no bounds'
        END,
        CASE
            WHEN has_images AND k = 1 AND destination_id = 'all' THEN 'intervals over images only: one model'
            WHEN has_images THEN NULL
            WHEN k = 1 THEN 'no intervals: one model, and masked holds counts instead of images'
            ELSE 'intervals over models only: masked holds counts instead of images'
        END
    ) AS note
FROM bounded
ORDER BY fill, control, condition, destination_id, relation, source_id;
