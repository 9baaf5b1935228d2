"""The fine-grained correlation loss in a LightningModule."""

import lightning as L
import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection, PearsonCorrCoef, SpearmanCorrCoef

from finecorr import FineGrainedCorrelationLoss  # finecorr


class Regressor(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(32, 1))
        self.loss_function = FineGrainedCorrelationLoss()  # finecorr
        self.metrics = MetricCollection({"PLCC": PearsonCorrCoef(), "SRCC": SpearmanCorrCoef()})

    def forward(self, x):
        return self.head(self.backbone(x)).squeeze(-1)

    def on_train_epoch_start(self):  # finecorr: when outliers count
        self.loss_function.progress = self.current_epoch / self.trainer.max_epochs  # finecorr

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.backbone(x)  # finecorr: what is compared
        prediction = self.head(features).squeeze(-1)  # finecorr
        loss = self.loss_function(prediction, y, features)  # finecorr
        self.log("loss", loss)
        return loss

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.metrics.update(self(x), y)
        self.log_dict(self.metrics)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def data_set(x, y):
    return TensorDataset(torch.tensor(x).float(), torch.tensor(y).float())


L.seed_everything(0)
x, y = load_diabetes(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y[:, None], random_state=0)
x_scaler, y_scaler = StandardScaler().fit(x_train), StandardScaler().fit(y_train)
train_set = data_set(x_scaler.transform(x_train), y_scaler.transform(y_train)[:, 0])
test_set = data_set(x_scaler.transform(x_test), y_test[:, 0])

regressor = Regressor()
trainer = L.Trainer(
    max_epochs=20,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(regressor, DataLoader(train_set, batch_size=64, shuffle=True))
(metrics,) = trainer.test(regressor, DataLoader(test_set, batch_size=64), verbose=False)
print(f"{len(y_test)} held-out patients: PLCC {metrics['PLCC']:.3f}, SRCC {metrics['SRCC']:.3f}")
