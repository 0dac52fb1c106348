import torch
from rich.console import Console

from pruning.cost import count_macs, count_params
from pruning.cost.table import group_table
from pruning.plan import Plan
from pruning.surgery import compact
from tests.pruning.networks import ConvNet


def test_the_table_holds_what_is_counted_on_the_cut_network() -> None:
    network, x = ConvNet(24, 20, 16, 30), torch.randn(1, 3, 16, 16)
    groups = network.groups()
    console = Console(width=160, record=True)
    console.print(group_table(network, groups, {"inner": 5}, lambda _: {"x": x}))
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in console.export_text().splitlines()]
    rows = {cells[0]: cells[2:] for cells in lines if len(cells) == 8}
    before = count_params(network), count_macs(network, {"x": x}).total
    without = 20 * 24 * 9 + 2 * 20 + 20 * 24  # conv1, its norm, and what conv2 reads
    child = compact(network, groups, Plan({"inner": (0, 3, 4, 7, 9)}))
    after = count_params(child), count_macs(child, {"x": x}).total
    shares = [f"{left / whole:.2%}" for whole, left in zip(before, after, strict=True)]
    assert rows["share"] == ["100.00%", f"{75 / 90:.2%}", "100.00%", shares[0], "100.00%", shares[1]]
    assert rows["inner"][:4] == ["20", "5", f"{without / 1e3:.2f} k", f"{without / 4e3:.2f} k"]
    assert rows["hidden"][:2] == ["30", "30"]
    assert rows["network"][2] == f"{before[0] / 1e3:.2f} k"
