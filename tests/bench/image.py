from tests.bench.bench import Bench
from tests.bench.measure import Table


def run(bench: Bench) -> list[Table]:
    return []
