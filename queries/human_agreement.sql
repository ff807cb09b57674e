-- Question: how far do people agree with each other?
-- Returns: one row per experiment: experiment_id; n_observers, n_targets (with two answers or more); agreement (share of
--   pairs of observers who choose the same option for a target, mean over targets), low, high (95 percent interval over
--   targets, Student's t); expected (the same if every answer were drawn by the overall preference), kappa (Fleiss 1971:
--   1 where all agree, 0 where they agree no more than expected); meaning (what it generalises to).
-- Paper: beside section 3.4, "strikingly consistent human choice preference for many individual identities".
-- Reads: human_trials, human_responses, human_sessions
-- Parameters: experiment, fastest

WITH counts AS (
    SELECT experiment_id, trial_id, count(*) AS n, sum(chose_a)::BIGINT AS k
    FROM human_answers
    GROUP BY experiment_id, trial_id
),
totals AS (
    SELECT
        experiment_id,
        count(DISTINCT session_id) AS n_observers,
        avg(chose_a) AS preference,
        preference ** 2 + (1 - preference) ** 2 AS expected
    FROM human_answers
    GROUP BY experiment_id
),
pairs AS (
    SELECT
        experiment_id,
        count(*) AS n_targets,
        avg(alike) AS agreement,
        sqrt(var_samp(alike) / count(*)) AS std_error
    FROM (
        SELECT experiment_id, (k * (k - 1) + (n - k) * (n - k - 1)) / (n * (n - 1)) AS alike
        FROM counts
        WHERE n > 1
    ) AS shares
    GROUP BY experiment_id
),
bounded AS (
    SELECT *, t_quantile(0.975, n_targets - 1) * std_error AS half_width
    FROM pairs
)
SELECT
    experiment_id,
    n_observers,
    n_targets,
    agreement,
    agreement - half_width AS low,
    agreement + half_width AS high,
    expected,
    if(expected < 1, (agreement - expected) / (1 - expected), NULL) AS kappa,
    'Generalises to further targets that these very observers see.' AS meaning
FROM bounded
JOIN totals USING (experiment_id)
ORDER BY experiment_id;
