"""What the command takes that makes a run, or goes on with one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from zoo.config.marks import Positional, UseAppendAction, arg


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Fine-tune a backbone on images and leave a run folder.

    DATA is a folder (class/image, or train|val|test/class/image), a CSV or Parquet file whose columns are named by
    --image, --target, --covariate, --group, --weight and --split, or the name of a data set that a plugin offers.
    `zoo train --resume RUN` goes on with a run that was interrupted, `zoo train DATA --from RUN` with one that is
    finished: deeper, or on more data.
    """

    data: Positional[str]
    """Folder, CSV or Parquet file, or the name of a data set."""
    out: Path
    """The run folder to make."""
    backbone: str | None = None
    """Which backbone, as source/model or source/model.tag; `zoo list` shows them. Needed unless --from names a run."""
    start: Annotated[str | None, arg(name="from", metavar="RUN")] = None
    """The folder of a finished run to go on from: its backbone, weights, heads, classes in their order, image
    preparation and covariates are taken over. Classes that are new in DATA join the heads, and images that the run
    knows stay in the split in which it had them."""
    freeze: str = "head"
    """What trains: head (the backbone is frozen), last(K) (its last K stages too), none (nothing is frozen),
    until(STAGE), depth(SHARE), regex(PATTERN); norm or bias before @, as in norm@last(2), trains those alone,
    lora(r=8) adapters of that rank beside frozen weights. And when:
    lp-ft(EPOCHS) trains the head alone for so long and then everything, gradual(every=1) frees one stage after the
    other, thaw(STAGE, EPOCH)+… those that it names; last(2)@lp-ft(2) ends with last(2)."""
    batchnorm: Literal["frozen", "recalibrate", "train"] | None = None
    """BatchNorm statistics: frozen (all stand still; the default for pretrained weights), train (those of the trainable
    stages follow the batches; the default for random weights), or recalibrate (learned anew from the training images
    before the first step, then frozen)."""
    weights: str | None = None
    """Weight tag of the backbone, a file of weights (.safetensors, .pth, .pt, .bin) or the folder of a run, or none for
    random weights; by default its first pretrained tag."""
    size: int | None = None
    """Height and width of the images in pixels; by default as the backbone was pretrained."""
    features: str | None = None
    """Feature kind for the head, such as pooled or cls; by default the backbone's own."""
    crop: Literal["center", "squash"] | None = None
    """Cut the centre out of each image, or squeeze the whole image to the input's shape; by default as the backbone was
    pretrained, which is mostly center."""
    head: str | None = None
    """Head: linear (the default), mlp, cosine, or attention over the tokens of a vision transformer; with options as
    in mlp(hidden=256, dropout=0.2)."""
    imbalance: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="STRATEGY")] = ()
    """Answer to class imbalance, such as class-weights or class-weights(method=effective-number)+logit-adjust;
    TARGET=STRATEGY where there are several targets. auto tries a few on the training rows and takes the best by
    --metric (balanced_accuracy where that is a loss), or none where none beats plain training."""
    impute: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="KIND=IMPUTER")] = ()
    """Answer to holes: covariates=mean (the default), median, most-frequent, constant(value=0), knn(k=5), iterative,
    missforest, gain or miwae; +indicator adds columns that say what was missing; +dropout(p=0.2) does so and takes all
    covariates of a row away now and then in training, so that the model learns to do without them.
    rows=drop(max=0.05, max_class=0.05) leaves training rows with holes in covariates out, within these shares.
    pixels=mean, linear, telea(radius=3), ns, biharmonic or mae fills missing pixels (NaN, infinite, --nodata, alpha 0);
    channels=mean or subset fills channels that are missing altogether. Without them, images with holes in which no
    usable value stands are bad files."""
    missing_labels: Annotated[str, arg(metavar="POLICY")] = "mask"
    """Answer to training rows that lack some label: mask lets them teach by the labels that they have;
    drop(max=0.05, max_class=0.05) leaves them out within these shares; pseudo(tau=0.95, start=0.5) trains so at first,
    then lets the model fill in what it is sure of, class by class, and goes on. Labels of held-out rows are never made
    up."""
    channels: Annotated[tuple[str, ...], arg(metavar="BAND …")] = ()
    """Bands of the image files in their order, as in --channels red green blue nir, for TIFF and .npy files of any
    number of bands and of uint8, uint16, int16 or float32; - passes over a band. Red, green and blue have the kernels
    that were pretrained for them; where a file states its bands by name, these are matched by name."""
    layout: Literal["hwc", "chw"] | None = None
    """Of .npy files with --channels: bands last or first; by default where an axis is as long as there are bands."""
    nodata: float | None = None
    """The value that says that a pixel is missing, in the files' own units; in colour pictures, where red, green and
    blue all have it."""
    image: str | None = None
    """Column with the image paths."""
    target: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN")] = ()
    """Column to learn; repeat for several. A cell may be empty: such a row teaches the other targets."""
    task: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TARGET=KIND")] = ()
    """What a target is, where it is not one class a row: TARGET=regression, a number; TARGET=ordinal, ranks by number,
    or as named in ordinal(mild, moderate, severe); TARGET=multilabel, cells such as a|b, or multilabel(A, B), columns
    of 0, 1 and nothing. It names the target too."""
    covariate: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN")] = ()
    """Column beside the image that the head sees too; repeat for several."""
    group: str | None = None
    """Column whose equal values stay on one side of every split (a patient, a module)."""
    weight: str | None = None
    """Column with the weight of each row in the loss."""
    split: str | None = None
    """Column with train, val or test."""
    stratify: str | None = None
    """Column whose values keep their proportions in every split, beside the classes of the first target."""
    test_fraction: float = 0.25
    """Share of the rows held out for the final figures, where the data name no test split."""
    val_fraction: float = 0.15
    """Share of the remaining rows that chooses the best epoch, where the data name no val split."""
    epochs: int = 10
    """Passes over the training rows."""
    batch_size: int | Literal["auto"] = 32
    """Rows that pass at once; auto finds out, before training, how many fit into the GPU's memory."""
    accumulate: int = 1
    """Batches whose gradients add up to one step."""
    optimiser: Annotated[str, arg(aliases=["--optimizer"])] = "adamw"
    """adamw, adam or sgd, with options as in sgd(momentum=0.8) and adamw(beta2=0.99), or one of timm's, such as lion,
    lamb, muon; with those say --lr and --backbone-lr too, because the defaults are AdamW's (ten times them for sgd)."""
    lr: float | None = None
    """Learning rate of the head; by default 1e-2 for linear (less for more than 1280 features), 3e-3 for cosine and
    where a target is a number, 1e-3 for other heads and where part of the backbone trains."""
    backbone_lr: float | None = None
    """Learning rate of the backbone's trainable part; by default 1e-4."""
    layer_decay: float = 1.0
    """Each block of the backbone has the rate of the block behind it times this; the last one has --backbone-lr."""
    schedule: str = "cosine"
    """Learning rate over the steps, after --warmup: cosine or linear, down to nothing or as in cosine(floor=0.1),
    constant, one-cycle, or plateau(patience=2, factor=0.1), which falls when --metric does not improve."""
    weight_decay: float = 0.05
    """Weight decay of the backbone's trainable part, not on biases and norms; decoupled in adamw."""
    clip_norm: float | None = None
    """Scale the gradient down to this norm where it is larger."""
    ema: float | None = None
    """Validate and keep an exponential moving average of the weights with this decay, such as 0.999."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    mixup: float = 0.0
    """Blend images of a batch with one another, shares drawn from Beta(A, A); 0.2 is usual. Nothing is computed once
    then: each step sees other images."""
    cutmix: float = 0.0
    """Paste a box of another image of the batch into each, its size drawn from Beta(A, A); 1.0 is usual. With --mixup
    too, each batch gets one of them."""
    task_weight: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TARGET=NUMBER")] = ()
    """How much a target counts in the loss, beside 1 for the others; repeat for several."""
    task_weights: Literal["fixed", "learned"] = "fixed"
    """learned finds out how much each target counts, from how uncertain the network is of it (Kendall et al. 2018)."""
    patience: int | None = None
    """Stop when --metric has not improved for so many epochs."""
    head_l2: float | None = None
    """L2 penalty on the head's weights; by default, for linear, features / (4 x training rows), as strong as a Gaussian
    prior under which logits of standardised features have a standard deviation of 2; 10 / training rows for others.
    Weights of numbers are held four times as strongly."""
    fitter: Literal["adamw", "lbfgs", "ridge"] = "adamw"
    """How heads are fitted on a frozen backbone's features: adamw by epochs, lbfgs to the minimum of the same loss, or
    ridge in closed form (linear heads), which chooses its own --head-l2 on validation rows."""
    sweep: bool = False
    """Train a grid of learning rates and L2 penalties of the head at once, and keep the best by --metric."""
    sweep_lr: Annotated[UseAppendAction[tuple[float, ...]], arg(metavar="LR")] = ()
    """Learning rate in the grid of --sweep; repeat for several; by default 0.1, 0.3, 1 and 3 times --lr."""
    sweep_l2: Annotated[UseAppendAction[tuple[float, ...]], arg(metavar="L2")] = ()
    """L2 penalty in the grid of --sweep; repeat for several; by default 0.01, 0.1, 1 and 10 times --head-l2."""
    warmup: float = 0.1
    """Share of all steps in which the learning rate rises."""
    metric: str = "log_loss"
    """Chooses the best epoch on validation rows: log_loss (of numbers, which have none, it means nmse),
    balanced_accuracy, macro_f1, g_mean, mcc, pr_auc, …; of one class: recall(NAME), precision(NAME), f1(NAME),
    roc_auc(NAME), pr_auc(NAME); quadratic_kappa, rank_mae of ranks; map, subset_accuracy, ap(NAME) of labels; rmse,
    mae, r2, spearman of numbers. With several targets the mean over all that have it, or, as in TARGET:macro_f1, of
    one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the frozen part, and of the autocast of what trains; auto takes bf16 where it is faster here, and its features
    serve as well. With fp16 the loss is scaled, for GPUs that are slow in bf16."""
    compile: bool = False
    """Let torch.compile translate what trains, anew for each interval of a freeze schedule: minutes that pay in long
    runs."""
    recompute: bool = False
    """Keep no activations inside the blocks that train and compute them again in the backward pass: a third more time,
    for batches that would not fit into memory."""
    augment: str = "none"
    """Random changes to the training images: none; light, which flips, crops, turns, brightens and adds noise, as in
    light(flip=false, crop=0.5, rotate=15, vertical=true); randaugment(n=2, m=9), autoaugment(policy=imagenet),
    trivialaugment; erase(p=0.5, value=mean), which erases boxes, and noise(std=0.1, lost=0.1), which also loses single
    pixels, so that a model learns to do with less; joined with +, they act in that order."""
    views: int | None = None
    """Augmented views of each training image that are computed once and kept, of which each epoch shows another; by
    default 4 where the backbone has a frozen part, else every epoch draws anew."""
    cache: bool = True
    """Keep what the frozen part of the backbone gives; without it every epoch computes it again."""
    explain: bool = False
    """Print what this would cost each way, and why one is taken; nothing is trained."""
    find_lr: bool = False
    """Test learning rates and train nothing: the rates rise from step to step until the loss explodes. Writes lr.png
    and lr.json to --out and prints rates to use."""
    find_lr_range: tuple[float, float] = (1e-7, 10.0)
    """The first and the last rate of the head that --find-lr tries; the backbone's go with it, in the ratio of
    --backbone-lr to --lr."""
    find_lr_steps: int = 100
    """Steps of --find-lr."""
    deterministic: bool = False
    """Measure nothing, decide by rule, and let torch use deterministic algorithms alone."""
    bad_files: Literal["stop", "drop"] = "stop"
    """What to do about files that cannot be read: stop with their list, or drop them within the caps."""
    max_bad: float = 0.01
    """Largest share of all rows that --bad-files drop may drop."""
    max_bad_class: float = 0.05
    """Largest share of one class that --bad-files drop may drop."""
    random_frozen: bool = False
    """Allow frozen layers with random weights."""
    seed: int = 0
    """Of the split, the order of the rows and every other random draw."""
    device: str | None = None
    """cpu, cuda or cuda:1; by default the GPU where there is one."""
    devices: int | None = None
    """Processes that train together on this machine, each with a GPU of its own, or with its share of the cores; they
    share each batch of --batch-size rows. On several machines, start `zoo train` by torchrun instead."""
    shard: Literal["fsdp"] | None = None
    """fsdp divides what trains among the processes of --devices or torchrun: its weights, gradients and optimiser's
    memory, each block gathered while it computes. For backbones that fit one GPU, and their training does not."""
    workers: int | None = None
    """Threads that decode images; by default one a core."""
    save_every: float = 60.0
    """Seconds of training, more or less, after which the state is saved that --resume goes on from."""
    overwrite: bool = False
    """Replace a run that is in the way."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True, kw_only=True)
class ResumeConfig:
    """Go on with a run that was interrupted, with the options that it was begun with."""

    resume: Path
    """The run folder."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as JSON."""
