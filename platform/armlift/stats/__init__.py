"""Statistics of experiments: aggregates over units in, frozen results out; no SQL, no clock, no randomness.

Sources of the formulas: Chan, Golub & LeVeque (1983), merging of moments; Welch (1947) and Satterthwaite
(1946), unequal variances and degrees of freedom; Fieller (1954) and Deng, Knoblich & Lu (KDD 2018,
"Applying the delta method in metric analytics"), ratios with units as clusters; Wilson (1927), the score
interval; Fabijan et al. (KDD 2019), sample ratio mismatch; Holm (1979) and Benjamini & Hochberg (1995),
multiplicity; Waudby-Smith et al. (2024), always-valid intervals; Lan & DeMets (1983), group-sequential
boundaries; Gelman et al. (2013), normal priors; Lindon & Malek (NeurIPS 2022), the sequential sample ratio
check; Deng, Xu, Kohavi & Walker (WSDM 2013), covariates from before exposure; Miratrix, Sekhon & Yu (2013),
post-stratification; Cohen (1988), power; Efron & Thisted (1976), the arrival of new units; Kolmogorov
(1933) and Smirnov (1948), uniform p-values. Import from the
modules: `aggregates`, `results`, `means`, `ratios`, `paired`, `quantiles`, `cuped`, `strata`, `srm`,
`multiplicity`, `power`, `interleaving`, `arrival`, `intervals`, `always_valid`, `group_sequential`,
`bayesian`, `uniformity`.
"""
