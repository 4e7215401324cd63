"""Formulas of the methods, as pages show them; docs/statistics.md has them in full, with their sources."""

from armlift.stats.results import Method

FORMULAS: dict[Method, str] = {
    "welch": "lift = m / m₀ - 1, from (m / m₀) exp(± t √(s² / (n m²) + s₀² / (n₀ m₀²))) - 1; p: Welch's t",
    "proportion": "as welch, with s² = m (1 - m) n / (n - 1)",
    "ratio": "m = Σ num / Σ den, s² = (s_N² - 2 m s_ND + m² s_D²) / mean(den)², units as clusters; as welch",
    "paired": "d = y - y₀ within each unit, t on the mean of d; lift on the log ratio, with covariances",
    "paired_ratio": "as ratio on both sides, with all covariances within units",
    "interleaved": "preference = mean over units of (credits - credits₀) / (credits + credits₀)",
    "score": "Wilson's interval of one share",
    "cuped": "y - θ (x - mean(x)) with θ = cov(y, x) / var(x), x from before first exposure; then as welch",
    "cuped_ratio": "as ratio, its parts adjusted by what units did before first exposure",
    "quantile": "order statistics, their ranks' interval scaled for values that cluster in units",
}
"""m and n are an arm's mean and units, those with ₀ the control's; s² is a variance between units."""
ALWAYS_VALID = (
    "always valid: half-width = error · √(2k / (N ρ²) ln(√k / α)), k = N ρ² + 1, N units of both arms; "
    "ρ tuned to always_valid_units of the plan (Waudby-Smith and others, Annals of Statistics 2024)"
)
