"""What the records show: paired differences with intervals, and verdicts by one written rule.

The rule. A scene is the unit: each of the 29 is judged once by a setting, by the run of its fold, and d is
its difference from the mean of the baseline's runs of that fold, one of each seed. Two things make the mean
of d uncertain: which scenes there are, and how the runs happened to go. So

    SE^2 = s^2 / scenes + r^2 / folds

where s is the spread of d over scenes, and r^2 the variance that the scenes of a fold share: that of one
run, known from the baseline's seeds, and that of the baseline's mean; or what the setting's own folds show,
if that is more. t = mean / SE is read with the degrees of freedom of Welch and Satterthwaite: scenes less
one for the first term; for the second those of the baseline's seeds, or folds less one. Over all questions
of a task the p-values are corrected by Holm's step-down method, so that the chance of even one false verdict
is 5 %: "helps" or "hurts" where the corrected p is below 0.05, else "no evidence". Five folds can't tell a
setting that trains wildly from a calm one whenever they happen to agree: of settings that change nothing but
vary four times as much between runs, about one in two hundred gets a verdict.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers.experiments.grid import COST_FAMILIES, QUESTIONS, experiments_of, grid, runs_of
from helpers.experiments.sweep import read_table
from helpers.files import StudyError

ALPHA = 0.05
COMPARABLE = 0.15  # costs closer than this share are equal; seconds of equal work vary by as much
CALM = 0.2  # dB: a setting no further from the baseline trains about as calmly
COSTS = ["parameters", "macs_per_pixel", "seconds", "steps", "pixels"]
JUDGED_BY = {"restore": "psnr", "imitate": "psnr", "compress": "score"}  # more is better
COLUMNS = ["setting", "factor", "difference", "low", "high", "p", "verdict"]


def load(task: str) -> pd.DataFrame:
    """A row a run and test scene of a task: setting, factor, fold, costs, scene, psnr (dB), ssim, score.

    A run that diverged has one row, without measures.
    """
    names = [
        {"key": run.key(), "setting": one.name, "factor": one.factor, "fold": run.fold}
        for one in experiments_of(task).values()
        for run in runs_of(task, one)
    ]
    runs = pd.DataFrame(names).merge(read_table("runs")[["key", *COSTS, "diverged"]], on="key")
    return runs.merge(read_table("scenes"), on="key", how="left")


def curves(task: str, settings: Sequence[str]) -> dict[str, tuple[list[int], list[float]]]:
    """(steps, PSNR in dB on training patches, mean over folds) of each setting."""
    experiments, table = experiments_of(task), read_table("curves").set_index("key")
    found = {}
    for name in settings:
        keys = [run.key() for run in runs_of(task, experiments[name])]
        mean = table.loc[table.index.isin(keys)].groupby("step")["psnr"].mean()
        found[name] = (mean.index.tolist(), mean.tolist())
    return found


class Noise(NamedTuple):
    """What runs differ by when nothing but the seed changes: variance of a run's mean over its scenes."""

    variance: float
    freedom: int
    seeds: int

    def shared(self) -> float:
        """Variance of the difference between one run and the mean of the baseline's seeds."""
        return self.variance * (1 + 1 / self.seeds)


def noise(table: pd.DataFrame, measure: str = "psnr") -> Noise:
    """The noise of runs, from the baseline's seeds in each fold."""
    seeds = table[table["factor"] == "seed"]
    means = seeds.groupby(["fold", "setting"])[measure].mean().unstack()
    variance = float(means.var(axis=1, ddof=1).mean())
    return Noise(variance, len(means) * (means.shape[1] - 1), means.shape[1])


def baseline(table: pd.DataFrame, measure: str = "psnr") -> pd.Series:
    """The baseline's measure of each (fold, scene), mean over its seeds."""
    return table[table["factor"] == "seed"].groupby(["fold", "scene"])[measure].mean()


