-- Question: do people choose the faces of one condition more often than those of the other?
-- Returns: three rows per experiment: experiment_id; test ('crossed' = observers and targets are both samples, the one to
--   believe; 'observers' = the paper's, a t test of the observers' own shares; 'targets' = the same of the targets');
--   condition_a, condition_b; n_observers, n_targets, n_answers; preference (for the choices of condition_a: share of
--   answers, or mean of the shares), std_error, low, high (95 percent interval), t, df, p (against 0.5, two-sided);
--   meaning (what the test generalises to); n_simulated (observers who are no people: a rehearsal); n_excluded (sessions),
--   excluded (each with the reason); n_too_fast (answers left out); note (why there is no test).
-- Paper: section 3.4, "Overall, there was a modest but significant preference for the VGGFace rank-2 choice (51.8% +/-
--   0.77, t(45) = 2.345, p = 0.023)"; figure 7.
-- Reads: human_trials, human_responses, human_sessions
-- Parameters: experiment, fastest
--
-- The crossed test takes the variance of the answers apart into observers, targets and the rest (the analysis of variance
-- by Henderson's method I, which allows missing answers), with no component below 0, and Satterthwaite's degrees of freedom.
-- docs/human.md says how often each test is wrong.

WITH by_observer AS (
    SELECT experiment_id, session_id, count(*) AS n, sum(chose_a)::BIGINT AS k
    FROM human_answers
    GROUP BY experiment_id, session_id
),
by_target AS (
    SELECT
        experiment_id,
        trial_id,
        any_value(condition_a) AS condition_a,
        any_value(condition_b) AS condition_b,
        count(*) AS n,
        sum(chose_a)::BIGINT AS k
    FROM human_answers
    GROUP BY experiment_id, trial_id
),
observers AS (
    SELECT
        experiment_id,
        count(*) AS groups,
        -- sweep human simulate names its sessions so.
        count(*) FILTER (starts_with(session_id, 'simulated-')) AS n_simulated,
        sum(n)::DOUBLE AS n,
        sum(k)::DOUBLE AS k,
        sum(n * n)::DOUBLE AS squares,
        sum(k * (n - k) / n) AS within,
        avg(k / n) AS mean,
        var_samp(k / n) AS variance
    FROM by_observer
    GROUP BY experiment_id
),
targets AS (
    SELECT
        experiment_id,
        any_value(condition_a) AS condition_a,
        any_value(condition_b) AS condition_b,
        count(*) AS groups,
        sum(n * n)::DOUBLE AS squares,
        sum(k * (n - k) / n) AS within,
        avg(k / n) AS mean,
        var_samp(k / n) AS variance
    FROM by_target
    GROUP BY experiment_id
),
components AS (
    SELECT
        experiment_id,
        observers.groups AS r,
        n_simulated,
        targets.groups AS c,
        n,
        k / n AS preference,
        -- Mean squares within observers, within targets, and of all answers.
        observers.within / nullif(n - r, 0) AS in_observers,
        targets.within / nullif(n - c, 0) AS in_targets,
        n - observers.squares / n AS observer_weight,
        n - targets.squares / n AS target_weight,
        (in_targets * observer_weight + in_observers * target_weight - k * (n - k) / n)
            / nullif(observer_weight + target_weight - n + 1, 0) AS residual,
        -- The parts of the variance of `preference`: observers, targets, and what belongs to both.
        greatest(in_targets - residual, 0) * observers.squares / n ** 2 + residual / n AS from_observers,
        greatest(in_observers - residual, 0) * targets.squares / n ** 2 + residual / n AS from_targets,
        residual / n AS from_both,
        from_observers + from_targets - from_both AS variance
    FROM observers
    JOIN targets USING (experiment_id)
),
tests AS (
    SELECT
        experiment_id,
        'crossed' AS test,
        preference,
        variance,
        variance ** 2 / nullif(
            from_observers ** 2 / nullif(r - 1, 0) + from_targets ** 2 / nullif(c - 1, 0)
                + from_both ** 2 / nullif(n - r - c + 1, 0),
            0) AS df,
        'Generalises to further observers and to further targets of the same kind.' AS meaning,
        'no test: two observers, two targets and answers that differ are needed' AS otherwise
    FROM components
    UNION ALL
    SELECT
        experiment_id, 'observers', mean, variance / groups, groups - 1,
        'Generalises to further observers who see these very targets, and not to other targets.',
        'no test: two observers with different shares are needed'
    FROM observers
    UNION ALL
    SELECT
        experiment_id, 'targets', mean, variance / groups, groups - 1,
        'Generalises to further targets that these very observers see, and not to other observers.',
        'no test: two targets with different shares are needed'
    FROM targets
),
sessions AS (
    SELECT
        experiment_id,
        count(*) AS n_excluded,
        string_agg(session_id || ' (' || reason || ')', '; ' ORDER BY session_id) AS excluded
    FROM human_sessions
    WHERE excluded
    GROUP BY experiment_id
),
fast AS (
    SELECT experiment_id, count(*) AS n_too_fast FROM human_test_answers WHERE too_fast GROUP BY experiment_id
),
tested AS (
    SELECT
        * EXCLUDE (df),
        -- Rounding leaves a trace of variance where there is none.
        if(variance > 1e-18 AND df > 0, sqrt(variance), NULL) AS std_error,
        (preference - 0.5) / std_error AS t,
        if(std_error IS NULL, NULL, tests.df) AS df,
        t_p2((preference - 0.5) / std_error, tests.df) AS p,
        t_quantile(0.975, tests.df) * std_error AS half_width
    FROM tests
)
SELECT
    experiment_id,
    test,
    condition_a,
    condition_b,
    components.r AS n_observers,
    components.c AS n_targets,
    components.n::BIGINT AS n_answers,
    tested.preference,
    std_error,
    tested.preference - half_width AS low,
    tested.preference + half_width AS high,
    t,
    df,
    p,
    meaning,
    n_simulated,
    coalesce(n_excluded, 0) AS n_excluded,
    coalesce(sessions.excluded, '') AS excluded,
    coalesce(n_too_fast, 0) AS n_too_fast,
    if(p IS NULL, otherwise, '') AS note
FROM tested
JOIN targets USING (experiment_id)
JOIN components USING (experiment_id)
LEFT JOIN sessions USING (experiment_id)
LEFT JOIN fast USING (experiment_id)
ORDER BY experiment_id, list_position(['crossed', 'observers', 'targets'], test);
