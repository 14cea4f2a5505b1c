"""Several comparisons at once: adjusted p-values, and letters that sum them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: valid however the tests depend on each other.

    For claims: P(any false one) stays below alpha (Holm 1979). The same numbers as statsmodels'
    `multipletests`, which collects the garbage of the whole process at each call: seconds, with a run's
    records in memory.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted.tolist()


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the expected share of false ones among those called, in the order given.

    For exploration; tests must be independent or positively dependent (Benjamini and Hochberg 1995;
    Benjamini and Yekutieli 2001). Own arithmetic for the same reason as in `holm`.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.minimum.accumulate(p[order] * p.size / np.arange(p.size, 0, -1)))
    return adjusted.tolist()


def letters(names: Sequence[str], p_values: Mapping[tuple[str, str], float], alpha: float) -> dict[str, str]:
    """Compact letter display: name → letters; two that share one do not differ significantly.

    `p_values` are adjusted ones of unordered pairs; a pair that is not there was not compared and counts as
    not different. "a" goes to the first of `names`: order them best first (Piepho 2004).

    Raises:
        ValueError: A pair names something that is not in `names`.
    """
    unknown = {name for pair in p_values for name in pair} - set(names)
    if unknown:
        raise ValueError(f"p-values of {sorted(unknown)}, which are not among {list(names)}")
    if len(names) < 2:
        return dict.fromkeys(names, "a")
    import pandas as pd
    from scikit_posthocs import compact_letter_display

    p = pd.DataFrame(1.0, index=list(names), columns=list(names))
    for (first, second), value in p_values.items():
        p.loc[first, second] = p.loc[second, first] = value
    shown = compact_letter_display(p, alpha=alpha)
    return {name: str(shown[name]).replace(" ", "") for name in names}
