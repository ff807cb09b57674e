-- Question: for each target, which of the two choices do people prefer?
-- Returns: one row per target: experiment_id, target, target_image; condition_a, condition_b, option_a, option_b (the
--   choices of the two conditions), ambiguous (whether seeds of a condition were tied); n_observers, n_a (who chose
--   option_a), preference (n_a / n_observers), low, high (95 percent interval by Wilson 1927); p (exact binomial test
--   against 0.5, two-sided), p_holm (Holm's correction over the targets of the experiment); preferred (the condition whose
--   choice is preferred where p_holm < 0.05, else ''); meaning (what it generalises to).
-- Paper: section 3.4, "we see strikingly consistent human choice preference for many individual identities (Figure 7c)".
-- Reads: human_trials, human_responses, human_sessions
-- Parameters: experiment, fastest

WITH counts AS (
    SELECT
        experiment_id,
        trial_id,
        any_value(target) AS target,
        any_value(target_image) AS target_image,
        any_value(condition_a) AS condition_a,
        any_value(condition_b) AS condition_b,
        any_value(option_a) AS option_a,
        any_value(option_b) AS option_b,
        any_value(ambiguous) AS ambiguous,
        count(*) AS n_observers,
        sum(chose_a)::BIGINT AS n_a,
        n_a / n_observers AS preference,
        -- The square of the quantile of the normal distribution that leaves 2.5 percent above it.
        3.841458820694124 / n_observers AS z2_per_n
    FROM human_answers
    GROUP BY experiment_id, trial_id
),
tested AS (
    SELECT
        *,
        (preference + z2_per_n / 2) / (1 + z2_per_n) AS centre,
        sqrt(z2_per_n * (preference * (1 - preference) + z2_per_n / 4)) / (1 + z2_per_n) AS half_width,
        least(1.0, 2 * ibeta(
            greatest(n_a, n_observers - n_a), least(n_a, n_observers - n_a) + 1, 0.5)) AS p
    FROM counts
),
corrected AS (
    SELECT
        *,
        least(1.0, max(stepped) OVER (PARTITION BY experiment_id ORDER BY p, trial_id)) AS p_holm
    FROM (
        SELECT
            *,
            p * (1 + count(*) OVER (PARTITION BY experiment_id)
                - row_number() OVER (PARTITION BY experiment_id ORDER BY p, trial_id)) AS stepped
        FROM tested
    ) AS steps
)
SELECT
    experiment_id,
    target,
    target_image,
    condition_a,
    condition_b,
    option_a,
    option_b,
    ambiguous,
    n_observers,
    n_a,
    preference,
    centre - half_width AS low,
    centre + half_width AS high,
    p,
    p_holm,
    CASE WHEN p_holm >= 0.05 THEN '' WHEN preference > 0.5 THEN condition_a ELSE condition_b END AS preferred,
    'Generalises to further observers of this very target.' AS meaning
FROM corrected
ORDER BY experiment_id, preference DESC, target;