def effects(table: pd.DataFrame, measure: str = "psnr") -> pd.DataFrame:
    """COLUMNS for each setting: mean difference to the baseline, 95 % interval, corrected p, verdict.

    `table` is that of `load`; differences are in the unit of the measure. A setting of which a run
    diverged has the verdict "diverged" and no difference; one that lacks runs is left out.
    """
    luck, base, rows = noise(table, measure), baseline(table, measure), []
    settings = table[table["factor"] != "seed"].groupby(["setting", "factor"], sort=False)
    for (setting, factor), found in settings:
        if found["fold"].nunique() == base.index.unique("fold").size:
            differences = found.set_index(["fold", "scene"])[measure] - base
            rows.append({"setting": setting, "factor": factor, **interval(differences, luck)})
    return with_verdicts(pd.DataFrame(rows, columns=[*COLUMNS, "error"]))


def contrast(table: pd.DataFrame, weights: Mapping[str, float], measure: str = "psnr") -> dict[str, float]:
    """`interval` of a weighted sum of settings, scene by scene; "baseline" is the mean of its seeds."""
    luck, base = noise(table, measure), baseline(table, measure)
    values = table.pivot(index=["fold", "scene"], columns="setting", values=measure).assign(baseline=base)
    runs = {name: luck.seeds if name == "baseline" else 1 for name in weights}
    variance = luck.variance * sum(weight**2 / runs[name] for name, weight in weights.items())
    differences = values[list(weights)].reindex(base.index) @ pd.Series(weights)
    return interval(differences, luck._replace(variance=variance, seeds=np.inf))


def interaction(table: pd.DataFrame, pair: str, parts: Sequence[str], measure: str = "psnr") -> dict:
    """`interval` of what two changes at once, `pair`, do beyond the sum of what each does, `parts`."""
    return contrast(table, {pair: 1, **dict.fromkeys(parts, -1), "baseline": len(parts) - 1}, measure)


def interval(differences: pd.Series, luck: Noise) -> dict[str, float]:
    """difference, low and high (95 %), p uncorrected and the standard error, of scenes' differences.

    `differences` has the index (fold, scene); all is nan where one of them is, of a run that diverged.
    """
    if differences.isna().any():
        return dict.fromkeys(("difference", "low", "high", "p", "error"), np.nan)
    folds = differences.groupby("fold")
    own = folds.mean().var(ddof=1) - folds.var(ddof=1).mean() / folds.size().mean()
    shared, freedom = (luck.shared(), luck.freedom) if own < luck.shared() else (own, folds.ngroups - 1)
    terms = np.array([differences.var(ddof=1) / len(differences), shared / folds.ngroups])
    error = float(np.sqrt(terms.sum()))
    if error:  # Satterthwaite 1946
        freedom = terms.sum() ** 2 / (terms**2 / [len(differences) - 1, freedom]).sum()
    mean, reach = float(differences.mean()), stats.t.ppf(1 - ALPHA / 2, freedom) * error
    p = 2 * stats.t.sf(abs(mean) / error, freedom) if error else float(mean == 0)
    return {"difference": mean, "low": mean - reach, "high": mean + reach, "p": p, "error": error}


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number (Holm 1979): the chance of one false alarm stays at ALPHA."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1)
    return corrected


def verdict(difference: float, p: float) -> str:
    """ "helps", "hurts" or "no evidence", of a mean difference (more is better) and a corrected p."""
    if p >= ALPHA:
        return "no evidence"
    return "helps" if difference > 0 else "hurts"


