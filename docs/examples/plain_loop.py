"""The fine-grained correlation loss in a plain PyTorch loop."""

import torch
from scipy import stats
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from finecorr import FineGrainedCorrelationLoss  # finecorr

EPOCHS = 20

torch.manual_seed(0)
inputs, targets = (torch.tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True))
x_train, x_test, y_train, y_test = train_test_split(inputs, targets, random_state=0)
x_mean, x_std, y_mean, y_std = x_train.mean(0), x_train.std(0), y_train.mean(), y_train.std()
y_train[::10] = torch.nan  # as if one patient in ten had no outcome: the loss leaves them out
train_set = TensorDataset((x_train - x_mean) / x_std, (y_train - y_mean) / y_std)

backbone = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32))
head = nn.Sequential(nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-3)
loss_function = FineGrainedCorrelationLoss()  # finecorr

for epoch in range(EPOCHS):
    loss_function.progress = epoch / EPOCHS  # finecorr: when outliers count
    for x, y in DataLoader(train_set, batch_size=64, shuffle=True):
        features = backbone(x)  # finecorr: what is compared
        prediction = head(features).squeeze(-1)  # finecorr
        loss = loss_function(prediction, y, features)  # finecorr
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    prediction = head(backbone((x_test - x_mean) / x_std)).squeeze(-1) * y_std + y_mean
plcc = stats.pearsonr(prediction, y_test).statistic
srcc = stats.spearmanr(prediction, y_test).statistic
print(f"{len(y_test)} held-out patients: PLCC {plcc:.3f}, SRCC {srcc:.3f}")
