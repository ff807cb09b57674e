-- Question: how large are the effects of pretraining and of the mask source, in a form that other studies can be
--   compared with?
-- Returns: one row per effect of both ANOVAs: figure ('5' initialisation, '6' source); family (the task, or the
--   condition of the destination); extra; measure, control, fill (as in the ANOVAs); design, effect; f, df, df_error,
--   p; partial_eta_sq (effect / (effect + its own error)); generalised_eta_sq (effect / (effect + all variance
--   between and within models), comparable between the designs; Olejnik and Algina 2003, Bakeman 2005); note (why
--   there is none, or what was left out).
-- Paper: section 3.1, beside the F values of figures 5 and 6, for which the paper gives no effect sizes.
-- Reads: models, masked
-- Needs: anova_initialisation, anova_source
-- Parameters: auc_axis, compare, fill, measure, control, attribution
--
-- In the DuckDB shell, read anova_initialisation.sql and anova_source.sql before this file.

WITH effects AS (
    SELECT
        '5' AS figure, task AS family, extra, measure, control, fill, design, effect,
        f, p, df, df_error, sum_sq, sum_sq_error, sum_sq_subjects, note
    FROM anova_initialisation
    UNION ALL
    SELECT
        '6', condition, extra, measure, control, fill, design, 'mask_source',
        f, p, df, df_error, sum_sq, sum_sq_error, sum_sq_subjects, note
    FROM anova_source
),
-- All variance that is not an effect. Both factors are chosen by the experimenter, so no effect belongs to it.
-- Between subjects that is the error; else the models' variance and the error within models, which every row of a
-- design shares (the pretraining row carries the former as its error).
unexplained AS (
    SELECT
        figure, family, extra, design,
        if(
            any_value(sum_sq_subjects) IS NULL,
            any_value(sum_sq_error),
            any_value(sum_sq_subjects) + any_value(sum_sq_error) FILTER (effect <> 'pretraining')
        ) AS ss
    FROM effects
    GROUP BY figure, family, extra, design
)
SELECT
    figure,
    family,
    extra,
    measure,
    control,
    fill,
    design,
    effect,
    f,
    df,
    df_error,
    p,
    if(f IS NULL, NULL, sum_sq / (sum_sq + sum_sq_error)) AS partial_eta_sq,
    if(f IS NULL, NULL, sum_sq / (sum_sq + unexplained.ss)) AS generalised_eta_sq,
    note
FROM effects
JOIN unexplained USING (figure, family, extra, design)
ORDER BY
    figure, family, extra, design,
    list_position(['pretraining', 'mask_source', 'pretraining:mask_source'], effect);