def with_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `interval` with their p corrected for one another, and verdicts; "diverged" without a p."""
    rows = rows.assign(verdict="diverged")
    measured = rows["p"].notna()
    rows.loc[measured, "p"] = holm(rows.loc[measured, "p"].to_numpy(float))
    pairs = rows.loc[measured, ["difference", "p"]].to_numpy(float)
    rows.loc[measured, "verdict"] = [verdict(*pair) for pair in pairs]
    return rows


def smallest_readable(table: pd.DataFrame) -> float:
    """dB that a calm setting must reach for a verdict by itself, before any other is judged.

    Wilder ones need more; behind settings that are clear, Holm's method asks a little less.
    """
    found = effects(table).dropna(subset="error")
    error = found.loc[found["difference"].abs() < CALM, "error"].median()
    return float(stats.t.ppf(1 - ALPHA / 2 / len(found), noise(table).freedom) * error)


def at_equal_cost(table: pd.DataFrame, cost: str, measure: str = "psnr") -> pd.DataFrame:
    """setting, ratio of costs, and `effects` against a baseline that was given the same cost.

    `cost` is a key of COST_FAMILIES: MACs are bought with width, training seconds with steps. The baseline of
    equal cost is read off, scene by scene, between the two members of that family whose logarithms of
    cost lie on both sides. Settings of equal cost, of the family itself, or beyond it are left out.
    """
    single = noise(table, measure)._replace(seeds=1)  # the rival stands between single runs
    table = table.assign(setting=table["setting"].where(table["factor"] != "seed", "baseline"))
    costs = table.groupby("setting", sort=False)[cost].mean()
    members = table[(table["setting"] == "baseline") | (table["factor"] == COST_FAMILIES[cost])]
    values = members.groupby(["fold", "scene", "setting"])[measure].mean().unstack()
    values = values[costs[values.columns].sort_values().index]
    logs, rows = np.log(costs[values.columns].to_numpy()), []
    for setting, found in table[~table["setting"].isin(values.columns)].groupby("setting", sort=False):
        ratio, at = costs[setting] / costs["baseline"], np.log(costs[setting])
        if abs(ratio - 1) <= COMPARABLE or not logs[0] <= at <= logs[-1] or found["diverged"].any():
            continue
        right = int(np.clip(np.searchsorted(logs, at), 1, len(logs) - 1))
        share = (at - logs[right - 1]) / (logs[right] - logs[right - 1])
        equal = values.iloc[:, right - 1] * (1 - share) + values.iloc[:, right] * share
        differences = found.set_index(["fold", "scene"])[measure] - equal
        rows.append({"setting": setting, "ratio": ratio, **interval(differences, single)})
    columns = [name for name in (*COLUMNS, "ratio", "error") if name != "factor"]
    return with_verdicts(pd.DataFrame(rows, columns=columns))


def experiment_table(task: str, table: pd.DataFrame) -> pd.DataFrame:
    """Every experiment: question, line, prediction, result, cost. Raises StudyError if one has no record."""
    result = effects(table, JUDGED_BY[task]).set_index("setting")
    costs, rows = table.groupby("setting")[COSTS].mean(), []
    for name, one in experiments_of(task).items():
        if one.factor == "seed":
            continue
        if name not in result.index:
            words = "has no record of each fold; `python -m helpers ablate --mode full` makes them"
            raise StudyError(f"experiment {name!r} of {task} {words}")
        asked = {"experiment": name, "question": QUESTIONS[one.factor], "changed": one.line()}
        found = result.loc[name, ["difference", "low", "high", "verdict"]]
        rows.append({**asked, "predicted": one.prediction, **found, **costs.loc[name]})
    return pd.DataFrame(rows)


def as_text(rows: pd.DataFrame) -> list[str]:
    """ "+0.12 (+0.08 to +0.16)" of each row's difference, low and high; "-" of one that diverged."""
    columns = rows[["difference", "low", "high"]].astype(float).to_numpy()
    return ["-" if np.isnan(row).any() else "{:+.2f} ({:+.2f} to {:+.2f})".format(*row) for row in columns]


def experiments_as_text(table: pd.DataFrame, unit: str = "PSNR, dB") -> pd.DataFrame:
    """An `experiment_table` to be read: the one line changed, predicted, budget, found, verdict and cost."""
    budgets = zip(table["steps"], table["pixels"] / 1e6, strict=True)
    columns = {
        "changed": table["changed"],
        "predicted": table["predicted"].replace("", "(seen in a trial)"),
        "budget": [f"{steps:,.0f} steps, {pixels:.1f} megapixels" for steps, pixels in budgets],
        unit: as_text(table),
        "verdict": table["verdict"],
        "parameters": table["parameters"].map("{:,.0f}".format),
        "MAC a pixel": table["macs_per_pixel"].map("{:,.0f}".format),
        "seconds": table["seconds"].map("{:.1f}".format),
    }
    return pd.DataFrame(columns, index=table.index)


def provenance() -> dict:
    """What the records that the grid asks for took: runs, hours of one core, commits, processors."""
    runs = read_table("runs")
    runs = runs[runs["key"].isin([run.key() for run in grid("full")])]
    return {
        "runs": len(runs),
        "hours": runs["seconds"].sum() / 3600,
        "longest": runs["seconds"].max(),
        "commits": sorted(runs["commit"].dropna().unique()),
        "processors": sorted(runs["processor"].unique()),
        "versions": sorted(runs["version"].unique()),
    }
