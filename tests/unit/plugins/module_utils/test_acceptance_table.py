# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is expected of cards."""
from __future__ import annotations

from ansible_collections.idc.llm.plugins.module_utils._acceptance_table import EXPECTED, PER_GPU, minimum
from ansible_collections.idc.llm.plugins.module_utils._products import PRODUCTS


def test_the_table_names_cards_that_there_are_and_figures_that_are_measured():
    assert set(EXPECTED) <= {product.name for product in PRODUCTS}
    assert all(set(row.per_gpu) <= set(PER_GPU) and (row.per_gpu or row.busbw_gbs or row.pcie) for row in EXPECTED.values())
    assert minimum("busbw_gbs", "H100 SXM5 80GB", 8, {}) == 432.0 and minimum("busbw_gbs", "A100 SXM4 80GB", 8, {}) == 211.5
    assert minimum("busbw_gbs", "H100 SXM5 80GB", 4, {}) is None and minimum("matmul_tflops", "", 1, {}) is None
