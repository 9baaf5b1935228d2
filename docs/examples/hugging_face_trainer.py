"""The fine-grained correlation loss in the Trainer of Hugging Face."""

from tempfile import TemporaryDirectory

import numpy as np
from scipy import stats
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from finecorr import FineGrainedCorrelationLoss  # finecorr


class CorrelationTrainer(Trainer):  # finecorr
    criterion = FineGrainedCorrelationLoss()  # finecorr
    loss_is_scaled_for_ga = False  # finecorr: it is a mean over the batch

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):  # finecorr
        self.criterion.progress = self.state.global_step / max(self.state.max_steps, 1)  # finecorr
        out = model(**inputs, output_hidden_states=True)  # finecorr
        loss = self.criterion(out.logits, inputs["labels"], out.hidden_states[-1][:, 0])  # finecorr
        return (loss, {"logits": out.logits}) if return_outputs else loss  # finecorr


def compute_metrics(evaluation):
    prediction, truth = evaluation.predictions[:, 0], evaluation.label_ids[:, 0]
    return {
        "PLCC": stats.pearsonr(prediction, truth).statistic,
        "SRCC": stats.spearmanr(prediction, truth).statistic,
    }


def sentences(x, y):
    """A patient as ten words, the level of each measurement, after the word that BERT reads out."""
    words = 1 + 8 * np.arange(10) + x_levels.transform(x).astype(int)
    words = np.pad(words, [(0, 0), (1, 0)])
    scores = y_scaler.transform(y).astype(np.float32)
    return [{"input_ids": w, "labels": s} for w, s in zip(words, scores, strict=True)]


set_seed(0)
x, y = load_diabetes(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y[:, None], random_state=0)
x_levels = KBinsDiscretizer(8, encode="ordinal", strategy="uniform").fit(x_train)
y_scaler = StandardScaler().fit(y_train)

config = BertConfig(
    vocab_size=1 + 8 * 10,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    num_labels=1,
)
with TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=15,
        learning_rate=1e-3,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=64,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = CorrelationTrainer(  # finecorr
        model=BertForSequenceClassification(config),
        args=arguments,
        train_dataset=sentences(x_train, y_train),
        eval_dataset=sentences(x_test, y_test),
        compute_metrics=compute_metrics,
    )
    trainer.train()
    metrics = trainer.evaluate()
plcc, srcc = metrics["eval_PLCC"], metrics["eval_SRCC"]
print(f"{len(y_test)} held-out patients: PLCC {plcc:.3f}, SRCC {srcc:.3f}")
