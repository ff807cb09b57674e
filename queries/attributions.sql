-- Question: which attribution finds what a model uses, and does what it finds carry over to another initialisation?
-- Returns: one row per condition of the destinations ('all': over all of them), fill, control and attribution (or per model:
--   parameter `per`): condition; model_id ('all' when per = 'condition'); fill (of removed pixels), control; attribution; place (1 = the largest loss); n_destinations, n_images (NULL where
--   counts are stored); loss (mean over destinations and images of the specific loss under own masks), low, high (95
--   percent interval); difference (loss less that of the study's first attribution), difference_low, difference_high;
--   other_loss (the specific loss under masks of other initialisations, by the same attribution), transfer (other_loss /
--   loss, where the interval of the loss lies above 0), transfer_low, transfer_high; note (why a figure is missing).
-- Paper: none; the paper has one attribution.
-- Reads: models, masked
-- Parameters: per
--
-- Also leaves attribution_losses (a temporary table: per attribution, relation, destination and image the specific loss).
--
-- A mean over destinations and images varies with both. Its variance is that of the destinations' means over their number,
-- plus that of the images' means over theirs, less that of what is left of single values, which both contain: what
-- transfer.sql finds by resampling, without the resampling. t has Satterthwaite's degrees of freedom, 1 at least. The interval of the
-- ratio is by the delta method: of loss - transfer * own loss, over the own loss.

CREATE OR REPLACE TEMP TABLE attribution_losses AS
WITH levels AS (
    SELECT DISTINCT fill, percent, log10(percent) AS position
    FROM every_masked
    WHERE percent > 0 AND percent < 100
),
-- The trapezoid rule as one weight per level.
weights AS (
    SELECT
        fill,
        percent,
        count(*) OVER (PARTITION BY fill) AS n_levels,
        (coalesce(lead(position) OVER along, position) - coalesce(lag(position) OVER along, position)) / 2
            / nullif(max(position) OVER (PARTITION BY fill) - min(position) OVER (PARTITION BY fill), 0) AS weight
    FROM levels
    WINDOW along AS (PARTITION BY fill ORDER BY position)
),
-- Where counts are stored, all images are one, without a name.
areas AS (
    SELECT
        attribution,
        source_id,
        control,
        draw,
        fill,
        destination_id,
        coalesce(image_id, '') AS image,
        any_value(relation) AS relation,
        sum(coalesce(n, 1)) AS n,
        sum(weight * correct::INTEGER) * any_value(n_levels) / sum(coalesce(n, 1)) AS area
    FROM every_masked
    JOIN weights USING (fill, percent)
    LEFT JOIN relations USING (source_id, destination_id)
    WHERE weight IS NOT NULL
        AND (relation IN ('same_init', 'same_task_same_pretraining') OR attribution IS NULL)
        AND (attribution IS NULL OR list_contains(getvariable('attribution_levels'), attribution))
    GROUP BY attribution, source_id, control, draw, fill, destination_id, image
),
-- Without those that lack levels or images which others have.
-- Masks that lack levels or images which others have are left out.
totals AS (
    SELECT *, sum(n) OVER (PARTITION BY attribution, source_id, control, draw, fill, destination_id) AS total
    FROM areas
),
whole AS (
    SELECT *
    FROM totals
    QUALIFY total = max(total) OVER (PARTITION BY fill)
),
controls AS (
    SELECT
        attribution AS control_attribution,
        -- A control that depends on no source serves every source and every attribution.
        if(attribution IS NULL, NULL, source_id) AS control_source,
        control,
        fill,
        destination_id,
        image,
        avg(area) AS area
    FROM whole
    WHERE control <> 'none'
    GROUP BY control_attribution, control_source, control, fill, destination_id, image
)
SELECT
    whole.attribution,
    whole.relation,
    whole.fill,
    controls.control,
    whole.destination_id,
    image,
    avg(controls.area - whole.area) AS loss
FROM whole
JOIN controls USING (fill, destination_id, image)
WHERE whole.control = 'none'
    AND (control_attribution IS NULL
        OR (control_attribution = whole.attribution AND control_source = whole.source_id))
GROUP BY whole.attribution, whole.relation, whole.fill, controls.control, whole.destination_id, image;

WITH pairs AS (
    SELECT
        if(setting('per', ['condition', 'model']) = 'model', own.destination_id, 'all') AS model_id,
        unnest(if(setting('per', ['condition', 'model']) = 'model', [condition], [condition, 'all'])) AS condition,
        own.fill,
        own.control,
        own.attribution,
        own.destination_id,
        own.image,
        own.loss,
        own.loss - first.loss AS difference,
        other.loss AS other_loss
    FROM attribution_losses AS own
    JOIN conditions ON conditions.model_id = own.destination_id
    LEFT JOIN attribution_losses AS first
        ON first.attribution = getvariable('attribution_levels')[1]
        AND first.relation = own.relation
        AND first.fill = own.fill
        AND first.control = own.control
        AND first.destination_id = own.destination_id
        AND first.image = own.image
    LEFT JOIN attribution_losses AS other
        ON other.attribution = own.attribution
        AND other.relation = 'same_task_same_pretraining'
        AND other.fill = own.fill
        AND other.control = own.control
        AND other.destination_id = own.destination_id
        AND other.image = own.image
    WHERE own.relation = 'same_init'
),
ratios AS (
    SELECT
        *,
        avg(other_loss) OVER in_group / nullif(avg(loss) FILTER (other_loss IS NOT NULL) OVER in_group, 0) AS ratio
    FROM pairs
    WINDOW in_group AS (PARTITION BY condition, model_id, fill, control, attribution)
),
-- Four figures per group, each a value per destination and image.
figures AS (
    SELECT condition, model_id, fill, control, attribution, destination_id, image, 'own' AS figure, loss AS x FROM ratios
    UNION ALL
    SELECT condition, model_id, fill, control, attribution, destination_id, image, 'difference', difference FROM ratios
    UNION ALL
    SELECT condition, model_id, fill, control, attribution, destination_id, image, 'other', other_loss FROM ratios
    UNION ALL
    SELECT condition, model_id, fill, control, attribution, destination_id, image, 'left', other_loss - ratio * loss FROM ratios
),
centred AS (
    SELECT
        condition, model_id, fill, control, attribution, figure, destination_id, image, x,
        avg(x) OVER (PARTITION BY condition, model_id, fill, control, attribution, figure) AS mean,
        avg(x) OVER (PARTITION BY condition, model_id, fill, control, attribution, figure, destination_id) AS of_destination,
        avg(x) OVER (PARTITION BY condition, model_id, fill, control, attribution, figure, image) AS of_image
    FROM figures
    WHERE x IS NOT NULL
),
parts AS (
    SELECT
        condition, model_id, fill, control, attribution, figure,
        any_value(mean) AS mean,
        count(DISTINCT destination_id) AS k,
        count(DISTINCT image) AS n,
        max(image) <> '' AS has_images,
        -- Every destination has every image, so a sum over all values counts each mean n, or k, times.
        sum((of_destination - mean) ** 2) / n / nullif(k - 1, 0) / k AS by_models,
        sum((of_image - mean) ** 2) / k / nullif(n - 1, 0) / n AS by_images,
        sum((x - of_destination - of_image + mean) ** 2) / nullif((k - 1) * (n - 1), 0) / (k * n) AS by_both
    FROM centred
    GROUP BY condition, model_id, fill, control, attribution, figure
),
spreads AS (
    SELECT
        *,
        coalesce(by_models, 0) AS from_models,
        coalesce(by_images, 0) AS from_images,
        from_models + from_images - least(coalesce(by_both, 0), from_models, from_images) AS variance,
        -- One model and no images: nothing varies.
        if(k = 1 AND n = 1, NULL, t_quantile(0.975, greatest(1, coalesce(
            variance ** 2 / nullif(
                coalesce(from_models ** 2 / nullif(k - 1, 0), 0) + coalesce(from_images ** 2 / nullif(n - 1, 0), 0), 0),
            greatest(k, n) - 1)))) * sqrt(variance) AS reach
    FROM parts
),
together AS (
    SELECT
        own.condition,
        own.model_id,
        own.fill,
        own.control,
        own.attribution,
        own.k,
        own.n,
        own.has_images,
        own.mean AS loss,
        own.reach AS loss_reach,
        difference.mean AS difference,
        if(own.attribution = getvariable('attribution_levels')[1], NULL, difference.reach) AS difference_reach,
        other.mean AS other_loss,
        ratio.ratio,
        left_over.reach / nullif(abs(own.mean), 0) AS ratio_reach,
        coalesce(own.mean - own.reach > 0, false) AS validated
    FROM spreads AS own
    LEFT JOIN spreads AS difference
        ON difference.figure = 'difference'
        AND (difference.condition, difference.model_id, difference.fill, difference.control, difference.attribution)
            = (own.condition, own.model_id, own.fill, own.control, own.attribution)
    LEFT JOIN spreads AS other
        ON other.figure = 'other'
        AND (other.condition, other.model_id, other.fill, other.control, other.attribution)
            = (own.condition, own.model_id, own.fill, own.control, own.attribution)
    LEFT JOIN spreads AS left_over
        ON left_over.figure = 'left'
        AND (left_over.condition, left_over.model_id, left_over.fill, left_over.control, left_over.attribution)
            = (own.condition, own.model_id, own.fill, own.control, own.attribution)
    LEFT JOIN (SELECT DISTINCT condition, model_id, fill, control, attribution, ratio FROM ratios) AS ratio
        ON (ratio.condition, ratio.model_id, ratio.fill, ratio.control, ratio.attribution)
            = (own.condition, own.model_id, own.fill, own.control, own.attribution)
    WHERE own.figure = 'own'
)
SELECT
    condition,
    model_id,
    fill,
    control,
    attribution,
    rank() OVER (PARTITION BY condition, model_id, fill, control ORDER BY loss DESC) AS place,
    k AS n_destinations,
    if(has_images, n, NULL) AS n_images,
    loss,
    loss - loss_reach AS low,
    loss + loss_reach AS high,
    difference,
    difference - difference_reach AS difference_low,
    difference + difference_reach AS difference_high,
    other_loss,
    if(validated, ratio, NULL) AS transfer,
    if(validated, ratio - ratio_reach, NULL) AS transfer_low,
    if(validated, ratio + ratio_reach, NULL) AS transfer_high,
    concat_ws('; ',
        CASE
            WHEN loss_reach IS NULL THEN 'no intervals: one model, and masked holds counts instead of images'
            WHEN NOT has_images THEN 'intervals over models only: masked holds counts instead of images'
            WHEN k = 1 THEN 'intervals over images only: one model'
        END,
        CASE
            WHEN other_loss IS NULL THEN 'no transfer: no other initialisation'
            WHEN NOT validated THEN 'no transfer: the loss is not clearly above 0'
        END
    ) AS note
FROM together
ORDER BY fill, control, if(condition = 'all', '', condition), model_id, place, attribution;
