#!/usr/bin/env python3
"""Proves optimal makespans of small cases with OR-tools' CP-SAT and prints them as CSV.

    pip install ortools
    tests/search/oracle.py > tests/data/search/optima.csv

The model knows nothing of the library's search: every pass is an interval with its exact meaning in simulate.h. What
CP-SAT cannot prove in the time given is left out.
"""
import argparse
import csv
import itertools
import random
import sys

from ortools.sat.python import cp_model

COLUMNS = ["placement", "ranks", "stages_per_rank", "micro_batches", "f", "i", "w", "fb", "p2p", "max_activations",
           "optimum"]


def rank_of_stage(placement, ranks, stages_per_rank):
    stages = ranks * stages_per_rank
    if placement == "v":
        return [min(s, stages - 1 - s) for s in range(stages)]
    return [s % ranks for s in range(stages)]


class Model:
    """One case. A backward is an I and a later W; a full B is never better. A pair is an F and a B together."""

    def __init__(self, case):
        self.case = case
        self.ranks = rank_of_stage(case["placement"], case["ranks"], case["stages_per_rank"])
        self.model = cp_model.CpModel()
        self.horizon = case["micro_batches"] * sum(f + i + w for f, i, w in self.costs()) + 4 * len(
            self.ranks) * case["p2p"]
        self.on_rank = [[] for _ in range(case["ranks"])]
        self.held = [[] for _ in range(case["ranks"])]
        self.build()

    def direction(self, k):
        return int(self.case["placement"] == "bidirectional" and k >= self.case["micro_batches"] // 2)

    def rank_of(self, stage, k):
        rank = self.ranks[stage]
        return self.case["ranks"] - 1 - rank if self.direction(k) else rank

    def costs(self):
        case = self.case
        return list(zip(case["f"], case["i"], case["w"]))

    def time(self, name):
        return self.model.NewIntVar(0, self.horizon, name)

    def build(self):
        model, m, stages = self.model, self.case["micro_batches"], len(self.ranks)
        passes = list(itertools.product(range(stages), range(m)))
        self.paired_forward = {p: [] for p in passes}
        self.paired_backward = {p: [] for p in passes}
        self.forward = {p: (self.time("f"), self.time("fe")) for p in passes}
        self.gradient = {p: (self.time("g"), self.time("ge")) for p in passes}
        self.weight = {p: (self.time("w"), self.time("we")) for p in passes}
        self.weight_alone = {}
        if self.case["fb"] is not None:
            self.add_pairs()
        makespan = self.time("makespan")
        for stage, k in passes:
            self.add_passes(stage, k)
            model.Add(makespan >= self.weight[stage, k][1])
            if k > 0 and self.direction(k) == self.direction(k - 1):  # micro-batches are alike, but the W of a pair is of that pair's micro-batch
                for kind in (self.forward, self.gradient):
                    model.Add(kind[stage, k][0] >= kind[stage, k - 1][1])
                model.Add(self.weight[stage, k][0] >= self.weight[stage, k - 1][1]).OnlyEnforceIf(
                    self.weight_alone[stage, k], self.weight_alone[stage, k - 1])
        for rank in range(self.case["ranks"]):
            model.AddNoOverlap(self.on_rank[rank])
            if self.case["max_activations"] is not None:
                model.AddCumulative(self.held[rank], [1] * len(self.held[rank]), self.case["max_activations"])
        model.Minimize(makespan)

    def add_pairs(self):
        model, m, duration = self.model, self.case["micro_batches"], self.case["fb"]
        for a, b in itertools.product(range(len(self.ranks)), repeat=2):
            if duration >= self.costs()[a][0] + sum(self.costs()[b][1:]):
                continue
            for k, j in itertools.product(range(m), repeat=2):
                if self.rank_of(a, k) != self.rank_of(b, j):
                    continue
                if k <= j and self.direction(k) == self.direction(j):
                    continue  # the backward comes after this forward
                used = model.NewBoolVar("pair")
                start, end = self.time("p"), self.time("pe")
                self.on_rank[self.rank_of(a, k)].append(
                    model.NewOptionalIntervalVar(start, duration, end, used, "pair"))
                for of, key in ((self.forward, (a, k)), (self.gradient, (b, j))):
                    model.Add(of[key][0] == start).OnlyEnforceIf(used)
                    model.Add(of[key][1] == end).OnlyEnforceIf(used)
                model.Add(self.weight[b, j][0] == end).OnlyEnforceIf(used)
                model.Add(self.weight[b, j][1] == end).OnlyEnforceIf(used)
                self.paired_forward[a, k].append(used)
                self.paired_backward[b, j].append(used)

    def add_alone(self, rank, times, duration, pairs):
        model = self.model
        alone = model.NewBoolVar("alone")
        model.Add(sum(pairs) + alone == 1)
        model.Add(times[1] == times[0] + duration).OnlyEnforceIf(alone)
        self.on_rank[rank].append(model.NewOptionalIntervalVar(times[0], duration, times[1], alone, "alone"))
        return alone

    def add_passes(self, stage, k):
        model, rank, key = self.model, self.rank_of(stage, k), (stage, k)
        f, i, w = self.costs()[stage]
        self.add_alone(rank, self.forward[key], f, self.paired_forward[key])
        self.add_alone(rank, self.gradient[key], i, self.paired_backward[key])
        self.weight_alone[key] = self.add_alone(rank, self.weight[key], w, self.paired_backward[key])
        model.Add(self.weight[key][0] >= self.gradient[key][1])
        if stage > 0:
            delay = self.case["p2p"] if self.rank_of(stage - 1, k) != rank else 0
            model.Add(self.forward[key][0] >= self.forward[stage - 1, k][1] + delay)
            model.Add(self.gradient[stage - 1, k][0] >= self.gradient[key][1] + delay)
        if stage + 1 == len(self.ranks):
            model.Add(self.gradient[key][0] >= self.forward[key][1])
        size = self.time("life")
        self.held[rank].append(model.NewIntervalVar(self.forward[key][0], size, self.weight[key][1], "held"))

    def solve(self, seconds, workers):
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.num_workers = workers
        status = solver.Solve(self.model)
        found = int(solver.ObjectiveValue()) if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else None
        return status == cp_model.OPTIMAL, found, int(solver.BestObjectiveBound())


def case(placement, ranks, stages_per_rank, micro_batches, f, i, w, fb=None, p2p=0, max_activations=None):
    stages = ranks * stages_per_rank
    even = lambda x: list(x) if isinstance(x, (list, tuple)) else [x] * stages
    return dict(placement=placement, ranks=ranks, stages_per_rank=stages_per_rank, micro_batches=micro_batches,
                f=even(f), i=even(i), w=even(w), fb=fb, p2p=p2p, max_activations=max_activations)


def cases():
    """Those of the literature, and small random ones."""
    yield case("v", 2, 2, 4, 1, 1, 1, fb=2, max_activations=5)
    yield case("v", 2, 2, 4, 2, 2, 2, fb=5, max_activations=5)
    yield case("v", 3, 2, 6, 1, 1, 1, fb=2, max_activations=7)
    draw = random.Random(1)
    for _ in range(120):
        placement = draw.choice(["one", "loop", "v"])
        ranks = draw.choice([2, 2, 3, 3, 4])
        stages_per_rank = 1 if placement == "one" else 2
        stages = ranks * stages_per_rank
        micro_batches = draw.randint(2, 6 if stages_per_rank == 1 else 4)
        uneven = draw.random() < 0.5
        time = lambda low, high: [draw.randint(low, high) for _ in range(stages)] if uneven else [
            draw.randint(low, high)] * stages
        f, i, w = time(1, 6), time(1, 6), time(1, 6)
        fb = None
        if draw.random() < 0.5:
            fb = max(1, min(a + b + c for a, b, c in zip(f, i, w)) - draw.randint(0, 2))
        yield case(placement, ranks, stages_per_rank, micro_batches, f, i, w, fb=fb, p2p=draw.choice([0, 0, 1, 3]),
                   max_activations=draw.choice([None, draw.randint(stages_per_rank, 3 * stages_per_rank)]))
    draw = random.Random(77)
    for _ in range(120):  # whose two directions need not be mirror images
        ranks = draw.choice([2, 2, 4, 4])
        micro_batches = 2 * draw.randint(1, 3 if ranks == 2 else 2)
        uneven = draw.random() < 0.5
        time = lambda low, high: [draw.randint(low, high) for _ in range(ranks)] if uneven else [
            draw.randint(low, high)] * ranks
        f, i, w = time(1, 7), time(1, 7), time(1, 7)
        fb = None
        if draw.random() < 0.7:
            fb = max(1, min(a + b + c for a, b, c in zip(f, i, w)) - draw.randint(0, 6))
        yield case("bidirectional", ranks, 1, micro_batches, f, i, w, fb=fb, p2p=draw.choice([0, 0, 1, 3]),
                   max_activations=draw.choice([None, 2, 3, 4]))


def text(value):
    if value is None:
        return ""
    if isinstance(value, list):
        return str(value[0]) if len(set(value)) == 1 else "|".join(map(str, value))
    return str(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="at most for each case")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(COLUMNS)
    for one in cases():
        optimal, found, bound = Model(one).solve(options.seconds, options.workers)
        row = [text(one[column]) for column in COLUMNS[:-1]]
        if optimal:
            out.writerow(row + [found])
            sys.stdout.flush()
        else:
            print("not proven:", row, "found", found, "bound", bound, file=sys.stderr)


if __name__ == "__main__":
    main()
