-- Question: how often do people choose what a single model finds most similar?
-- Returns: one row per model and experiment: experiment_id, model_id, condition, seed; n_targets (that the model
--   recognises and whose two options hold its own rank-2 choice), n_answers (of people to those); agreement (share of
--   answers that fall on the model's choice, mean over targets), low, high (95 percent interval over targets, Student's t),
--   t, df, p (against 0.5, two-sided); meaning (what it generalises to); note (why a figure is missing).
-- Paper: beside section 3.4, which compares people with two conditions, and with no single model.
-- Reads: models, predictions, human_trials, human_responses, human_sessions
-- Parameters: experiment, fastest
--
-- Also leaves human_agreement_of_models (a temporary table: this answer).

CREATE OR REPLACE TEMP TABLE human_agreement_of_models AS
WITH answers AS (
    SELECT
        experiment_id,
        trial_id,
        any_value(target) AS target,
        any_value(target_image) AS image_id,
        any_value(option_a) AS option_a,
        any_value(option_b) AS option_b,
        count(*) AS n,
        avg(chose_a) AS share_a
    FROM human_answers
    GROUP BY experiment_id, trial_id
),
chosen AS (
    SELECT
        model_id,
        image_id,
        max(class) FILTER (rank = 1) AS first,
        max(class) FILTER (rank = 2) AS second
    FROM predictions
    WHERE rank <= 2 AND image_id IN (SELECT image_id FROM answers)
    GROUP BY model_id, image_id
),
shares AS (
    SELECT experiment_id, model_id, n, if(second = option_a, share_a, 1 - share_a) AS share
    FROM answers
    JOIN chosen USING (image_id)
    WHERE first = target AND second IN (option_a, option_b)
),
means AS (
    SELECT
        experiment_id,
        model_id,
        count(*) AS n_targets,
        sum(n)::BIGINT AS n_answers,
        avg(share) AS agreement,
        -- Rounding leaves a trace of variance where there is none.
        if(var_samp(share) > 1e-18, sqrt(var_samp(share) / count(*)), NULL) AS std_error
    FROM shares
    GROUP BY experiment_id, model_id
),
tested AS (
    SELECT
        *,
        t_quantile(0.975, n_targets - 1) * std_error AS half_width,
        t_p2((agreement - 0.5) / std_error, n_targets - 1) AS p
    FROM means
)
SELECT
    experiment_id,
    model_id,
    condition,
    seed,
    n_targets,
    n_answers,
    agreement,
    agreement - half_width AS low,
    agreement + half_width AS high,
    (agreement - 0.5) / std_error AS t,
    n_targets - 1 AS df,
    p,
    'Generalises to further targets that these very observers and this very model see.' AS meaning,
    if(std_error IS NULL, 'no interval: two targets with different shares are needed', '') AS note
FROM tested
JOIN conditions USING (model_id);

SELECT *
FROM human_agreement_of_models
ORDER BY experiment_id, condition, seed, model_id;
