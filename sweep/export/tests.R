# Repeats this study's main tests with lme4, from its tables. In the exported folder: Rscript analysis/tests.R
# How: each test is a mixed model of auc_log with a random intercept per destination model, fitted by REML with
# sum-to-zero contrasts. F is the Wald statistic of the effect, with the degrees of freedom of the ANOVA in SQL (designs
# 'mixed' and 'repeated'). The two F are equal where all cells have as many models. They differ where lme4 finds no
# variance between models ('singular'), because it then counts that variance as error.
library(lme4)
options(contrasts = c("contr.sum", "contr.poly"))
read <- function(name) read.csv(sprintf("data/description-%s_data.csv", name), colClasses = c(extra = "character"))
bins <- read("bins")
tests <- subset(read("tests"), design != "between" & !is.na(f))
repeat_test <- function(test) {
  sources <- strsplit(test$sources, ", ")[[1]]
  same <- bins$fill == test$fill & bins$task == test$task & bins$extra == test$extra
  if (test$test == "source") same <- same & bins$condition == test$condition
  data <- bins[same & bins$relation %in% sources & !is.na(bins$auc_log), ]
  data <- data[ave(data$auc_log, data$destination_id, FUN = length) == length(sources), ]
  crossed <- test$test == "initialisation" && length(unique(data$pretraining)) > 1
  right <- if (crossed) "pretraining * relation" else "relation"
  model <- lmer(as.formula(paste("auc_log ~", right, "+ (1 | destination_id)")), data)
  effect <- sub("mask_source", "relation", test$effect)
  of_effect <- attr(getME(model, "X"), "assign") == match(effect, attr(terms(model), "term.labels"))
  b <- fixef(model)[of_effect]
  f <- sum(b * solve(as.matrix(vcov(model))[of_effect, of_effect], b)) / length(b)
  data.frame(test[c("test", "fill", "task", "extra", "condition", "effect", "df", "df_error")],
    f_sql = test$f, f_lme4 = f, p_lme4 = pf(f, test$df, test$df_error, lower.tail = FALSE), singular = isSingular(model))
}
result <- do.call(rbind, lapply(seq_len(nrow(tests)), function(row) repeat_test(tests[row, ])))
print(result, digits = 6)
write.csv(result, "analysis/tests-lme4.csv", row.names = FALSE)
