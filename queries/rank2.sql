-- Question: which class do the models of a condition find most similar to the one shown, and do pretrainings disagree?
-- Returns: one row per image and condition: task, extra, image_id, target (the true class), condition, pretraining;
--   choice (the class most often second); votes (seeds that chose it), n_models (seeds that voted), n_wrong (seeds
--   left out because their first choice is not the target, so that their second is no likeness); tied (true where
--   another class has as many votes), tied_classes (all of them, by name; the choice among them has the highest mean
--   logit, then the first name); disagree (whether the pretrainings of the same task and image choose differently; NULL
--   where one has no choice or there is only one), ambiguous (whether any of those choices is tied).
-- Paper: section 3.4, "the identity of the face image with the next-highest output activation (rank-2 logit)"; "we
--   identified 95 face identities ... on which the ImageNet- and VGGFace-trained models produced differing rank-2
--   choices"; figure 7.
-- Reads: images, models, predictions
-- Parameters: task
--
-- Without the parameter, tasks of two classes are left out: there the second is always the other class.

WITH targets AS (
    -- A task is named after the column of `images` that holds its classes.
    SELECT image_id, label AS task, target
    FROM (SELECT * EXCLUDE (split, height, width) REPLACE (view_deg::DOUBLE::VARCHAR AS view_deg) FROM images)
        UNPIVOT (target FOR label IN (COLUMNS(* EXCLUDE (image_id))))
),
chosen AS (
    SELECT
        model_id,
        image_id,
        max(class) FILTER (rank = 1) AS first,
        max(class) FILTER (rank = 2) AS second,
        max(logit) FILTER (rank = 2) AS second_logit
    FROM predictions
    WHERE rank <= 2
    GROUP BY model_id, image_id
),
voters AS (
    SELECT
        conditions.*,
        chosen.image_id,
        target,
        second,
        second_logit,
        first = target AND second IS NOT NULL AS votes
    FROM chosen
    JOIN conditions USING (model_id)
    JOIN targets USING (image_id, task)
    WHERE if(getvariable('task') IS NULL, n_classes > 2, task = getvariable('task'))
),
ballots AS (
    SELECT
        condition,
        image_id,
        second,
        count(*) AS n_votes,
        avg(second_logit::DOUBLE) AS mean_logit
    FROM voters
    WHERE votes
    GROUP BY condition, image_id, second
),
elected AS (
    SELECT
        condition,
        image_id,
        first(second ORDER BY n_votes DESC, mean_logit DESC, second) AS choice,
        max(n_votes) AS votes,
        list(second ORDER BY second) FILTER (n_votes = most_votes) AS tied_list
    FROM (SELECT *, max(n_votes) OVER (PARTITION BY condition, image_id) AS most_votes FROM ballots) AS counted
    GROUP BY condition, image_id
),
electorates AS (
    SELECT
        condition,
        image_id,
        any_value(task) AS task,
        any_value(extra) AS extra,
        any_value(pretraining) AS pretraining,
        any_value(target) AS target,
        count(*) FILTER (votes) AS n_models,
        count(*) FILTER (NOT votes) AS n_wrong
    FROM voters
    GROUP BY condition, image_id
)
SELECT
    task,
    extra,
    image_id,
    target,
    condition,
    pretraining,
    choice,
    coalesce(votes, 0) AS votes,
    n_models,
    n_wrong,
    coalesce(len(tied_list) > 1, false) AS tied,
    if(len(tied_list) > 1, array_to_string(tied_list, ', '), '') AS tied_classes,
    if(
        count(*) OVER alike < 2 OR count(choice) OVER alike < count(*) OVER alike, NULL,
        min(choice) OVER alike <> max(choice) OVER alike
    ) AS disagree,
    bool_or(tied) OVER alike AS ambiguous
FROM electorates
LEFT JOIN elected USING (condition, image_id)
WINDOW alike AS (PARTITION BY task, extra, image_id)
ORDER BY task, extra, image_id, condition;
