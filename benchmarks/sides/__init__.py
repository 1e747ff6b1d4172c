"""The sides of the fine-tuning benchmark: `zoo train`, its physical limit, the tutorial's loop, fastai."""
