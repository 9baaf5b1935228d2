"""The fine-grained correlation loss in scikit-learn, through skorch."""

import numpy as np
import torch
from scipy import stats
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from torch import nn

from finecorr import FineGrainedCorrelationLoss  # finecorr


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        features = self.backbone(x)  # finecorr: what is compared
        return self.head(features).squeeze(-1), features  # finecorr: skorch predicts the first


class CorrelationRegressor(NeuralNetRegressor):  # finecorr
    def get_loss(self, y_pred, y_true, **kwargs):  # finecorr
        self.criterion_.progress = len(self.history) / self.max_epochs  # finecorr
        return self.criterion_(y_pred[0], y_true.to(self.device), features=y_pred[1])  # finecorr


def srcc(truth, prediction):
    return stats.spearmanr(truth, prediction).statistic


torch.manual_seed(0)
x, y = (a.astype(np.float32) for a in load_diabetes(return_X_y=True))
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)

network = CorrelationRegressor(  # finecorr
    Network,
    criterion=FineGrainedCorrelationLoss,  # finecorr
    optimizer=torch.optim.AdamW,
    lr=1e-3,
    batch_size=64,
    max_epochs=20,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
pipeline = Pipeline([("scaler", StandardScaler()), ("network", network)])
search = GridSearchCV(
    TransformedTargetRegressor(pipeline, transformer=StandardScaler()),
    {"regressor__network__criterion__rank_weight": [0.0, 1.0]},  # finecorr
    scoring=make_scorer(srcc),
    cv=3,
)
search.fit(x_train, y_train)
prediction = search.predict(x_test)
plcc = stats.pearsonr(prediction, y_test).statistic
print(f"chosen: {search.best_params_}")
print(f"{len(y_test)} held-out patients: PLCC {plcc:.3f}, SRCC {srcc(y_test, prediction):.3f}")
