"""LightGBM with two own features, for the bank data."""

from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

from churn.candidate import Candidate

TYPES = ("collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier")


class Ratios(TransformerMixin, BaseEstimator):
    """The features as numbers, and two that trees cannot find one column at a time."""

    def fit(self, rows, target=None):
        self.levels_ = {name: sorted(rows[name].dropna().unique()) for name in rows.select_dtypes("object")}
        return self

    def transform(self, rows):
        numbers = {name: rows[name].map(dict(zip(levels, range(len(levels))))) for name, levels in self.levels_.items()}
        per_salary = rows["Balance"] / (rows["EstimatedSalary"] + 1)
        return rows.assign(**numbers, per_salary=per_salary, tenure_share=rows["Tenure"] / rows["Age"]).astype(float)


def candidates(contract, context):
    boosting = LGBMClassifier(n_estimators=120, learning_rate=0.03, num_leaves=7, verbose=-1, random_state=context.seed)
    sizes = [{"lgbmclassifier__num_leaves": leaves} for leaves in (7, 15, 31)]
    model = make_pipeline(Ratios(), boosting)
    return {"ratios": Candidate(model, sizes, requirements=("lightgbm",), trusted_types=TYPES)}
