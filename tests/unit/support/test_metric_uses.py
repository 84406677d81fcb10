"""The words of PromQL that are metrics."""

from __future__ import annotations

import pytest

from tests.support.metric_uses import names


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("up == 0", {"up"}),
        ("vector(1)", set()),
        ('absent(up{job="node"})', {"up"}),
        (
            'sum by (host) (rate(a_total{code=~"5.."}[5m])) / on (host) group_left (x) b > 0.5e9 and time() - c offset 5m > 3',
            {"a_total", "b", "c"},
        ),
        ("max_over_time(idc_llm:x:ratio[4m:1m]) > bool 0.9 unless on (engine) min by (engine) (y) == 1", {"idc_llm:x:ratio", "y"}),
        (
            'label_replace(a, "gpu", "$1", "uuid", "(.+)") or histogram_quantile(0.99, sum by (le) (b_bucket{d="$deployment"}))',
            {"a", "b_bucket"},
        ),
        ('rate(a{d=~"${deployment:regex}"}[$__rate_interval])', {"a"}),
        ("1e6 * a", {"a"}),
    ],
)
def test_metrics_are_found_and_nothing_else(expression, found):
    assert names(expression) == found
