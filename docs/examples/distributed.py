"""The fine-grained correlation loss over several processes: torchrun --nproc-per-node 2 FILE."""

import torch
import torch.distributed as dist
from scipy import stats
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from finecorr import FineGrainedCorrelationLoss  # finecorr
from finecorr.losses import GlobalBatch  # finecorr

EPOCHS = 20


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        features = self.backbone(x)  # finecorr: what is compared
        return self.head(features).squeeze(-1), features  # finecorr


dist.init_process_group("gloo")
torch.manual_seed(0)
inputs, targets = (torch.tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True))
x_train, x_test, y_train, y_test = train_test_split(inputs, targets, random_state=0)
x_mean, x_std, y_mean, y_std = x_train.mean(0), x_train.std(0), y_train.mean(), y_train.std()
train_set = TensorDataset((x_train - x_mean) / x_std, (y_train - y_mean) / y_std)
sampler = DistributedSampler(train_set)
loader = DataLoader(train_set, batch_size=64 // dist.get_world_size(), sampler=sampler)

network = DistributedDataParallel(Network())
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
loss_function = GlobalBatch(FineGrainedCorrelationLoss())  # finecorr: of all processes together

for epoch in range(EPOCHS):
    sampler.set_epoch(epoch)
    loss_function.progress = epoch / EPOCHS  # finecorr: when outliers count
    for x, y in loader:
        prediction, features = network(x)  # finecorr
        loss = loss_function(prediction, y, features)  # finecorr
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

if dist.get_rank() == 0:
    with torch.no_grad():
        prediction = network.module((x_test - x_mean) / x_std)[0] * y_std + y_mean
    plcc = stats.pearsonr(prediction, y_test).statistic
    srcc = stats.spearmanr(prediction, y_test).statistic
    print(f"{len(y_test)} held-out patients: PLCC {plcc:.3f}, SRCC {srcc:.3f}")
dist.destroy_process_group()
