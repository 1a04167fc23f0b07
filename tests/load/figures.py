"""Figures of a phase, each with its limit."""


class Figures:
    """The figures of one phase, and whether all are good."""

    def __init__(self):
        self.are_good = True
        self.lines: list[str] = []

    def note(self, name: str, value) -> None:
        self.lines.append(f"   {name}: {value}")

    def hold(self, name: str, value, is_good: bool, limit: str) -> None:
        self.are_good &= bool(is_good)
        self.lines.append(f"{'   ' if is_good else '!! '}{name}: {value} ({limit})")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def slope(points: list[tuple[float, float]]) -> float:
    """By least squares."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
