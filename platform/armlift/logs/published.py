"""Published figures of the KuaiRand logs: the generator is calibrated to them and measured against them.

KuaiRand (Gao et al., CIKM 2022; licence CC BY-SA 4.0) logs what Kuaishou users were shown from 2022-04-08 to
2022-05-08, 31 days. Two published sets of aggregates are used, and no row of the logs:

- KuaiRand-27K, aggregates of both logs: exposures, clicks, hours, tabs, sessions, concentration;
- KuaiRand-Pure, aggregates of 2022-04-22 to 2022-05-08 after exact duplicates are dropped
  (Aylayan/KuaiRand_Pure):
  long views, hates, profile visits, positive interactions, which the 27K aggregates lack.

`standard` is what the app's own policy showed, `random` what the uniform random intervention showed.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TIMEZONE = "Asia/Shanghai"
DAYS = 31
USERS = 27_285
TABS = 15
TAB_MAIN = 1
"""The tab that holds two thirds of the standard and 99.3 % of the random exposures."""

# KuaiRand-27K, log_{random,standard}_basic_stats: exposures and clicks.
RANDOM_EXPOSURES, RANDOM_CLICKS = 1_186_059, 208_934
STANDARD_EXPOSURES, STANDARD_CLICKS = 322_278_385, 122_052_542
CLICK_RANDOM = RANDOM_CLICKS / RANDOM_EXPOSURES
CLICK_STANDARD = STANDARD_CLICKS / STANDARD_EXPOSURES
RANDOM_SHARE = RANDOM_EXPOSURES / (RANDOM_EXPOSURES + STANDARD_EXPOSURES)

# KuaiRand-Pure, random and standard: long views, hates, profile visits, positive interactions, of all
# exposures.
_PURE_RANDOM, _PURE_STANDARD = 1_186_049, 289_119
PURE_CLICK_STANDARD = 130_442 / _PURE_STANDARD
LONG_VIEW_RANDOM, LONG_VIEW_STANDARD = 100_769 / _PURE_RANDOM, 92_035 / _PURE_STANDARD
HATE_RANDOM, HATE_STANDARD = 1_351 / _PURE_RANDOM, 227 / _PURE_STANDARD
PROFILE_RANDOM, PROFILE_STANDARD = 6_597 / _PURE_RANDOM, 5_490 / _PURE_STANDARD
POSITIVE_RANDOM, POSITIVE_STANDARD = 6_611 / _PURE_RANDOM, 6_196 / _PURE_STANDARD

# KuaiRand-Pure, random: exposures whose duration is missing (0).
DURATION_MISSING = 36_920 / _PURE_RANDOM

# KuaiRand-27K, log_standard_session_summary: mean sessions of a user over the 31 days (median 149, 90 % below
# 241). The table does not say what ends a session; that a gap of 30 minutes does is this project's reading.
SESSIONS_PER_USER = 150.162653472604
SESSION_GAP_MS = 1_800_000
SESSIONS_PER_DAY = SESSIONS_PER_USER / DAYS

# Rows of both logs, since the random intervention filled slots of ordinary sessions.
ROWS_PER_USER_DAY = (STANDARD_EXPOSURES + RANDOM_EXPOSURES) / USERS / DAYS
ROWS_PER_SESSION = ROWS_PER_USER_DAY / SESSIONS_PER_DAY

# KuaiRand-27K, log_standard_video_concentration and random_vs_standard_comparison.
TOP_SHARE_STANDARD, TOP_SHARE_RANDOM = 0.4411059153098338, 0.012700885874985983
GINI_STANDARD, GINI_RANDOM = 0.531399810191846, 0.08080947887577361

# KuaiRand-27K, log_standard_hourly: exposures of each hour of the day, China time.
_HOURS = (
    10_624_659, 6_462_822, 4_132_020, 2_911_135, 2_617_287, 3_692_549, 6_873_534, 9_968_651,
    11_545_430, 12_947_165, 14_427_110, 15_441_567, 17_029_465, 17_132_315, 15_454_700, 15_767_584,
    16_594_065, 17_525_682, 18_844_519, 19_871_032, 21_315_043, 22_117_433, 21_859_219, 17_123_399,
)  # fmt: skip

# KuaiRand-27K, log_standard_tab_stats: exposures and clicks of tabs 0 to 14.
_TAB_EXPOSURES = (
    63_923_841, 215_925_023, 9_949_649, 957_605, 24_510_543, 429_129, 5_268_393, 114_704,
    478_050, 60_678, 23_722, 217_754, 332_086, 72_217, 14_991,
)  # fmt: skip
_TAB_CLICKS = (
    7_413_981, 95_793_407, 4_220_780, 20_243, 13_345_436, 101_493, 936_306, 50_629,
    19_352, 60_213, 23_714, 129, 40_636, 26_219, 4,
)  # fmt: skip

# KuaiRand-27K, log_random_tab_stats: (exposures, clicks) of the tabs the intervention reached.
_RANDOM_TABS = {1: (1_178_025, 208_847), 2: (764, 87), 11: (6_755, 0), 14: (515, 0)}


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / counts.sum()
    return shares


def _rates(clicks: Floats, exposures: Floats) -> Floats:
    rates: Floats = np.divide(clicks, exposures, out=np.zeros(len(clicks)), where=exposures > 0)
    return rates


_STANDARD = np.array([_TAB_EXPOSURES, _TAB_CLICKS], dtype=np.float64)
_RANDOM = np.array([_RANDOM_TABS.get(tab, (0, 0)) for tab in range(TABS)], dtype=np.float64).T

HOUR_SHARES = _shares(np.array(_HOURS, dtype=np.float64))
"""Share of each hour in the standard exposures, float64 [24]."""
TAB_SHARES = np.stack([_shares(_STANDARD[0]), _shares(_RANDOM[0])])
"""Share of each tab, float64 [2, 15]: standard, random."""
TAB_CLICK_RATES = np.stack([_rates(_STANDARD[1], _STANDARD[0]), _rates(_RANDOM[1], _RANDOM[0])])
"""Click rate of each tab, float64 [2, 15]: standard, random; 0 where the tab has no exposure."""
